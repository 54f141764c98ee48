//go:build cgo && linux && amd64

package dlr_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
	"github.com/picket-ml/picket/tensor"
)

// newBackend is a backend over the real libdlr 1.6.0.
func newBackend(t testing.TB) *dlr.Backend {
	t.Helper()
	b := dlr.New(dlr.Options{LibraryPath: testkit.LibDLR(t)})
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the backend: %v", err)
		}
	})
	return b
}

func signature(in, out string, inDims, outDims []int64) engine.Signature {
	return engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: in, DType: tensor.FP32, Dims: inDims}},
		Outputs: []engine.TensorSpec{{Name: out, DType: tensor.FP32, Dims: outDims}},
	}
}

// TestMemoryThatIsNot: a graph that asks for more than there is is refused, and not by the end of the process.
func TestMemoryThatIsNot(t *testing.T) {
	b := newBackend(t)
	for _, shape := range []string{"[1, 1099511627776]", "[1099511627776, 1]"} {
		dir := testkit.CopyDir(t, testkit.Path(t, "tvm/mlp_b1-v3"))
		path := filepath.Join(dir, "compiled_model.json")
		graph, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(string(graph), "[1, 64]", shape, 1)
		if changed == string(graph) {
			t.Fatal("BUG: the graph has no such tensor")
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if !errors.Is(err, engine.ErrMemory) || m != nil {
			t.Errorf("%s: %v, want %v", shape, err, engine.ErrMemory)
		}
	}
}

// TestArtifacts runs the suite on trees and graphs.
func TestArtifacts(t *testing.T) {
	trees := func(dir, prediction, symbol string, rows, features, outputs int, tolerance float64) backendtest.Case {
		return backendtest.Case{
			Backend: newBackend(t), Dir: testkit.Path(t, dir), Library: "compiled.so", Symbol: symbol,
			Signature: signature("data", "output", []int64{-1, int64(features)}, []int64{-1, int64(outputs)}),
			Input:     testkit.RowsNoZeros(rows, features), Expected: testkit.ReadF32(t, prediction), Tolerance: tolerance,
			NaNIsMissing: true, ZeroIsMissing: true, Cycles: 50,
		}
	}
	graph := func(dir string) backendtest.Case {
		return backendtest.Case{
			Backend: newBackend(t), Dir: testkit.Path(t, dir), Library: "compiled.so",
			Signature: signature("input", "output", []int64{1, 30}, []int64{1, 1}),
			Input:     testkit.ReadF32(t, dir+"/input.f32"), Expected: testkit.ReadF32(t, dir+"/expected.f32"), Tolerance: 1e-6, Cycles: 50,
		}
	}
	for name, c := range map[string]backendtest.Case{
		"fraud":          trees("treelite/fraud-tl0.93", "models/xgboost/fraud-1.7.6.prediction.f32", "get_num_output_group", 10000, 30, 1, 2e-7),
		"multi-softmax":  trees("treelite/multi-softmax-tl0.93", "models/xgboost/multi-softmax-1.7.6.prediction.f32", "get_num_output_group", 250, 12, 1, 0),
		"multi-softprob": trees("treelite/multi-softprob-tl0.93", "models/xgboost/multi-softprob-1.7.6.prediction.f32", "get_num_output_group", 250, 12, 4, 2e-7),
		"regression":     trees("treelite/regression-tl0.93", "models/xgboost/reg-squarederror-1.7.6.margin.f32", "get_num_output_group", 500, 12, 1, 1e-6),
		"mlp":            graph("tvm/mlp_b1-v3"),
	} {
		t.Run(name, func(t *testing.T) { backendtest.Run(t, c) })
	}
}

// both answers the rows with the treelite backend and through libdlr.
func both(t *testing.T, dir string, rows []float32) (direct, through []float32) {
	t.Helper()
	for _, b := range []engine.Backend{treelite.New(), newBackend(t)} {
		r := backendtest.NewRunner(t, backendtest.Open(t, b, dir))
		direct, through = through, r.Run(rows)
		r.Close()
	}
	return direct, through
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// TestAgreesWithTreelite is what makes the direct backend a replacement: the same
// bits for the same artifact over 10,000 rows.
func TestAgreesWithTreelite(t *testing.T) {
	const n = 10000
	for dir, features := range map[string]int{
		"treelite/fraud-serial-tl0.93":   30,
		"treelite/fraud-tl0.93":          30,
		"treelite/lightgbm-tl0.93":       30,
		"treelite/multi-softmax-tl0.93":  12,
		"treelite/multi-softprob-tl0.93": 12,
		"treelite/regression-tl0.93":     12,
	} {
		t.Run(dir, func(t *testing.T) {
			direct, through := both(t, testkit.Path(t, dir), testkit.RowsNoZeros(n, features))
			if !slices.EqualFunc(direct, through, sameBits) {
				t.Error("the backends differ on rows without zeros")
			}
		})
	}
	// An artifact of our own compiler loads in libdlr 1.6 and directly, which
	// takes it for one of Treelite 1.0.
	for model, features := range map[string]int{
		"models/xgboost/fraud-1.7.6.ubj":          30,
		"models/xgboost/multi-softprob-1.7.6.ubj": 12,
		"models/lightgbm/binary-3.3.5.txt":        30,
	} {
		t.Run(model, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "artifact")
			if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, model), Out: dir}); err != nil {
				t.Fatal(err)
			}
			direct, through := both(t, dir, testkit.RowsNoZeros(n, features))
			if !slices.EqualFunc(direct, through, sameBits) {
				t.Error("the backends differ on rows without zeros")
			}
		})
	}
}

// TestZeros pins what the package comment says of exact zeros.
func TestZeros(t *testing.T) {
	const n, features = 10000, 30
	rows := testkit.Rows(n, features)
	// Without metadata, zeros are values to the treelite backend and missing to
	// libdlr 1.6.
	direct, through := both(t, testkit.Path(t, "treelite/fraud-serial-tl0.93"), rows)
	differ := 0
	for i := range direct {
		if sameBits(direct[i], through[i]) {
			continue
		}
		differ++
		if !slices.Contains(rows[i*features:(i+1)*features], 0) {
			t.Fatalf("row %d has no zero, and the backends differ: %v and %v", i, direct[i], through[i])
		}
	}
	if differ == 0 {
		t.Error("no row with zeros tells libdlr 1.6 from the treelite backend; the documentation says it does")
	}
	t.Logf("%d of %d rows differ, all of them with zeros", differ, n)

	// Told that zeros are missing, the treelite backend agrees on all rows.
	direct, through = both(t, testkit.Path(t, "treelite/fraud-tl0.93"), rows)
	if !slices.EqualFunc(direct, through, sameBits) {
		t.Error("the backends differ although compiled.meta says that zeros are missing")
	}
}

func TestUsesBundledLibrary(t *testing.T) {
	dir := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
	copyFile(t, testkit.LibDLR(t), filepath.Join(dir, "libdlr.so"))
	b := dlr.New(dlr.Options{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := b.Probe(backendtest.Options().Host); err != nil {
		t.Fatalf("Probe wants a library although an artifact may bring one: %v", err)
	}
	rows := testkit.RowsNoZeros(100, 30)
	reference := backendtest.NewRunner(t, backendtest.Open(t, newBackend(t), dir))
	want := reference.Run(rows)
	reference.Close()
	r := backendtest.NewRunner(t, backendtest.Open(t, b, dir))
	got := r.Run(rows)
	r.Close()
	if !slices.Equal(got, want) {
		t.Error("the library that came with the artifact answers differently")
	}
}

// TestAgreesWithTVM: libdlr and the direct backend call the same functions, and give
// the same bits, whatever the types of the tensors and however many there are.
func TestAgreesWithTVM(t *testing.T) {
	for _, name := range []string{"mlp_b1-v3", "cnn-v3", "mixed-v3"} {
		dir := testkit.Path(t, "tvm/"+name)
		var signatures []engine.Signature
		var answers [][]byte
		for _, b := range []engine.Backend{tvm.New(), newBackend(t)} {
			m := backendtest.Open(t, b, dir)
			s := m.Signature()
			i, err := m.NewInstance()
			if err != nil {
				t.Fatal(err)
			}
			in, out := made(t, s.Inputs), made(t, s.Outputs)
			for _, file := range in {
				// A network's only input is named input, others as their files.
				fill(t, file, dir)
			}
			if err := i.Run(in, out, 1); err != nil {
				t.Fatal(err)
			}
			var all []byte
			for _, o := range out {
				all = append(all, o.Bytes()...)
			}
			signatures, answers = append(signatures, s), append(answers, all)
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		}
		if !signatures[0].Equal(signatures[1]) {
			t.Errorf("%s: tvm takes and gives %v, dlr %v", name, signatures[0], signatures[1])
		}
		if !slices.Equal(answers[0], answers[1]) {
			t.Errorf("%s: the answers differ", name)
		}
	}
}

// TestThreadKeepsItsProcessors: TVM binds the thread that runs a graph to the first processor, if nobody forbids it.
func TestThreadKeepsItsProcessors(t *testing.T) {
	m := backendtest.Open(t, newBackend(t), testkit.Path(t, "tvm/mlp_b1-v3"))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	s := m.Signature()
	in, out := made(t, s.Inputs), made(t, s.Outputs)
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: what became of the thread ends with it
		var before, after unix.CPUSet
		err := unix.SchedGetaffinity(0, &before)
		if err == nil {
			err = i.Run(in, out, 1)
		}
		if err == nil {
			err = unix.SchedGetaffinity(0, &after)
		}
		if err == nil && before != after {
			err = fmt.Errorf("a thread that could run on %d processors is bound to %d of them", before.Count(), after.Count())
		}
		ended <- err
	}()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

// made makes the tensors of a side of a signature without rows; the test's end
// releases them.
func made(t *testing.T, specs []engine.TensorSpec) []tensor.Tensor {
	t.Helper()
	var all []tensor.Tensor
	for n := range specs {
		one, err := tensor.New(specs[n].Name, specs[n].DType, tensor.MustShape(specs[n].Dims...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(one.Buffer.Release)
		clear(one.Bytes())
		all = append(all, one)
	}
	return all
}

// fill fills a tensor from the file in dir that has its name.
func fill(t *testing.T, into tensor.Tensor, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, into.Name+".*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q has the files %v (%v)", into.Name, files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if copy(into.Bytes(), data) != into.Size() {
		t.Fatalf("%s is too short", files[0])
	}
}
