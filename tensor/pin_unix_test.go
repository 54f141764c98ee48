//go:build unix

package tensor_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

// TestPinBeyondTheLimit lowers the limit of this very process: root may always
// lock memory, so the check is only for the sentence where the kernel refuses.
func TestPinBeyondTheLimit(t *testing.T) {
	var old syscall.Rlimit
	const memlock = 8 // RLIMIT_MEMLOCK, which package syscall does not name
	if err := syscall.Getrlimit(memlock, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 4096
	if err := syscall.Setrlimit(memlock, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(memlock, &old); err != nil {
			t.Error(err)
		}
	}()
	b, err := tensor.Alloc(1 << 21)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Release()
	if err := b.Pin(); err != nil {
		if !errors.Is(err, syscall.ENOMEM) && !errors.Is(err, syscall.EPERM) {
			t.Errorf("an unexpected kind of refusal: %v", err)
		}
		if !strings.Contains(err.Error(), "4 KiB in all; raise RLIMIT_MEMLOCK") || b.Pinned() {
			t.Errorf("pinned %v, %v", b.Pinned(), err)
		}
	} else if syscall.Geteuid() != 0 {
		t.Error("2 MiB were locked under a limit of 4 KiB")
	}
}
