package local

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// taskEnv makes this binary connect to the socket that it names, print what happened to the connection, and hold it until standard
// input closes.
const taskEnv = "PICKET_LOCAL_TEST_DIAL"

// Users and groups that the tests borrow; no account needs to have them.
const (
	stranger      = 54323
	otherStranger = 54324
	strangeGroup  = 54325
)

func TestMain(m *testing.M) {
	if path := os.Getenv(taskEnv); path != "" {
		if err := dialTask(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testkit.VerifyNoLeaks(m)
}

// dialTask prints "welcome" where the server says something, and "closed" where it hangs up.
func dialTask(path string) error {
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	switch _, err := c.Read(make([]byte, 1)); {
	case err == nil:
		fmt.Println("welcome")
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		fmt.Println("closed")
	default:
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// visitor is a process that has connected. leave ends it and waits for its end.
type visitor struct {
	said  string
	leave func()
}

// visit connects to path as another user.
func visit(t *testing.T, path string, as syscall.Credential) visitor {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: processes of other users are the question")
	}
	// Through /proc because the test binary lies in a folder that only its owner can enter.
	child := exec.Command("/proc/self/exe")
	child.Dir = "/"
	child.Env = []string{taskEnv + "=" + path}
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &as}
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatalf("starting a child as another user: %v", err)
	}
	v := visitor{leave: func() {
		in.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the child failed: %v", err)
		}
	}}
	if _, err := fmt.Fscanln(out, &v.said); err != nil {
		t.Fatalf("a child said nothing: %v", err)
	}
	return v
}

// openDir is a folder that every user can enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "picket-local-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
