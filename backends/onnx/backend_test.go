//go:build cgo && linux

package onnx_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// open opens a model of these files, which has to be one.
func open(t testing.TB, files map[string][]byte) engine.Model {
	t.Helper()
	return backendtest.Open(t, newBackend(t), folder(t, files))
}

// call runs an instance on these inputs and gives the bytes of its outputs.
func call(t testing.TB, m engine.Model, rows int, inputs ...[]byte) [][]byte {
	t.Helper()
	out, err := tryCall(t, m, rows, inputs...)
	if err != nil {
		t.Fatalf("running %d rows: %v", rows, err)
	}
	return out
}

func tryCall(t testing.TB, m engine.Model, rows int, inputs ...[]byte) (answers [][]byte, err error) {
	t.Helper()
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}()
	make := func(specs []engine.TensorSpec) (list []tensor.Tensor) {
		for _, s := range specs {
			shape, err := s.Shape(rows)
			if err != nil {
				t.Fatal(err)
			}
			made, err := tensor.New(s.Name, s.DType, shape)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, made)
		}
		return list
	}
	in, out := make(m.Signature().Inputs), make(m.Signature().Outputs)
	defer func() {
		for _, x := range append(in, out...) {
			x.Buffer.Release()
		}
	}()
	for n := range in {
		if len(inputs[n]) != in[n].Size() {
			t.Fatalf("input %d has %d bytes, want %d", n, len(inputs[n]), in[n].Size())
		}
		copy(in[n].Bytes(), inputs[n])
	}
	if err := i.Run(in, out, rows); err != nil {
		return nil, err
	}
	for n := range out {
		answers = append(answers, bytes.Clone(out[n].Bytes()))
	}
	return answers, nil
}

// TestTypes copies every element type that is served, bit for bit, with rows and without.
func TestTypes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for element, dtype := range map[int64]tensor.DType{
		float: tensor.FP32, double: tensor.FP64, half: tensor.FP16, bhalf: tensor.BF16, boolean: tensor.Bool, int8s: tensor.Int8, int16s: tensor.Int16,
		int32s: tensor.Int32, int64s: tensor.Int64, uint8s: tensor.Uint8, uint16s: tensor.Uint16, uint32s: tensor.Uint32, uint64s: tensor.Uint64,
	} {
		m := open(t, map[string][]byte{"m.onnx": one("Identity", info("x", element, -1, 3), info("y", element, -1, 3)).bytes()})
		want := engine.Signature{
			Inputs:  []engine.TensorSpec{{Name: "x", DType: dtype, Dims: []int64{-1, 3}}},
			Outputs: []engine.TensorSpec{{Name: "y", DType: dtype, Dims: []int64{-1, 3}}},
		}
		if got := m.Signature(); !got.Equal(want) {
			t.Errorf("%v: the signature is %v", dtype, got)
			continue
		}
		in := make([]byte, 5*3*dtype.Size())
		for i := range in {
			if in[i] = byte(random.Uint32()); dtype == tensor.Bool {
				in[i] &= 1
			}
		}
		if got := call(t, m, 5, in)[0]; !bytes.Equal(got, in) {
			t.Errorf("%v: %x became %x", dtype, in, got)
		}
	}
}

// TestHalvesAndBytes: networks compute in float16 and int8, as quantisation makes them, and the numbers are those that come of it by hand.
func TestHalvesAndBytes(t *testing.T) {
	// float16 in and out: twice x and 1, all of which it can hold. 0x3c00 is 1, 0x4000 is 2.
	constant := func(name string, element int64, data ...byte) message {
		return message(nil).Number(2, element).Text(8, name).Part(9, data)
	}
	m := open(t, map[string][]byte{"m.onnx": file{
		nodes:        []message{node("Mul", []string{"x", "two"}, []string{"v"}), node("Add", []string{"v", "one"}, []string{"y"})},
		inputs:       []message{info("x", half, -1, 2)},
		outputs:      []message{info("y", half, -1, 2)},
		initializers: []message{constant("two", half, 0, 0x40), constant("one", half, 0, 0x3c)},
	}.bytes()})
	// 1, 2, -0.5 and 100 become 3, 5, 0 and 201.
	out := call(t, m, 2, []byte{0, 0x3c, 0, 0x40, 0, 0xb8, 0x40, 0x56})
	if want := []byte{0, 0x42, 0, 0x45, 0, 0, 0x48, 0x5a}; !bytes.Equal(out[0], want) {
		t.Errorf("float16: got % x, want % x", out[0], want)
	}
	// int8 in, a product in int32, quantised to int8 again: 3 rows by [[1, -2], [3, 4]], divided by 2.
	m = open(t, map[string][]byte{"m.onnx": file{
		nodes: []message{
			node("MatMulInteger", []string{"x", "w"}, []string{"v"}), node("Cast", []string{"v"}, []string{"f"}, whole("to", float)),
			node("QuantizeLinear", []string{"f", "scale", "zero"}, []string{"y"}),
		},
		inputs:  []message{info("x", int8s, -1, 2)},
		outputs: []message{info("y", int8s, -1, 2)},
		initializers: []message{
			message(nil).Number(1, 2).Number(1, 2).Number(2, int8s).Text(8, "w").Part(9, []byte{1, 0xfe, 3, 4}), constant("scale", float, 0, 0, 0, 0x40), constant("zero", int8s, 0),
		},
	}.bytes()})
	// [2, 4] gives 14 and 12, [-10, 2] gives -4 and 28, [100, 100] gives 400 and 200, of which half of the first is more than an int8 holds.
	out = call(t, m, 3, []byte{2, 4, 0xf6, 2, 100, 100})
	if want := []byte{7, 6, 0xfe, 14, 127, 100}; !bytes.Equal(out[0], want) {
		t.Errorf("int8: got %v, want %v", out[0], want)
	}
}

// TestSeveralTensors: two inputs and two outputs go by their own names and types.
func TestSeveralTensors(t *testing.T) {
	m := open(t, map[string][]byte{"m.onnx": file{
		nodes: []message{
			node("Cast", []string{"b"}, []string{"bf"}, whole("to", float)), node("Add", []string{"a", "bf"}, []string{"sum"}),
			node("ArgMax", []string{"a"}, []string{"best"}, whole("axis", 1), whole("keepdims", 0)),
		},
		inputs:  []message{info("a", float, -1, 2), info("b", int64s, -1, 1)},
		outputs: []message{info("best", int64s, -1), info("sum", float, -1, 2)},
	}.bytes()})
	s := m.Signature()
	if fmt.Sprint(s.Inputs, s.Outputs) != "[a FP32 [-1, 2] b INT64 [-1, 1]] [best INT64 [-1] sum FP32 [-1, 2]]" {
		t.Fatal(s)
	}
	out := call(t, m, 2, raw([]float32{1, 2, 4, 3}), []byte{10, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})
	if want := [][]byte{{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, raw([]float32{11, 12, 3, 2})}; !slices.EqualFunc(out, want, bytes.Equal) {
		t.Errorf("got %v, want %v", out, want)
	}
	if v := m.Properties().Version; v != "7" {
		t.Errorf("the version is %q", v)
	}
}

// TestShapesThatTheFileDoesNotTell are found by running the model.
func TestShapesThatTheFileDoesNotTell(t *testing.T) {
	for name, c := range map[string]struct {
		file file
		want string
	}{
		"an open dimension": {one("Identity", info("x", float, -1, 3), info("y", float, -1, -1)), "[x FP32 [-1, 3]] [y FP32 [-1, 3]]"},
		"no shape at all":   {one("Identity", info("x", float, -1, 3), info("y", float, -2)), "[x FP32 [-1, 3]] [y FP32 [-1, 3]]"},
		"no rows go out":    {one("Shape", info("x", float, -1, 3), info("y", int64s, -1)), "[x FP32 [-1, 3]] [y INT64 [2]]"},
		"one of one":        {one("Identity", info("x", float, 1, 3), info("y", float, 1, 3)), "[x FP32 [-1, 3]] [y FP32 [-1, 3]]"},
		"a vector":          {one("Identity", info("x", float, 3), info("y", float, 3)), "[x FP32 [3]] [y FP32 [3]]"},
		"a number":          {one("Identity", info("x", float), info("y", float)), "[x FP32 []] [y FP32 []]"},
		"four rows":         {one("Sin", info("x", float, 4, 3), info("y", float, 4, 3)), "[x FP32 [-1, 3]] [y FP32 [-1, 3]]"},
		// Not rows, though they look like it: what comes out of each depends on all.
		"four that depend": {file{nodes: []message{node("Softmax", []string{"x"}, []string{"y"}, whole("axis", 0))},
			inputs: []message{info("x", float, 4, 3)}, outputs: []message{info("y", float, 4, 3)}}, "[x FP32 [4, 3]] [y FP32 [4, 3]]"},
	} {
		m := open(t, map[string][]byte{"m.onnx": c.file.bytes()})
		if s := m.Signature(); fmt.Sprint(s.Inputs, s.Outputs) != c.want {
			t.Errorf("%s: %v", name, s)
		}
	}
}

// TestRowsThatDependOnEachOther are not run together with those of other requests, and the operator is told.
func TestRowsThatDependOnEachOther(t *testing.T) {
	softmax := func(axis int64) engine.Properties {
		return open(t, map[string][]byte{"m.onnx": file{nodes: []message{node("Softmax", []string{"x"}, []string{"y"}, whole("axis", axis))},
			inputs: []message{info("x", float, -1, 3)}, outputs: []message{info("y", float, -1, 3)}}.bytes()}).Properties()
	}
	if p := softmax(0); p.BatchRows != 1 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0].Text, "depends on the rows beside it") {
		t.Errorf("over rows: %+v", p)
	}
	if p := softmax(1); p.BatchRows != 0 || len(p.Notes) != 0 {
		t.Errorf("over columns: %+v", p)
	}
}

// TestWeightsOutside: weights in files beside the model give the bits that the same weights inside do.
func TestWeightsOutside(t *testing.T) {
	const n = 16
	random := rand.New(rand.NewPCG(5, 5))
	values := make([]float32, n*n)
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	x := raw(values[:3*n])
	want := call(t, open(t, map[string][]byte{"m.onnx": linear(n, weight("w", values, n, n)).bytes()}), 3, x)
	padded := append(make([]byte, 64), raw(values)...)
	got := call(t, open(t, map[string][]byte{"m.onnx": linear(n, outside("w", "m.onnx.data", 64, 4*n*n, n, n)).bytes(), "m.onnx.data": padded}), 3, x)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Error("weights outside give other answers")
	}
	// A file of weights that starts as models do is not taken for one where another is called so.
	padded = append([]byte{8, 7, 0x12}, padded[3:]...)
	got = call(t, open(t, map[string][]byte{"model": linear(n, outside("w", "data", 64, 4*n*n, n, n)).bytes(), "data": append(make([]byte, 64), raw(values)...)}), 3, x)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Error("a model that is called otherwise gives other answers")
	}
	got = call(t, open(t, map[string][]byte{"m.onnx": linear(n, outside("w", "data", 64, 4*n*n, n, n)).bytes(), "data": padded}), 3, x)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Error("weights that start like a model give other answers")
	}
}

// TestRefuses: each is refused with one sentence, of the right kind, before or by the library.
func TestRefuses(t *testing.T) {
	const n = 2
	values := []float32{1, 2, 3, 4}
	sound := linear(n, weight("w", values, n, n))
	data := raw(values)
	elsewhere := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(elsewhere, data, 0o600); err != nil {
		t.Fatal(err)
	}
	zipmap, err := os.ReadFile(testkit.Path(t, "models/onnx/forest-binary-1.20.1.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	twice := func(m message) message {
		return m.Part(13, message(nil).Text(1, "location").Text(2, "data"))
	}
	inside := message(nil).Part(1, node("Constant", nil, []string{"c"}, tensorAttribute("value", outside("c", "data", 0, 16, n, n)))).Text(2, "branch").Part(12, info("c", float, n, n))
	for name, c := range map[string]struct {
		file []byte
		kind error
		say  string
	}{
		"weights above the folder":         {linear(n, outside("w", "../secret", 0, 16, n, n)).bytes(), engine.ErrArtifact, `"../secret", which is not beside it`},
		"weights anywhere":                 {linear(n, outside("w", elsewhere, 0, 16, n, n)).bytes(), engine.ErrArtifact, "which is not beside it"},
		"weights in a folder":              {linear(n, outside("w", "folder/data", 0, 16, n, n)).bytes(), engine.ErrArtifact, "which is not beside it"},
		"weights in memory":                {linear(n, outside("w", "*/_ORT_MEM_ADDR_/*", 4096, 16, n, n)).bytes(), engine.ErrArtifact, "which is not beside it"},
		"weights nowhere":                  {linear(n, outside("w", "", 0, 16, n, n)).bytes(), engine.ErrArtifact, "does not say in which"},
		"weights past the end":             {linear(n, outside("w", "data", 8, 16, n, n)).bytes(), engine.ErrArtifact, "takes 16 bytes, but the file has 16"},
		"weights that overflow":            {linear(n, outside("w", "data", 1<<62, 1<<62, n, n)).bytes(), engine.ErrArtifact, "but the file has 16"},
		"weights before the start":         {linear(n, outside("w", "data", -1, 16, n, n)).bytes(), engine.ErrArtifact, "which is no size"},
		"weights in two places":            {linear(n, twice(outside("w", "data", 0, 16, n, n))).bytes(), engine.ErrArtifact, "is given twice"},
		"the same weights over again":      {file{nodes: sound.nodes, inputs: sound.inputs, outputs: sound.outputs, initializers: []message{outside("w", "data", 0, 16, n, n), outside("v", "data", 0, 16, n, n)}}.bytes(), engine.ErrArtifact, "tensors lie over each other"},
		"fewer weights than it says":       {linear(n, outside("w", "data", 0, 8, n, n)).bytes(), engine.ErrArtifact, "ONNX Runtime 1.32.0 refuses m.onnx"},
		"a constant outside":               {file{nodes: []message{node("Constant", nil, []string{"w"}, tensorAttribute("value", outside("w", "data", 0, 16, n, n))), sound.nodes[0]}, inputs: sound.inputs, outputs: sound.outputs}.bytes(), engine.ErrUnsupported, "only weights of the main graph may"},
		"a branch with weights outside":    {file{nodes: append([]message{node("If", []string{"b"}, []string{"w"}, graphAttribute("then_branch", inside), graphAttribute("else_branch", inside))}, sound.nodes...), inputs: append([]message{info("b", boolean)}, sound.inputs...), outputs: sound.outputs}.bytes(), engine.ErrUnsupported, "only weights of the main graph may"},
		"a function with them":             {file{nodes: sound.nodes, inputs: sound.inputs, outputs: sound.outputs, initializers: sound.initializers, functions: []message{message(nil).Text(1, "f").Part(7, node("Constant", nil, []string{"c"}, tensorAttribute("value", outside("c", "/etc/passwd", 0, 16, n, n))))}}.bytes(), engine.ErrUnsupported, "only weights of the main graph may"},
		"a compiled part":                  {one("EPContext", info("x", float, -1, n), info("y", float, -1, n)).bytes(), engine.ErrUnsupported, "compiled for one accelerator"},
		"two graphs":                       {file{nodes: sound.nodes, inputs: sound.inputs, outputs: sound.outputs, initializers: sound.initializers, graphs: 2}.bytes(), engine.ErrArtifact, "it holds 2 graphs"},
		"no operators":                     {file{inputs: sound.inputs, outputs: sound.outputs}.bytes(), engine.ErrArtifact, "no operator at all"},
		"the format of the future":         {file{ir: 40, nodes: sound.nodes, inputs: sound.inputs, outputs: sound.outputs, initializers: sound.initializers}.bytes(), engine.ErrUnsupported, "IR version: 40"},
		"operators of the future":          {file{opset: 99, nodes: sound.nodes, inputs: sound.inputs, outputs: sound.outputs, initializers: sound.initializers}.bytes(), engine.ErrUnsupported, "99"},
		"an unknown operator":              {one("Frobnicate", info("x", float, -1, n), info("y", float, -1, n)).bytes(), engine.ErrUnsupported, "Frobnicate"},
		"texts":                            {one("Identity", info("x", text, -1, n), info("y", text, -1, n)).bytes(), engine.ErrUnsupported, `input "x" is texts`},
		"complex numbers":                  {one("Identity", info("x", complex64s, -1, n), info("y", complex64s, -1, n)).bytes(), engine.ErrUnsupported, "complex64"},
		"a map":                            {zipmap, engine.ErrUnsupported, ""},
		"a second open dimension":          {one("Identity", info("x", float, -1, -1), info("y", float, -1, -1)).bytes(), engine.ErrUnsupported, `dimension 1 of input "x" is left open`},
		"nine dimensions":                  {one("Identity", info("x", float, -1, 1, 1, 1, 1, 1, 1, 1, 1), info("y", float, -1, 1, 1, 1, 1, 1, 1, 1, 1)).bytes(), engine.ErrUnsupported, "has 9 dimensions"},
		"no shape at all":                  {one("Identity", info("x", float, -2), info("y", float, -2)).bytes(), engine.ErrUnsupported, "tells nothing of its shape"},
		"an empty input":                   {one("Identity", info("x", float, -1, 0), info("y", float, -1, 0)).bytes(), engine.ErrArtifact, "is 0"},
		"a size that data decides":         {one("NonZero", info("x", float, -1, n), info("y", int64s, 2, -1)).bytes(), engine.ErrUnsupported, "depends on more than the number of rows"},
		"rows in another place":            {one("Transpose", info("x", float, -1, n), info("y", float, n, -1)).bytes(), engine.ErrUnsupported, "depends on more than the number of rows"},
		"no number of rows but one":        {file{nodes: []message{node("Concat", []string{"x", "w"}, []string{"y"}, whole("axis", 1))}, inputs: sound.inputs, outputs: []message{info("y", float, -1, -1)}, initializers: []message{weight("w", values, 1, 4)}}.bytes(), engine.ErrUnsupported, "cannot run 3 made-up rows"},
		"weights of the wrong size":        {linear(n, weight("w", values[:3], n, n)).bytes(), engine.ErrArtifact, "ONNX Runtime 1.32.0 refuses m.onnx"},
		"a weight that takes all there is": {linear(n, message(nil).Number(1, 1<<40).Number(1, 1<<40).Number(2, float).Text(8, "w").Part(9, data)).bytes(), engine.ErrArtifact, "ONNX Runtime 1.32.0 refuses m.onnx"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			m, err := b.Open(t.Context(), backendtest.Artifact(t, folder(t, map[string][]byte{"m.onnx": c.file, "data": data})), backendtest.Options())
			if err == nil {
				t.Fatal("it was opened, and closed with", m.Close())
			}
			if !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.say) || strings.ContainsAny(err.Error(), "\n\r") || strings.HasSuffix(err.Error(), ".") {
				t.Errorf("want %v that says %q, got: %v", c.kind, c.say, err)
			}
			t.Log(err)
		})
	}
}

// TestHostileNumbers: what the library refuses in a run is that request's error, and the next is answered.
func TestHostileNumbers(t *testing.T) {
	m := open(t, map[string][]byte{"m.onnx": file{
		nodes:        []message{node("Gather", []string{"w", "x"}, []string{"y"})},
		inputs:       []message{info("x", int64s, -1)},
		outputs:      []message{info("y", float, -1)},
		initializers: []message{weight("w", []float32{5, 6, 7}, 3)},
	}.bytes()})
	index := func(v int8) []byte { return append([]byte{byte(v)}, bytes.Repeat([]byte{byte(v >> 7)}, 7)...) }
	for _, v := range []int8{3, 127, -4, -128} {
		if _, err := tryCall(t, m, 1, index(v)); !errors.Is(err, engine.ErrRun) || !strings.Contains(err.Error(), "ONNX Runtime") {
			t.Errorf("an index of %d: %v", v, err)
		}
		if got := call(t, m, 1, index(2))[0]; !bytes.Equal(got, raw([]float32{7})) {
			t.Errorf("after it: %v", got)
		}
	}
}

// TestRefusesOtherTensors: the library reads and writes by address.
func TestRefusesOtherTensors(t *testing.T) {
	m := open(t, map[string][]byte{"m.onnx": linear(2, weight("w", []float32{1, 2, 3, 4}, 2, 2)).bytes()})
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	good, err := tensor.New("x", tensor.FP32, tensor.MustShape(2, 2))
	if err != nil {
		t.Fatal(err)
	}
	defer good.Buffer.Release()
	other := func(d tensor.DType, dims ...int64) tensor.Tensor {
		made, err := tensor.New("x", d, tensor.MustShape(dims...))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(made.Buffer.Release)
		return made
	}
	for name, c := range map[string]struct {
		in, out []tensor.Tensor
		rows    int
	}{
		"fewer rows":      {[]tensor.Tensor{other(tensor.FP32, 1, 2)}, []tensor.Tensor{good}, 2},
		"another width":   {[]tensor.Tensor{other(tensor.FP32, 2, 1)}, []tensor.Tensor{good}, 2},
		"another rank":    {[]tensor.Tensor{other(tensor.FP32, 4)}, []tensor.Tensor{good}, 2},
		"another type":    {[]tensor.Tensor{other(tensor.Int32, 2, 2)}, []tensor.Tensor{good}, 2},
		"a small output":  {[]tensor.Tensor{good}, []tensor.Tensor{other(tensor.FP32, 1, 2)}, 2},
		"no rows":         {[]tensor.Tensor{good}, []tensor.Tensor{good}, 0},
		"no output":       {[]tensor.Tensor{good}, nil, 2},
		"too many inputs": {[]tensor.Tensor{good, good}, []tensor.Tensor{good}, 2},
	} {
		if err := i.Run(c.in, c.out, c.rows); !errors.Is(err, engine.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProbe(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(garbage, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, say := range map[string]string{
		garbage: "", filepath.Join(t.TempDir(), "absent.so"): "No such file", "libm.so.6": "is no ONNX Runtime",
	} {
		b := onnx.New(onnx.Options{LibraryPath: path})
		if err := b.Probe(backendtest.Options().Host); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v", path, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Setenv(onnx.LibraryVariable, testkit.ONNXRuntime(t))
	b := onnx.New(onnx.Options{})
	path, version, providers, err := b.Library(backendtest.Options().Host)
	if err != nil || path != testkit.ONNXRuntime(t) || version != testkit.ONNXRuntimeVersion || providers != "cpu" {
		t.Errorf("the library of the environment is %s, %s, %s, %v", path, version, providers, err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// TestProviders: what the library or the host lacks is refused in a sentence when it is asked for by name, and passed over
// when it is not.
func TestProviders(t *testing.T) {
	b := newBackend(t)
	for provider, say := range map[string]string{
		"": "", "auto": "", "cpu": "",
		"cuda": "provider cuda is not in this host's ONNX Runtime 1.32.0, which has cpu", "cuda:1": "provider cuda is not", "tensorrt": "provider tensorrt is not",
		"openvino": "provider openvino is not", "rocm": `provider "rocm" is none`, "cuda:x": `provider "cuda:x" is none`, "cpu:1": `provider "cpu:1" is none`, "cuda:-1": "is none", "cuda:999": "is none",
	} {
		o := backendtest.Options()
		o.Provider = provider
		m, err := b.Open(t.Context(), backendtest.Artifact(t, net(t, "mlp")), o)
		if err == nil {
			if v := m.Properties().Variant; v != "ONNX Runtime 1.32.0, cpu" {
				t.Errorf("%q: it runs on %s", provider, v)
			}
			err = m.Close()
		}
		if (err == nil) != (say == "") || err != nil && !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", provider, err, say)
		}
	}
}

// heavy is a model of more than 16 MiB of weights.
func heavy() []byte {
	const n = 2112
	return linear(n, weight("w", make([]float32, n*n), n, n)).bytes()
}

// TestThreads: models that may use all cores share one pool, a model of fewer threads has its own, and both go with it.
func TestThreads(t *testing.T) {
	b := newBackend(t)
	threads := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(tasks)
	}
	o := backendtest.Options()
	cores := max(1, int(o.Host.CPU.CoresAllowed))
	data := heavy()
	openAll := func(n, of int) (opened []engine.Model) {
		o.Threads = of
		for range n {
			m, err := b.Open(t.Context(), backendtest.Artifact(t, folder(t, map[string][]byte{"m.onnx": data})), o)
			if err != nil {
				t.Fatal(err)
			}
			opened = append(opened, m)
		}
		return opened
	}
	closeAll := func(opened []engine.Model) {
		for _, m := range opened {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	shared := openAll(1, cores)
	before := threads()
	shared = append(shared, openAll(4, cores)...)
	// Go may have started a thread or two of its own meanwhile.
	if n := threads() - before; n >= 4*max(1, cores-1) {
		t.Errorf("four models more took %d threads more on %d cores", n, cores)
	}
	closeAll(shared)
	// Of fewer, each has its own, which go with it.
	before = threads()
	single := openAll(3, 1)
	if n := threads() - before; n > 2 {
		t.Errorf("three models of one thread took %d", n)
	}
	closeAll(single)
}

// TestCancelledWhileLoadedAgain: a model that turns out to be worth more threads is loaded a second time, and Open may end there too.
func TestCancelledWhileLoadedAgain(t *testing.T) {
	const n, times = 1024, 64
	slow := linear(n, weight("w", make([]float32, n*n), n, n))
	slow.nodes = nil
	for i := range times {
		slow.nodes = append(slow.nodes, node("MatMul", []string{fmt.Sprint("x", i), "w"}, []string{fmt.Sprint("x", i+1)}))
	}
	slow.inputs, slow.outputs = []message{info("x0", float, -1, n)}, []message{info(fmt.Sprint("x", times), float, -1, n)}
	dir := folder(t, map[string][]byte{"m.onnx": slow.bytes()})
	b, o := newBackend(t), backendtest.Options()
	o.Threads = 1
	m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), o) // which loads the library, for good
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	once := backendtest.OpensCancelled(t, b, dir, o)
	o.Threads = 2
	if twice := backendtest.OpensCancelled(t, b, dir, o); twice != once+1 {
		t.Errorf("Open looked at its context %d times, and %d times where the model was to be loaded again", once, twice)
	}
}

// TestGivesMemoryBack: a run of many rows leaves nothing of what it took.
func TestGivesMemoryBack(t *testing.T) {
	const in, wide, rows = 4, 1 << 14, 1024
	values := make([]float32, in*wide)
	for i := range values {
		values[i] = 1
	}
	m := open(t, map[string][]byte{"m.onnx": file{
		nodes: []message{
			node("MatMul", []string{"x", "w"}, []string{"a"}), node("Sin", []string{"a"}, []string{"b"}), node("Cos", []string{"b"}, []string{"c"}),
			node("ReduceMean", []string{"c"}, []string{"y"}, wholes("axes", 1)),
		},
		inputs: []message{info("x", float, -1, in)}, outputs: []message{info("y", float, -1, 1)},
		initializers: []message{weight("w", values, in, wide)},
	}.bytes()})
	resident := func() int {
		data, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		var size, pages int
		if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
			t.Fatal(err)
		}
		return pages * os.Getpagesize()
	}
	few := call(t, m, 1, make([]byte, 4*in))
	before := resident()
	for range 3 {
		if got := call(t, m, rows, make([]byte, rows*4*in)); !bytes.Equal(got[0][:4], few[0]) {
			t.Errorf("%x of many rows, %x of one", got[0][:4], few[0])
		}
	}
	if grown := resident() - before; grown > 4*wide*rows/2 {
		t.Errorf("%d MiB more than before, of intermediate results of %d MiB each", grown>>20, 4*wide*rows>>20)
	}
}
