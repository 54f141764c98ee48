package shm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The tests need other users. They start this binary again under another uid,
// with one of these tasks.
const (
	taskEnv = "PICKET_SHM_TEST_TASK"
	// taskCreate creates a segment ("create MODE"), prints its id, removes it
	// when standard input closes.
	taskCreate = "create"
	// taskCopy copies one byte ("copy ID UID", UID being the peer's) and prints
	// the outcome.
	taskCopy = "copy"
	// taskDial connects to a socket ("dial PATH") and waits for it to close.
	taskDial = "dial"
)

// stranger is the uid the tests borrow; no account needs to exist for it.
const stranger = 54321

func TestMain(m *testing.M) {
	if task := os.Getenv(taskEnv); task != "" {
		if err := runTask(strings.Fields(task)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runTask(task []string) error {
	switch task[0] {
	case taskCreate:
		mode, err := strconv.ParseUint(task[1], 8, 32)
		if err != nil {
			return err
		}
		id, err := unix.SysvShmGet(unix.IPC_PRIVATE, 64, unix.IPC_CREAT|int(mode))
		if err != nil {
			return err
		}
		fmt.Println(id)
		_, err = io.Copy(io.Discard, os.Stdin)
		_, rmErr := unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		return errors.Join(err, rmErr)
	case taskCopy:
		id, err := strconv.ParseUint(task[1], 10, 64)
		if err != nil {
			return err
		}
		uid, err := strconv.ParseUint(task[2], 10, 32)
		if err != nil {
			return err
		}
		err = Copy(make([]byte, 1), Handle{ID: id}, Peer{UID: uint32(uid)})
		switch {
		case err == nil:
			fmt.Println("copied")
		case errors.Is(err, ErrPermission):
			fmt.Println("permission")
		default:
			fmt.Println(err)
		}
		return nil
	case taskDial:
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: task[1]}); err != nil {
			return err
		}
		_, err = unix.Read(fd, make([]byte, 1))
		return err
	}
	return fmt.Errorf("unknown task %q", task)
}

// asStranger starts a task under another uid and returns the first line it
// prints (none for taskDial). The task ends, and is checked, with the test.
func asStranger(t *testing.T, task ...string) string {
	t.Helper()
	return asStrangerOf(t, nil, task...)
}

// asStrangerOf is asStranger with supplementary groups.
func asStrangerOf(t *testing.T, groups []uint32, task ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a process under another uid is part of the question")
	}
	// Through /proc because the test binary lies in a directory that only its
	// owner may search.
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), taskEnv+"="+strings.Join(task, " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger, Groups: groups}}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting a process as uid %d: %v", stranger, err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("task %q: %v", task, err)
		}
	})
	if task[0] == taskDial {
		return ""
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("reading the answer of task %q: %v", task, err)
	}
	return strings.TrimSpace(line)
}
