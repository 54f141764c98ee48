//go:build cgo && linux && amd64

package cdlr

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/internal/testkit"
)

// The tests in this file run on the real libdlr 1.6.0, for which it was built: x86-64.

func openReal(t *testing.T) *Library {
	t.Helper()
	return open(t, testkit.LibDLR(t))
}

// predict sends rows through a model in batches and returns its outputs one after the other.
func predict(t *testing.T, m *Model, rows []float32, columns, batch int) []float32 {
	t.Helper()
	input, err := m.InputName(0)
	if err != nil {
		t.Fatal(err)
	}
	var all []float32
	for part := range slices.Chunk(rows, batch*columns) {
		n := int64(len(part) / columns)
		if err := m.SetInput(input, []int64{n, int64(columns)}, unsafe.Pointer(&part[0])); err != nil {
			t.Fatal(err)
		}
		if err := m.Run(); err != nil {
			t.Fatal(err)
		}
		size, _, err := m.OutputSizeDim(0)
		if err != nil || size < n {
			t.Fatalf("output of %d elements for %d rows, %v", size, n, err)
		}
		out := make([]float32, size)
		if err := m.Output(0, unsafe.Pointer(&out[0])); err != nil {
			t.Fatal(err)
		}
		p, err := m.OutputPtr(0)
		if err != nil || !slices.Equal(unsafe.Slice((*float32)(p), size), out) {
			t.Fatalf("OutputPtr and Output differ, %v", err)
		}
		all = append(all, out...)
	}
	return all
}

// expectClose wants got to agree with want up to tolerance, relative for values above 1. It counts differences, and
// fails on an answer of other length.
func expectClose(t *testing.T, got, want []float32, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for i := range got {
		difference := math.Abs(float64(got[i]) - float64(want[i]))
		if !(difference <= tolerance*max(1, math.Abs(float64(want[i])))) {
			t.Fatalf("value %d is %v, want %v", i, got[i], want[i])
		}
	}
}

func TestRealLibrary(t *testing.T) {
	l := openReal(t)
	if v, err := l.Version(); v != "1.6.0" || err != nil {
		t.Errorf("version %q, %v", v, err)
	}
	newer := []string{"CreateDLRModelFromHexagon", "CreateDLRModelFromTensorflow2", "SetDLRInputTensorZeroCopy"}
	for _, f := range functions {
		err := l.Have(f.name)
		var missing *MissingFunctionError
		if slices.Contains(newer, f.name) {
			if !errors.As(err, &missing) {
				t.Errorf("%s: %v, want it missing", f.name, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	if device, err := l.DeviceType(testkit.Path(t, "treelite/fraud-tl0.93")); device != CPU || err != nil {
		t.Errorf("device %d, %v", device, err)
	}
}

// libdlr 1.6 takes an exact 0.0 for missing, so the rows have none; the trainer's answers are for rows that do, with the same
// outcome (see testkit.RowsNoZeros).
func TestRealTreeModels(t *testing.T) {
	l := openReal(t)
	for _, c := range []struct {
		artifact, want string
		columns        int
		outputs        int
		tolerance      float64
	}{
		{"treelite/fraud-tl0.93", "models/xgboost/fraud-1.7.6.prediction.f32", 30, 1, 5e-7},
		{"treelite/fraud-serial-tl0.93", "models/xgboost/fraud-1.7.6.prediction.f32", 30, 1, 5e-7},
		{"treelite/multi-softprob-tl0.93", "models/xgboost/multi-softprob-1.7.6.prediction.f32", 12, 4, 5e-7},
		{"treelite/multi-softmax-tl0.93", "models/xgboost/multi-softmax-1.7.6.prediction.f32", 12, 1, 0},
		{"treelite/regression-tl0.93", "models/xgboost/reg-squarederror-1.7.6.margin.f32", 12, 1, 5e-6},
	} {
		t.Run(filepath.Base(c.artifact), func(t *testing.T) {
			m := create(t, l, testkit.Path(t, c.artifact))
			if backend, err := m.Backend(); backend != "treelite" || err != nil {
				t.Errorf("backend %q, %v", backend, err)
			}
			shape, err := m.AppendInputShape(nil, 0)
			if err != nil || !slices.Equal(shape, []int64{-1, int64(c.columns)}) {
				t.Errorf("input shape %v, %v", shape, err)
			}
			if size, dim, err := m.OutputSizeDim(0); size != -1 || dim != 2 || err != nil {
				t.Errorf("output size before an input: %d, %d, %v", size, dim, err)
			}
			want := testkit.ReadF32(t, c.want)
			rows := testkit.RowsNoZeros(len(want)/c.outputs, c.columns)
			for _, batch := range []int{1, 7, 1024} {
				expectClose(t, predict(t, m, rows, c.columns, batch), want, c.tolerance)
			}
		})
	}
}

// What the package comment says of zeros is true of this version: they are missing values.
func TestRealTreeModelsTakeZeroForMissing(t *testing.T) {
	m := create(t, openReal(t), testkit.Path(t, "treelite/fraud-tl0.93"))
	rows := testkit.Rows(2000, 30)
	asNaN := slices.Clone(rows)
	zeros := 0
	for i, v := range asNaN {
		if v == 0 {
			asNaN[i] = float32(math.NaN())
			zeros++
		}
	}
	if zeros == 0 {
		t.Fatal("the rows have no zeros")
	}
	withZeros := predict(t, m, rows, 30, 100)
	if !slices.Equal(withZeros, predict(t, m, asNaN, 30, 100)) {
		t.Error("zeros and NaN give different answers")
	}
	if slices.Equal(withZeros, predict(t, m, testkit.RowsNoZeros(2000, 30), 30, 100)) {
		t.Error("tiny values in place of zeros change nothing, so the test shows nothing")
	}
}

func TestRealTVMModel(t *testing.T) {
	l := openReal(t)
	folder := testkit.Path(t, "tvm/mlp_b1-v3")
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	// The same model from its folder, and from parts in memory.
	for how, m := range map[string]*Model{
		"folder": create(t, l, folder),
		"parts": own(t)(l.CreateModelFromElems([]Elem{
			{Type: TVMGraph, Data: read("compiled_model.json")},
			{Type: TVMParams, Data: read("compiled.params")},
			{Type: TVMLib, Path: filepath.Join(folder, "compiled.so")},
			{Type: NeoMetadata, Data: read("compiled.meta")},
		}, CPU, 0)),
		"pipeline": own(t)(l.CreatePipeline([]string{folder}, CPU, 0)),
	} {
		t.Run(how, func(t *testing.T) {
			rows, want := testkit.ReadF32(t, "tvm/mlp_b1-v3/input.f32"), testkit.ReadF32(t, "tvm/mlp_b1-v3/expected.f32")
			expectClose(t, predict(t, m, rows, 30, 1), want, 5e-7)

			backend, err := m.Backend()
			if err != nil {
				t.Fatal(err)
			}
			in := Tensor{Data: unsafe.Pointer(&rows[0]), DeviceType: CPU, Code: Float, Bits: 32, Lanes: 1, Shape: []int64{1, 30}}
			if how == "pipeline" {
				if backend != "pipeline" {
					t.Errorf("backend %q", backend)
				}
				expectMessage(t, m.SetInputTensor("input", in), "SetDLRInputTensor", "not a TVMModel or RelayVMModel")
				return
			}
			if backend != "tvm" {
				t.Errorf("backend %q", backend)
			}
			if err := m.SetInputTensor("input", in); err != nil {
				t.Fatal(err)
			}
			back := make([]float32, 30)
			if err := m.Input("input", unsafe.Pointer(&back[0])); err != nil || !slices.Equal(back, rows[:30]) {
				t.Errorf("the input reads back as %v, %v", back, err)
			}
			if err := m.Run(); err != nil {
				t.Fatal(err)
			}
			got := make([]float32, 1)
			out := Tensor{Data: unsafe.Pointer(&got[0]), DeviceType: CPU, Code: Float, Bits: 32, Lanes: 1, Shape: []int64{1, 1}}
			if err := m.OutputTensor(0, out); err != nil {
				t.Fatal(err)
			}
			expectClose(t, got, want[:1], 5e-7)
			managed, err := m.OutputManagedTensor(0)
			if err != nil {
				t.Fatal(err)
			}
			defer managed.Close()
			if !slices.Equal(managed.Shape, []int64{1, 1}) || *(*float32)(managed.Data) != got[0] {
				t.Errorf("managed tensor %+v", managed)
			}
			name, err := m.OutputName(0)
			if err != nil {
				t.Fatal(err)
			}
			if i, err := m.OutputIndex(name); i != 0 || err != nil {
				t.Errorf("output %q has index %d, %v", name, i, err)
			}
			if err := m.OutputByName(name, unsafe.Pointer(&back[0])); err != nil || back[0] != got[0] {
				t.Errorf("output by name: %v, %v", back[0], err)
			}
			if n, err := m.NumWeights(); n != 6 || err != nil {
				t.Errorf("%d weights, %v", n, err)
			}
			if w, err := m.WeightName(0); w == "" || err != nil {
				t.Errorf("weight %q, %v", w, err)
			}
		})
	}
}

func TestRealFailures(t *testing.T) {
	l := openReal(t)
	withMeta := func(meta string) string {
		folder := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
		if err := os.WriteFile(filepath.Join(folder, "compiled.meta"), []byte(meta), 0o600); err != nil {
			t.Fatal(err)
		}
		return folder
	}
	for name, c := range map[string]struct{ path, message string }{
		"nowhere":         {"/nowhere", "No such file or directory"},
		"empty folder":    {t.TempDir(), ""},
		"other device":    {withMeta(`{"Requirements":{"TargetDeviceType":"gpu"}}`), ""},
		"later treelite":  {testkit.Path(t, "treelite/fraud-tl1.3.0"), ""},
		"without symbols": {testkit.Path(t, "treelite/fraud-tl2cgen1.0.0"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := l.CreateModel(c.path, CPU, 0)
			if m != nil {
				t.Fatal("a model was made")
			}
			expectMessage(t, err, "CreateDLRModel", c.message)
		})
	}
	tree := create(t, l, testkit.Path(t, "treelite/fraud-tl0.93"))
	expectMessage(t, tree.Run(), "RunDLRModel", "Check failed: treelite_input_")
	wide := make([]float32, 31)
	expectMessage(t, tree.SetInput("data", []int64{1, 31}, unsafe.Pointer(&wide[0])), "SetDLRInput", "Expected: 30 or less")
	expectMessage(t, tree.Input("data", unsafe.Pointer(&wide[0])), "GetDLRInput", "not supported")
	expectMessage(t, tree.SetNumThreads(1), "SetDLRNumThreads", "not supported")
	_, err := tree.InputName(1)
	expectMessage(t, err, "GetDLRInputName", "out of range")
	_, err = tree.OutputName(0)
	expectMessage(t, err, "GetDLROutputName", "")
	_, err = tree.WeightName(0)
	expectMessage(t, err, "GetDLRWeightName", "not supported")
	tvm := create(t, l, testkit.Path(t, "tvm/mlp_b1-v3"))
	expectMessage(t, tvm.SetInput("nonsense", []int64{1, 30}, unsafe.Pointer(&wide[0])), "SetDLRInput", "Check failed")
	expectMessage(t, tvm.SetInput("input", []int64{1, 31}, unsafe.Pointer(&wide[0])), "SetDLRInput", "Expected: 30")
}

// childEnv names the test that runs in a process of its own, because what it does to the process cannot be undone.
const childEnv = "PICKET_CDLR_CHILD"

// inChild runs the calling test again in a child process, and returns its output and error; or false in the child itself. What the
// child makes lies in a folder of the parent's, because it may end without tidying up.
func inChild(t *testing.T) (output string, err error, parent bool) {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return "", nil, false
	}
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), childEnv+"="+t.Name(), "TMPDIR="+t.TempDir())
	text, err := command.CombinedOutput()
	return string(text), err, true
}

// The allocators that the real library is given see a TVM model's tensors and a tree model's inputs and outputs, and get
// back what they gave.
func TestRealAllocators(t *testing.T) {
	if output, err, parent := inChild(t); parent {
		if err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	functions := openStandin(t, standin)
	l := openReal(t)
	for name, set := range map[string]func(unsafe.Pointer) error{
		"malloc": l.SetCustomAllocatorMalloc, "free": l.SetCustomAllocatorFree, "memalign": l.SetCustomAllocatorMemalign,
	} {
		if err := set(functions.symbol("allocator_" + name)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(name string) int32 { return counter(t, functions, "allocator_"+name) }

	tree, err := l.CreateModel(testkit.Path(t, "treelite/fraud-tl0.93"), CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	predict(t, tree, testkit.RowsNoZeros(100, 30), 30, 10)
	// Ten inputs of three arrays each.
	if n := count("mallocs"); n < 30 {
		t.Errorf("ten inputs of a tree model took %d allocations from the malloc hook", n)
	}
	if n := count("aligned"); n != 0 {
		t.Errorf("a tree model took %d aligned allocations", n)
	}
	if err := tree.Close(); err != nil {
		t.Fatal(err)
	}
	if made, freed := count("mallocs"), count("frees"); made != freed {
		t.Errorf("tree model: %d allocations, %d frees", made, freed)
	}

	mallocs := count("mallocs")
	m, err := l.CreateModel(testkit.Path(t, "tvm/mlp_b1-v3"), CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	// At least the six weights, the input and the output.
	if n := count("aligned"); n < 8 {
		t.Errorf("creating a TVM model took %d aligned allocations", n)
	}
	if count("mallocs") == mallocs {
		t.Error("reading the parameters took none from the malloc hook")
	}
	if n := count("bad_alignment"); n != 0 {
		t.Errorf("%d alignments are no power of two: the arguments come in another order than documented", n)
	}
	rows, want := testkit.ReadF32(t, "tvm/mlp_b1-v3/input.f32"), testkit.ReadF32(t, "tvm/mlp_b1-v3/expected.f32")
	expectClose(t, predict(t, m, rows, 30, 1), want, 5e-7)
	before := count("aligned")
	predict(t, m, rows, 30, 1)
	if n := count("aligned") - before; n != 0 {
		t.Errorf("running a warm model allocated %d times", n)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if made, freed := count("mallocs")+count("aligned"), count("frees"); made != freed {
		t.Errorf("%d allocations, %d frees", made, freed)
	}
}

// What the package comment says of metadata of another shape is true of this version: the process ends.
func TestRealMetadataCanEndTheProcess(t *testing.T) {
	output, err, parent := inChild(t)
	if !parent {
		folder := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
		if err := os.WriteFile(filepath.Join(folder, "compiled.meta"), []byte("[1]"), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := openReal(t).CreateModel(folder, CPU, 0)
		fmt.Println("still here:", m, err)
		return
	}
	if err == nil || !strings.Contains(output, "json.exception.type_error") || strings.Contains(output, "still here") {
		t.Errorf("the process survived, so the package comment is wrong: %v\n%s", err, output)
	}
}

// What the package comment says of replaced files is true of this version: the code first loaded from a path is used again.
func TestRealReplacedFilesGiveTheOldCode(t *testing.T) {
	l := openReal(t)
	folder := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
	replace := func(with string) {
		code, err := os.ReadFile(testkit.Path(t, with))
		if err != nil {
			t.Fatal(err)
		}
		// By renaming, as a careful installer would: the mapped file itself stays as it is.
		if err := os.WriteFile(filepath.Join(folder, "new"), code, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "new"), filepath.Join(folder, "compiled.so")); err != nil {
			t.Fatal(err)
		}
	}
	columns := func() int64 {
		m, err := l.CreateModel(folder, CPU, 0)
		if err != nil {
			t.Fatal(err)
		}
		shape, err := m.AppendInputShape(nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		return shape[1]
	}
	old, err := l.CreateModel(folder, CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	replace("treelite/multi-softmax-tl0.93/compiled.so")
	if n := columns(); n != 30 {
		t.Errorf("%d columns while the old model is open, want the old model's 30", n)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	// 1.6 never gives a tree model's library back to the loader, so closing the model makes no difference.
	if n := columns(); n != 30 {
		t.Errorf("%d columns after the old model was closed, want the old model's 30", n)
	}
}

// The models of many cycles are all given back, to us and by libdlr.
func TestRealCreateAndClose(t *testing.T) {
	l := openReal(t)
	before := OpenModels()
	for range 20 {
		for _, path := range []string{"treelite/multi-softmax-tl0.93", "tvm/mlp_b1-v3"} {
			m, err := l.CreateModel(testkit.Path(t, path), CPU, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := OpenModels(); n != before {
		t.Errorf("%d models open", n-before)
	}
}
