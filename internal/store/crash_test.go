package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// unpackIn in the environment makes the test binary unpack the package named beside it, again and again.
const (
	unpackIn = "PICKET_TEST_UNPACK_IN"
	unpackOf = "PICKET_TEST_UNPACK_OF"
)

func TestMain(m *testing.M) {
	if state := os.Getenv(unpackIn); state != "" {
		unpackForEver(state, os.Getenv(unpackOf))
	}
	if dir := os.Getenv(acceptIn); dir != "" {
		if err := acceptSome(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// unpackForEver opens a package into a store that has forgotten it each time.
func unpackForEver(state, path string) {
	s, err := New(Options{State: state, Unsigned: true})
	fmt.Println("it begins")
	for err == nil {
		var dirs []string
		if dirs, err = filepath.Glob(filepath.Join(state, unpackedFolder, strings.Repeat("?", 64))); err != nil {
			break
		}
		for _, dir := range dirs {
			if err := s.unpacked.remove(filepath.Base(dir)); err != nil {
				os.Exit(1)
			}
		}
		a, openErr := s.Open(context.Background(), path)
		if err = openErr; err == nil {
			err = a.Close()
		}
	}
	fmt.Fprint(os.Stderr, err)
	os.Exit(1)
}

// TestKilledWhileUnpacking: whenever the process that unpacks is killed, the next one opens the package as it should be, and
// nothing is left of the other's work.
func TestKilledWhileUnpacking(t *testing.T) {
	b := newBank(t)
	b.trust, b.unsigned = TrustOptions{}, true
	content := strings.Repeat("code that takes a while to write ", 50_000)
	path := b.build(t, "fraud", "1", content)
	state := filepath.Join(b.dir, "state")
	halfDone := 0
	for range 30 {
		worker := exec.CommandContext(t.Context(), os.Args[0])
		worker.Env = append(os.Environ(), unpackIn+"="+state, unpackOf+"="+path)
		var said strings.Builder
		worker.Stderr = &said
		begins, err := worker.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := begins.Read(make([]byte, 1)); err != nil { // it was started, which takes long on some machines
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		if err := worker.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := worker.Wait(); err == nil || said.Len() > 0 {
			t.Fatalf("the worker ended by itself: %v, %s", err, &said)
		}
		left, err := filepath.Glob(filepath.Join(state, unpackedFolder, halfDonePrefix+"*"))
		if err != nil {
			t.Fatal(err)
		}
		halfDone += len(left)
		a, err := b.store(t).Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if data, err := a.ReadFile("compiled.so", 1<<30); err != nil || string(data) != content {
			t.Errorf("it holds %d bytes, want %d: %v", len(data), len(content), err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		entries, err := os.ReadDir(filepath.Join(state, unpackedFolder))
		if err != nil || len(entries) != 1 {
			t.Errorf("the store holds %v, %v", entries, err)
		}
	}
	if halfDone == 0 {
		t.Error("no process was killed in the middle of its work")
	}
	t.Logf("%d of 30 left something half done", halfDone)
}

// TestUnpackingFails: what cannot be unpacked is refused in a sentence and leaves nothing behind.
func TestUnpackingFails(t *testing.T) {
	b := newBank(t)
	path := b.sign(t, b.build(t, "fraud", "1", "code"), b.key)
	s := b.store(t)
	full := errors.New("no space left")
	if _, err := s.unpacked.put(strings.Repeat("0", 64), func(root *os.Root) error {
		return errors.Join(root.WriteFile("half", nil, 0o600), full)
	}); !errors.Is(err, full) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(filepath.Join(b.dir, "state", unpackedFolder)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	b.loads(t, "after it", path)
}
