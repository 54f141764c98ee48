//go:build cgo && linux && amd64

package dlr_test

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// newer compiles the stand-in for a later libdlr to path.
func newer(t *testing.T, path, version string, outputs string) {
	t.Helper()
	output, err := exec.Command("cc", "-O2", "-shared", "-fPIC", "-w", `-DVERSION="`+version+`"`, "-DOUTPUTS="+outputs,
		"-o", path, filepath.Join("testdata", "newer.c")).CombinedOutput()
	if err != nil {
		t.Fatalf("compiling the stand-in: %v\n%s", err, output)
	}
}

// newerBackend is a backend over the stand-in.
func newerBackend(t *testing.T, version, outputs string) *dlr.Backend {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libdlr.so")
	newer(t, path, version, outputs)
	b := dlr.New(dlr.Options{LibraryPath: path})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// TestZeroCopy: a library that takes inputs in place gets them so, from an
// aligned copy where the request's own memory is not aligned.
func TestZeroCopy(t *testing.T) {
	b := newerBackend(t, "1.10.0", "1")
	input := testkit.RowsNoMissing(20, 30)
	var expected []float32
	for at := 0; at < len(input); at += 30 {
		sum := float32(0)
		for _, v := range input[at : at+30] {
			sum += v
		}
		expected = append(expected, sum)
	}
	backendtest.Run(t, backendtest.Case{
		Backend: b, Dir: testkit.Path(t, "tvm/mlp_b1-v3"), Library: "compiled.so",
		Signature: signature("input", "output", []int64{1, 30}, []int64{1, 1}),
		Input:     input, Expected: expected, Cycles: 20,
	})
}

func TestRefusesOutputOfAnotherSize(t *testing.T) {
	m := backendtest.Open(t, newerBackend(t, "1.10.0", "2"), testkit.Path(t, "tvm/mlp_b1-v3"))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}()
	in, err := tensor.New("input", tensor.FP32, tensor.MustShape(1, 30))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Buffer.Release()
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Buffer.Release()
	if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 1); !errors.Is(err, engine.ErrRun) || !strings.Contains(err.Error(), "gave 2 values") {
		t.Errorf("an output larger than its tensor: %v", err)
	}
}

func TestNewerLibraryWantsNewerTrees(t *testing.T) {
	m, err := newerBackend(t, "1.7.0", "1").Open(t.Context(), backendtest.Artifact(t, testkit.Path(t, "treelite/fraud-tl0.93")), backendtest.Options())
	if err == nil {
		t.Fatal("the artifact was opened, and closed with", m.Close())
	}
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "made by Treelite before 1.0, which libdlr 1.7.0 cannot load") {
		t.Error(err)
	}
}

func TestRefusesTwoVersions(t *testing.T) {
	b := dlr.New(dlr.Options{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	open := func(version string) error {
		dir := testkit.CopyDir(t, testkit.Path(t, "tvm/mlp_b1-v3"))
		newer(t, filepath.Join(dir, "libdlr.so"), version, "1")
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err != nil {
			return err
		}
		return m.Close()
	}
	for range 2 {
		if err := open("1.8.0"); err != nil {
			t.Fatal(err)
		}
	}
	err := open("1.9.0")
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "1.9.0") || !strings.Contains(err.Error(), "1.8.0") {
		t.Errorf("a second version of libdlr: %v", err)
	}
	if err := open("1.8.0"); err != nil {
		t.Errorf("the first version, after a second was refused: %v", err)
	}
}
