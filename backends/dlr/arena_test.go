//go:build cgo && linux && amd64

package dlr_test

import (
	"bytes"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestAlignedAllocator(t *testing.T) {
	const dir, arena = "tvm/mlp_b1-v3", 1 << 20
	if os.Getenv(childVariable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAlignedAllocator$", "-test.v")
		cmd.Env = append(os.Environ(), childVariable+"=1")
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	b := dlr.New(dlr.Options{LibraryPath: testkit.LibDLR(t), AlignedAllocator: true, PinnedBytes: arena})
	m := backendtest.Open(t, b, testkit.Path(t, dir))
	if pinned := tensor.MemoryUsage().Pinned; pinned < arena {
		t.Errorf("%d bytes are pinned, want %d", pinned, arena)
	}
	if used := dlr.ArenaUsed(); used == 0 {
		t.Error("libdlr has taken nothing from the arena")
	}
	want := testkit.ReadF32(t, dir+"/expected.f32")
	r := backendtest.NewRunner(t, m)
	defer r.Close()
	got := r.Run(testkit.ReadF32(t, dir+"/input.f32"))
	if !slices.EqualFunc(got, want, func(a, b float32) bool { return max(a-b, b-a) < 1e-6 }) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// An arena that cannot be had is told by every Backend that asked for one, not by the first alone, and without saying that
// libdlr keeps its own allocator, for it has the aligned one.
func TestArenaThatCannotBe(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestArenaThatCannotBe$", "-test.v")
		cmd.Env = append(os.Environ(), childVariable+"=1")
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	for i := range 2 {
		var log bytes.Buffer
		b := dlr.New(dlr.Options{LibraryPath: testkit.LibDLR(t), AlignedAllocator: true, PinnedBytes: 1 << 50, Log: slog.New(slog.NewTextHandler(&log, nil))})
		backendtest.Open(t, b, testkit.Path(t, "tvm/mlp_b1-v3"))
		if text := log.String(); !strings.Contains(text, "making a pinned arena for libdlr") || strings.Contains(text, "its own allocator") {
			t.Errorf("backend %d logs: %s", i, text)
		}
	}
}
