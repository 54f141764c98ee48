//go:build cgo && linux && amd64

package tvm_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// TestArtifacts runs the suite on what TVM has made.
func TestArtifacts(t *testing.T) {
	for name, tc := range map[string]struct {
		symbol  string
		in, out []int64
		cycles  int
	}{
		"mlp_b1-v3":  {"tvmgen_default_fused_nn_contrib_dense_pack_add_sigmoid", []int64{1, 30}, []int64{1, 1}, 0},
		"mlp_b16-v3": {"tvmgen_default_fused_nn_contrib_dense_pack_add", []int64{-1, 12}, []int64{-1, 3}, 50},
		"cnn-v3":     {"tvmgen_default_fused_nn_softmax", []int64{1, 3, 32, 32}, []int64{1, 10}, 50},
	} {
		dir := "tvm/" + name
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, backendtest.Case{
				Backend: tvm.New(), Dir: testkit.Path(t, dir), Library: "compiled.so", Symbol: tc.symbol, Signature: signature(tc.in, tc.out),
				Input: testkit.ReadF32(t, dir+"/input.f32"), Expected: testkit.ReadF32(t, dir+"/expected.f32"), Tolerance: 2e-6, Cycles: tc.cycles,
			})
		})
	}
}

// TestThreadsAgree: a network gives the same bits whatever the number of threads.
func TestThreadsAgree(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), testkit.Path(t, "tvm/cnn-v3"))
	in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	copy(values[float32](t, in[0]), testkit.ReadF32(t, "tvm/cnn-v3/input.f32"))
	var want []byte
	for _, n := range threads {
		run, done, err := tvm.Threaded(m, n.threads)
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if err := run(in, out, n.tasks); err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = bytes.Clone(out[0].Bytes())
			}
			if !bytes.Equal(out[0].Bytes(), want) {
				t.Fatalf("with %+v the answer is another", n)
			}
		}
		if err := done(); err != nil {
			t.Error(err)
		}
	}
}

// half is a float16 as a float64.
func half(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	value := math.Ldexp(1+fraction/1024, exponent-15)
	if exponent == 0 {
		value = math.Ldexp(fraction/1024, -14)
	}
	if bits>>15 == 1 {
		value = -value
	}
	return value
}

// TestTypes: tensors of other types than float32, told apart by their names, and two
// outputs in the same memory.
func TestTypes(t *testing.T) {
	const dir = "tvm/mixed-v3/"
	m := backendtest.Open(t, tvm.New(), testkit.Path(t, dir))
	want := engine.Signature{
		Inputs: []engine.TensorSpec{{Name: "scale", DType: tensor.FP16, Dims: []int64{1, 8}}, {Name: "ids", DType: tensor.Int32, Dims: []int64{1, 4}}, {Name: "image", DType: tensor.Uint8, Dims: []int64{1, 3, 16, 16}}},
		Outputs: []engine.TensorSpec{{Name: "scores", DType: tensor.FP32, Dims: []int64{1, 8}}, {Name: "best", DType: tensor.Int64, Dims: []int64{1}}, {Name: "rows", DType: tensor.Int8, Dims: []int64{1, 4, 6}},
			{Name: "half", DType: tensor.FP16, Dims: []int64{1, 8}}, {Name: "flat", DType: tensor.FP32, Dims: []int64{8}}},
	}
	if !m.Signature().Equal(want) {
		t.Fatalf("the signature is %v, want %v", m.Signature(), want)
	}
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, out := tensors(t, want.Inputs, 1), tensors(t, want.Outputs, 1)
	for n, name := range []string{"scale.f16", "ids.i32", "image.u8"} {
		data, err := os.ReadFile(testkit.Path(t, dir+name))
		if err != nil || len(data) != in[n].Size() {
			t.Fatalf("%s has %d bytes (%v), the input %d", name, len(data), err, in[n].Size())
		}
		copy(in[n].Bytes(), data)
	}
	if err := i.Run(in, out, 1); err != nil {
		t.Fatal(err)
	}
	scores := testkit.ReadF32(t, dir+"scores.f32")
	for n, want := range scores {
		for what, got := range map[string]float64{"scores": float64(values[float32](t, out[0])[n]), "flat": float64(values[float32](t, out[4])[n])} {
			if math.Abs(got-float64(want)) > 2e-6 {
				t.Errorf("%s %d is %v, want %v", what, n, got, want)
			}
		}
		if got := half(values[uint16](t, out[3])[n]); math.Abs(got-float64(want)) > 1e-3 {
			t.Errorf("half %d is %v, want %v", n, got, want)
		}
	}
	for n, name := range map[int]string{1: "best.i64", 2: "rows.i8"} {
		data, err := os.ReadFile(testkit.Path(t, dir+name))
		if err != nil || !bytes.Equal(data, out[n].Bytes()) {
			t.Errorf("%s: got %v, want %v (%v)", name, out[n].Bytes(), data, err)
		}
	}
}

// TestRowsAreFilledUp: the rows of a batch do not depend on how many there are, nor
// on what was there before.
func TestRowsAreFilledUp(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), testkit.Path(t, "tvm/mlp_b16-v3"))
	if n := m.Properties().BatchRows; n != 16 {
		t.Errorf("the model says that %d rows are run at once, want 16", n)
	}
	r := backendtest.NewRunner(t, m)
	defer r.Close()
	rows := testkit.ReadF32(t, "tvm/mlp_b16-v3/input.f32")
	all := r.Run(rows)
	for _, n := range []int{1, 15, 16, 17, 31, 32, 33, 79} {
		if got := r.Run(rows[:n*12]); !slices.Equal(got, all[:n*3]) {
			t.Errorf("%d rows have other answers than among 80", n)
		}
	}
}

// TestWithoutMetadata: names are the graph's then, and there are no rows.
func TestWithoutMetadata(t *testing.T) {
	for name, want := range map[string]string{"mlp_b16-v3": "input FP32 [16, 12] output_0 FP32 [16, 3]", "cnn-v3": "input FP32 [1, 3, 32, 32] output_0 FP32 [1, 10]"} {
		dir := testkit.CopyDir(t, testkit.Path(t, "tvm/"+name))
		if err := os.Remove(filepath.Join(dir, "compiled.meta")); err != nil {
			t.Fatal(err)
		}
		s := backendtest.Open(t, tvm.New(), dir).Signature()
		if got := s.Inputs[0].String() + " " + s.Outputs[0].String(); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

// TestRefusesAnotherProcessor: nothing in a library says what its code needs. This one needs AVX-512.
func TestRefusesAnotherProcessor(t *testing.T) {
	dir := testkit.Path(t, "tvm/mlp_b1-v4")
	if backendtest.Options().Host.CPU.Level.Runs(hw.X86V4) {
		r := backendtest.NewRunner(t, backendtest.Open(t, tvm.New(), dir))
		defer r.Close()
		got := r.Run(testkit.ReadF32(t, "tvm/mlp_b1-v4/input.f32"))
		for n, want := range testkit.ReadF32(t, "tvm/mlp_b1-v4/expected.f32") {
			if math.Abs(float64(got[n]-want)) > 2e-6 {
				t.Errorf("answer %d is %v, want %v", n, got[n], want)
			}
		}
		return
	}
	refused(t, dir, backendtest.Options(), engine.ErrHost, `compiled.so was compiled for another processor than this one, which is x86-64-v`)
}

// TestRefusesAnotherMachine: this library is for arm64.
func TestRefusesAnotherMachine(t *testing.T) {
	refused(t, testkit.Path(t, "tvm/mlp_b1-a64"), backendtest.Options(), engine.ErrHost, "compiled.so")
}

// TestRefusesGraphsOfOtherLibraries: each graph is sound, and not what the library was compiled with.
func TestRefusesGraphsOfOtherLibraries(t *testing.T) {
	for name, tc := range map[string]struct {
		fixture, file, old, now string
		says                    string
	}{
		"fewer columns":             {"mlp_b1-v3", "compiled_model.json", "[1, 64], \n        [2, 64, 16]", "[1, 32], \n        [2, 64, 16]", `node "tvmgen_default_fused_nn_contrib_dense_pack_add_nn_relu" failed: Assert fail`},
		"fewer rows":                {"mlp_b16-v3", "compiled_model.json", "[16, 24]", "[8, 24]", "ended a trial run with SIGSEGV"},
		"another rank":              {"mlp_b1-v3", "compiled_model.json", "[1, 64], \n        [2, 64, 16]", "[64], \n        [2, 64, 16]", "ndim is expected to equal 2"},
		"another type":              {"mlp_b1-v3", "compiled_model.json", "\"list_str\", \n      [\n        \"float32\", \n        \"float32\", \n        \"float32\", \n        \"float32\"", "\"list_str\", \n      [\n        \"float32\", \n        \"float32\", \n        \"float32\", \n        \"int32\"", "dtype is expected to be float32"},
		"another parameter":         {"mlp_b1-v3", "compiled_model.json", "[4, 30, 16]", "[4, 16, 30]", `compiled.params has parameter "p0" as float32 [4, 30, 16], and compiled_model.json as float32 [4, 16, 30]`},
		"a parameter that is input": {"mlp_b1-v3", "compiled_model.json", `"name": "p3"`, `"name": "q3"`, "compiled.meta lists 1 inputs; compiled_model.json takes 2 that compiled.params has no parameter for"},
		"another function":          {"mlp_b1-v3", "compiled_model.json", `"func_name": "tvmgen_default_fused_nn_contrib_dense_pack_add_sigmoid"`, `"func_name": "tvmgen_default_tanh"`, "compiled.so exports no tvmgen_default_tanh, which node"},
		"another input":             {"mlp_b1-v3", "compiled.meta", `"input"`, `"data"`, `compiled.meta lists input "data", which compiled_model.json does not take`},
		"another size":              {"mlp_b1-v3", "compiled.meta", "[1, 30]", "[1, 31]", "compiled.meta says that input input FP32 [1, 31]; compiled_model.json has FP32 [1, 30]"},
		"another output":            {"mlp_b1-v3", "compiled.meta", `"name": "output", "dtype": "float32"`, `"name": "output", "dtype": "float64"`, "compiled.meta says that output output FP64 [1, 1]"},
		"rows of the input":         {"mlp_b1-v3", "compiled.meta", "[1, 30]", "[-1, 30]", `has to be so for all of them, and as many in the graph: "output" is not so`},
		"no parameters":             {"mlp_b1-v3", "compiled.params", "\x06", "\x07", "reading compiled.params: "},
		"a graph with a cycle":      {"mlp_b1-v3", "compiled_model.json", "[\n          6, \n", "[\n          9, \n", "the graph has a cycle, or its nodes are out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.CopyDir(t, testkit.Path(t, "tvm/"+tc.fixture))
			edit(t, filepath.Join(dir, tc.file), tc.old, tc.now)
			kind := engine.ErrArtifact
			if name == "rows of the input" {
				kind = engine.ErrUnsupported
			}
			refused(t, dir, backendtest.Options(), kind, tc.says)
		})
	}
}

// TestRunAllocatesNothing holds the hot path to its promise.
func TestRunAllocatesNothing(t *testing.T) {
	for _, name := range []string{"mlp_b1-v3", "mlp_b16-v3", "cnn-v3"} {
		m := backendtest.Open(t, tvm.New(), testkit.Path(t, "tvm/"+name))
		i, err := m.NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
		if n := testing.AllocsPerRun(200, func() {
			if err := i.Run(in, out, 1); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: Run allocates %v times a call", name, n)
		}
	}
}

// TestSmallModelsRunWhereTheyAreAsked: their callers need no other thread.
func TestSmallModelsRunWhereTheyAreAsked(t *testing.T) {
	options := backendtest.Options()
	options.Threads = 8
	m, err := tvm.New().Open(t.Context(), backendtest.Artifact(t, testkit.Path(t, "tvm/mlp_b1-v3")), options)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !m.Properties().Inline {
		t.Errorf("the properties are %+v", m.Properties())
	}
}
