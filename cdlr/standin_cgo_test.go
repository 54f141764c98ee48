//go:build cgo && linux

package cdlr

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/tensor"
)

// The tests in this file run on a stand-in, testdata/standin.c: there is no binary of DLR 1.7 to 1.10 to be had, and a
// real one does not fail on demand. What they show is that the binding passes things on; what libdlr does
// with them is shown, for 1.6.0, in libdlr_cgo_test.go.

// Generations of the stand-in.
const (
	standin10 = 0 // the functions of DLR 1.0
	standin17 = 1 // those of 1.7
	standin   = 2 // all of 1.10.1, special builds included
)

// compileStandin builds the stand-in with the host's compiler, which cgo needs anyway.
func compileStandin(t *testing.T, generation int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libdlr.so")
	command := exec.Command("cc", "-shared", "-fPIC", "-O1", "-w", fmt.Sprintf("-DSTANDIN_GENERATION=%d", generation),
		"-o", path, filepath.Join("testdata", "standin.c"))
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("compiling the stand-in: %v\n%s", err, text)
	}
	return path
}

func openStandin(t *testing.T, generation int) *Library {
	t.Helper()
	return open(t, compileStandin(t, generation))
}

// open opens a library and closes it at the end of the test, after its models.
func open(t *testing.T, path string) *Library {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func create(t *testing.T, l *Library, path string) *Model {
	t.Helper()
	return own(t)(l.CreateModel(path, CPU, 0))
}

// own fails the test if a model was not made, and closes it at its end.
func own(t *testing.T) func(*Model, error) *Model {
	return func(m *Model, err error) *Model {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		return m
	}
}

// counter reads one of the stand-in's exported numbers.
func counter(t *testing.T, l *Library, name string) int32 {
	t.Helper()
	p := l.symbol(name)
	if p == nil {
		t.Fatalf("the stand-in has no %s", name)
	}
	return *(*int32)(p)
}

func floats(v ...float32) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(v)) }

func expectMessage(t *testing.T, err error, function, message string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a failure of %s", err, function)
	}
	if e.Function != function || !strings.Contains(e.Message, message) || (message == "") != (e.Message == "") {
		t.Errorf("got %s, want %s with %q", e, function, message)
	}
	if strings.Contains(e.Message, "\n") {
		t.Errorf("the message has several lines: %q", e.Message)
	}
}

func TestStandinModel(t *testing.T) {
	l := openStandin(t, standin)
	m := create(t, l, "some/folder")
	if backend, err := m.Backend(); err != nil || backend != "folder(some/folder)" {
		t.Errorf("backend %q, %v", backend, err)
	}
	if m.Library() != l || l.Path() == "" {
		t.Error("the model does not know its library")
	}
	if err := m.Run(); err == nil {
		t.Error("ran without input")
	} else {
		expectMessage(t, err, "RunDLRModel", "StandInError: no input")
		if e := (*Error)(nil); !errors.As(err, &e) || !strings.Contains(e.Detail, "Stack trace:") {
			t.Errorf("the stack trace is lost: %+v", e)
		}
	}
	if err := m.SetInput("data", []int64{2, 4}, floats(1, 2, 3, 4, 5, 6, 7, 8)); err != nil {
		t.Fatal(err)
	}
	back := make([]float32, 8)
	if err := m.Input("data", unsafe.Pointer(&back[0])); err != nil || back[7] != 8 {
		t.Errorf("input reads back as %v, %v", back, err)
	}
	if err := m.Run(); err != nil {
		t.Fatal(err)
	}
	size, dim, err := m.OutputSizeDim(0)
	if size != 2 || dim != 2 || err != nil {
		t.Errorf("size %d, dim %d, %v", size, dim, err)
	}
	want := []float32{10, 26}
	got := make([]float32, 2)
	if err := m.Output(0, unsafe.Pointer(&got[0])); err != nil || !slices.Equal(got, want) {
		t.Errorf("Output: %v, %v", got, err)
	}
	clear(got)
	if err := m.OutputByName("sum", unsafe.Pointer(&got[0])); err != nil || !slices.Equal(got, want) {
		t.Errorf("OutputByName: %v, %v", got, err)
	}
	p, err := m.OutputPtr(0)
	if err != nil || !slices.Equal(unsafe.Slice((*float32)(p), 2), want) {
		t.Errorf("OutputPtr: %v", err)
	}
	clear(got)
	out := Tensor{Data: unsafe.Pointer(&got[0]), DeviceType: CPU, Code: Float, Bits: 32, Lanes: 1, Shape: []int64{2, 1}}
	if err := m.OutputTensor(0, out); err != nil || !slices.Equal(got, want) {
		t.Errorf("OutputTensor: %v, %v", got, err)
	}
	managed, err := m.OutputManagedTensor(0)
	if err != nil {
		t.Fatal(err)
	}
	if managed.Data != p || !slices.Equal(managed.Shape, []int64{2, 1}) || managed.Code != Float || managed.Bits != 32 || managed.DeviceType != CPU {
		t.Errorf("managed tensor %+v", managed)
	}
	if n := counter(t, l, "standin_tensors"); n != 1 {
		t.Errorf("%d managed tensors", n)
	}
	managed.Close()
	managed.Close()
	if n := counter(t, l, "standin_tensors"); n != 0 {
		t.Errorf("%d managed tensors after Close", n)
	}

	shape, err := m.AppendInputShape([]int64{7}, 0)
	if err != nil || !slices.Equal(shape, []int64{7, -1, 4}) {
		t.Errorf("input shape %v, %v", shape, err)
	}
	if shape, err = m.AppendOutputShape(shape[:0], 0); err != nil || !slices.Equal(shape, []int64{2, 1}) {
		t.Errorf("output shape %v, %v", shape, err)
	}
	if has, err := m.HasMetadata(); !has || err != nil {
		t.Errorf("metadata %v, %v", has, err)
	}
	if n, err := m.NumWeights(); n != 2 || err != nil {
		t.Errorf("weights %d, %v", n, err)
	}
	for want, text := range map[string]func() (string, error){
		"w1":      func() (string, error) { return m.WeightName(1) },
		"data":    func() (string, error) { return m.InputName(0) },
		"float32": func() (string, error) { return m.InputType(0) },
		"sum":     func() (string, error) { return m.OutputName(0) },
		"1.10.1":  l.Version,
	} {
		if got, err := text(); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	if kind, err := m.OutputType(0); kind != "float32" || err != nil {
		t.Errorf("output type %q, %v", kind, err)
	}
	if i, err := m.OutputIndex("sum"); i != 0 || err != nil {
		t.Errorf("index %d, %v", i, err)
	}
	if err := m.SetNumThreads(3); err != nil {
		t.Error(err)
	}
	expectMessage(t, m.SetNumThreads(4), "SetDLRNumThreads", "threads")
	if err := m.UseCPUAffinity(true); err != nil {
		t.Error(err)
	}
	expectMessage(t, m.UseCPUAffinity(false), "UseDLRCPUAffinity", "affinity")
	if device, err := l.DeviceType("gpu"); device != CUDA || err != nil {
		t.Errorf("device %d, %v", device, err)
	}
}

func TestStandinTensors(t *testing.T) {
	l := openStandin(t, standin)
	m := create(t, l, "x")
	values := []float32{-1, 1, 2, 3, 4}
	in := Tensor{Data: unsafe.Pointer(&values[0]), DeviceType: CPU, Code: Float, Bits: 32, Lanes: 1, Shape: []int64{1, 4}, ByteOffset: 4}
	if err := m.SetInputTensor("data", in); err != nil {
		t.Fatal(err)
	}
	if got := run(t, m); got != 10 {
		t.Errorf("sum %v, want 10", got)
	}
	in.Bits = 64
	expectMessage(t, m.SetInputTensor("data", in), "SetDLRInputTensor", "wrong tensor")

	buffer, err := tensor.Alloc(1024)
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Release()
	shared := unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(buffer.Bytes()))), 256)
	copy(shared, []float32{1, 1, 1, 1})
	zero := Tensor{Data: unsafe.Pointer(&shared[0]), DeviceType: CPU, Code: Float, Bits: 32, Lanes: 1, Shape: []int64{1, 4}}
	if err := m.SetInputTensorZeroCopy("data", zero); err != nil {
		t.Fatal(err)
	}
	if got := run(t, m); got != 4 {
		t.Errorf("sum %v, want 4", got)
	}
	// No copy: the next run sees what is written now.
	shared[3] = 7
	if got := run(t, m); got != 10 {
		t.Errorf("sum %v, want 10: the input was copied", got)
	}
	zero.Data = unsafe.Pointer(&shared[1])
	expectMessage(t, m.SetInputTensorZeroCopy("data", zero), "SetDLRInputTensorZeroCopy", "not aligned")
}

// run runs a model of one row and returns its sum.
func run(t *testing.T, m *Model) float32 {
	t.Helper()
	if err := m.Run(); err != nil {
		t.Fatal(err)
	}
	var sum float32
	if err := m.Output(0, unsafe.Pointer(&sum)); err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestStandinCreators(t *testing.T) {
	l := openStandin(t, standin)
	elems := []Elem{{Type: TVMGraph, Data: []byte(`{"a":1}`)}, {Type: TVMLib, Path: "a.so"}, {Type: TVMParams, Data: []byte("xyz")}}
	config := Tensorflow2Config{IntraOpThreads: 2, InterOpThreads: 3, GPUAllowGrowth: true, GPUMemoryFraction: 0.25}
	for want, m := range map[string]*Model{
		`elems(2:{"a":1}:7|3:a.so:0|4:xyz:3|)`: own(t)(l.CreateModelFromElems(elems, CPU, 0)),
		"pipeline(a|b|)":                       own(t)(l.CreatePipeline([]string{"a", "b"}, CPU, 0)),
		"hexagon(h,50)":                        own(t)(l.CreateModelFromHexagon("h", 50)),
		"tensorflow2(s,2,3,1,0.25)":            own(t)(l.CreateModelFromTensorflow2("s", config)),
	} {
		if got, err := m.Backend(); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	for i, elems := range [][]Elem{nil, {{Type: TVMLib}}, {{Type: TVMLib, Path: "a", Data: []byte("b")}}, {{Type: TVMLib, Path: "a\x00b"}}} {
		if m, err := l.CreateModelFromElems(elems, CPU, 0); m != nil || err == nil {
			t.Errorf("elements %d: %v, %v", i, m, err)
		}
	}
	for _, paths := range [][]string{{""}, {"a", "b\x00c"}} {
		if m, err := l.CreatePipeline(paths, CPU, 0); m != nil || err == nil {
			t.Errorf("pipeline %q: %v, %v", paths, m, err)
		}
	}
}

func TestStandinFailures(t *testing.T) {
	l := openStandin(t, standin)
	for path, message := range map[string]string{
		"fail":        "asked to fail",
		"quiet":       "",
		"nothing":     "it succeeded without making a model",
		"uncountable": "cannot count",
	} {
		// Twice, the quiet one after a loud one: the reason of an earlier call is never given for a later.
		for range 2 {
			m, err := l.CreateModel(path, CPU, 0)
			if m != nil || err == nil {
				t.Fatalf("%s: %v, %v", path, m, err)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if e.Message != "" && !strings.Contains(e.Message, message) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	_, err := l.CreateModel("quiet", CPU, 0)
	expectMessage(t, err, "CreateDLRModel", "")
	_, err = l.DeviceType("quiet")
	expectMessage(t, err, "GetDLRDeviceType", "")
	if n := counter(t, l, "standin_models"); n != 0 {
		t.Errorf("%d models leaked", n)
	}

	m := create(t, l, "x")
	for _, index := range []int{-1, 1, 1 << 40} {
		_, _, err := m.OutputSizeDim(index)
		expectMessage(t, err, "GetDLROutputSizeDim", "out of range")
		expectMessage(t, m.Output(index, nil), "GetDLROutput", "out of range")
		_, err = m.OutputPtr(index)
		expectMessage(t, err, "GetDLROutputPtr", "out of range")
		_, err = m.OutputManagedTensor(index)
		expectMessage(t, err, "GetDLROutputManagedTensorPtr", "out of range")
		_, err = m.AppendOutputShape(nil, index)
		expectMessage(t, err, "GetDLROutputSizeDim", "out of range")
	}
	for _, shape := range [][]int64{nil, {}, {0, 4}, {-1, 4}, make([]int64, 33)} {
		expectMessage(t, m.SetInput("data", shape, floats(1, 2, 3, 4)), "SetDLRInput", "shape")
		expectMessage(t, m.SetInputTensor("data", Tensor{Shape: shape}), "SetDLRInputTensor", "shape")
	}
	// Names of any length arrive whole.
	for _, n := range []int{1, 119, 120, 121, 5000} {
		name := strings.Repeat("n", n)
		expectMessage(t, m.SetInput(name, []int64{1, 4}, floats(1, 2, 3, 4)), "SetDLRInput", fmt.Sprintf("of %d bytes", n))
	}
	for _, name := range []string{"", "da\x00ta"} {
		if err := m.SetInput(name, []int64{1, 4}, floats(1, 2, 3, 4)); err == nil {
			t.Errorf("input %q was accepted", name)
		}
	}
	deep := create(t, l, "deep")
	_, err = deep.AppendOutputShape(nil, 0)
	expectMessage(t, err, "GetDLROutputSizeDim", "1000 dimensions")
}

// outOfMemory is a library that makes strdup fail on texts about bad luck, as it does where the host does not overcommit.
const outOfMemory = `
#include <stdlib.h>
#include <string.h>
char *strdup(const char *text) {
	if (strstr(text, "bad luck") != NULL)
		return NULL;
	size_t size = strlen(text) + 1;
	char *copy = malloc(size);
	return copy == NULL ? NULL : memcpy(copy, text, size);
}`

// A failure whose reason finds no memory is still a failure: taken for success, the last caller's answer would be given to this one.
func TestFailureWithoutMemoryForItsReason(t *testing.T) {
	const child = "PICKET_TEST_OUT_OF_MEMORY"
	if os.Getenv(child) == "" {
		dir := t.TempDir()
		source, library := filepath.Join(dir, "strdup.c"), filepath.Join(dir, "strdup.so")
		if err := os.WriteFile(source, []byte(outOfMemory), 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := exec.Command("cc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-o", library, source).CombinedOutput(); err != nil {
			t.Fatalf("compiling: %v\n%s", err, text)
		}
		again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		again.Env = append(os.Environ(), child+"=1", "LD_PRELOAD="+library)
		if text, err := again.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		return
	}
	l := openStandin(t, standin)
	m := create(t, l, "x")
	if err := m.SetInput("data", []int64{1, 4}, floats(1, 2, 3, 4)); err != nil {
		t.Fatal(err)
	}
	err := m.SetInput("bad luck", []int64{1, 4}, floats(5, 6, 7, 8))
	expectMessage(t, err, "SetDLRInput", "no memory")
	// A failure with memory for its reason comes through as ever.
	expectMessage(t, m.SetInput("other", []int64{1, 4}, floats(5, 6, 7, 8)), "SetDLRInput", "no input other")
}

func TestStandinAllocatorsArePassedOn(t *testing.T) {
	l := openStandin(t, standin)
	for name, set := range map[string]func(unsafe.Pointer) error{
		"malloc": l.SetCustomAllocatorMalloc, "free": l.SetCustomAllocatorFree, "memalign": l.SetCustomAllocatorMemalign,
	} {
		function := l.symbol("allocator_" + name)
		if err := set(function); err != nil {
			t.Fatal(err)
		}
		if got := *(*unsafe.Pointer)(l.symbol("standin_" + name)); got != function {
			t.Errorf("%s: passed %p, arrived %p", name, function, got)
		}
	}
}

// TestMissingFunctions calls everything on libraries that lack it.
func TestMissingFunctions(t *testing.T) {
	old, recent := openStandin(t, standin10), openStandin(t, standin17)
	o, r := create(t, old, "x"), create(t, recent, "x")
	ignore := func(_ any, err error) error { return err }
	two := func(_ int64, _ int, err error) error { return err }
	for name, err := range map[string]error{
		"GetDLRVersion":                 ignore(old.Version()),
		"GetDLRDeviceType":              ignore(old.DeviceType("x")),
		"SetDLRCustomAllocatorMalloc":   old.SetCustomAllocatorMalloc(nil),
		"SetDLRCustomAllocatorFree":     old.SetCustomAllocatorFree(nil),
		"SetDLRCustomAllocatorMemalign": old.SetCustomAllocatorMemalign(nil),
		"CreateDLRPipeline":             ignore(old.CreatePipeline([]string{"x"}, CPU, 0)),
		"CreateDLRModelFromModelElem":   ignore(old.CreateModelFromElems([]Elem{{Path: "x"}}, CPU, 0)),
		"CreateDLRModelFromHexagon":     ignore(recent.CreateModelFromHexagon("x", 0)),
		"CreateDLRModelFromTensorflow2": ignore(recent.CreateModelFromTensorflow2("x", Tensorflow2Config{})),
		"GetDLRHasMetadata":             ignore(o.HasMetadata()),
		"GetDLRNumWeights":              ignore(o.NumWeights()),
		"GetDLRWeightName":              ignore(o.WeightName(0)),
		"SetDLRNumThreads":              o.SetNumThreads(1),
		"UseDLRCPUAffinity":             o.UseCPUAffinity(true),
		"GetDLRInputType":               ignore(o.InputType(0)),
		"GetDLRInputSizeDim":            two(o.InputSizeDim(0)),
		"GetDLRInputShape":              ignore(o.AppendInputShape(nil, 0)),
		"GetDLRInput":                   o.Input("data", nil),
		"SetDLRInputTensor":             o.SetInputTensor("data", Tensor{}),
		"SetDLRInputTensorZeroCopy":     r.SetInputTensorZeroCopy("data", Tensor{}),
		"GetDLROutputType":              ignore(o.OutputType(0)),
		"GetDLROutputName":              ignore(o.OutputName(0)),
		"GetDLROutputIndex":             ignore(o.OutputIndex("x")),
		"GetDLROutputByName":            o.OutputByName("x", nil),
		"GetDLROutputPtr":               ignore(o.OutputPtr(0)),
		"GetDLROutputTensor":            o.OutputTensor(0, Tensor{}),
		"GetDLROutputManagedTensorPtr":  ignore(o.OutputManagedTensor(0)),
	} {
		var missing *MissingFunctionError
		if !errors.As(err, &missing) || missing.Function != name || missing.Since == "" {
			t.Errorf("%s: got %v", name, err)
		}
		l := old
		if missing != nil && missing.Library == recent.Path() {
			l = recent
		}
		if err := l.Have(name); !errors.As(err, &missing) {
			t.Errorf("Have(%s): %v", name, err)
		}
	}
	// The old generation still runs.
	if err := o.SetInput("data", []int64{1, 4}, floats(1, 2, 3, 4)); err != nil {
		t.Fatal(err)
	}
	if got := run(t, o); got != 10 {
		t.Errorf("sum %v", got)
	}
	if err := old.Have("GetDLRNumInputs"); err != nil {
		t.Error(err)
	}
	var missing *MissingFunctionError
	if err := old.Have("GetDLRNonsense"); err == nil || errors.As(err, &missing) {
		t.Errorf("a function of no version: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "libdlr.so")
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                     `"" is not a path`,
		"a\x00b":               "is not a path",
		"libc.so.6":            "libc.so.6 is not libdlr: it does not export CreateDLRModel",
		text:                   "opening libdlr: " + text,
		"/nowhere/libdlr.so.9": "cannot open shared object file",
	} {
		l, err := Open(path)
		if l != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", path, l, err, want)
		}
	}
}

func TestLifetimes(t *testing.T) {
	path := compileStandin(t, standin)
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.CreateModel("x", CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	if OpenModels() != 1 || OpenLibraries() != 1 {
		t.Errorf("%d models and %d libraries open", OpenModels(), OpenLibraries())
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "1 of its models are still open") {
		t.Errorf("closing a library in use: %v", err)
	}
	if err := m.Run(); errors.Is(err, ErrClosed) {
		t.Error("the failed Close closed the library")
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := counter(t, l, "standin_models"); n != 0 {
		t.Errorf("%d models alive", n)
	}
	if err := m.Run(); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v", err)
	}
	if _, err := m.OutputPtr(0); !errors.Is(err, ErrClosed) {
		t.Errorf("OutputPtr after Close: %v", err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.CreateModel("x", CPU, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("CreateModel after Close: %v", err)
	}
	if err := l.Have("RunDLRModel"); !errors.Is(err, ErrClosed) {
		t.Errorf("Have after Close: %v", err)
	}
	if _, err := l.Version(); !errors.Is(err, ErrClosed) {
		t.Errorf("Version after Close: %v", err)
	}
}

// A model outlives its library only as a closed one: its methods say so even when there is no library left to ask.
func TestModelOfAClosedLibrary(t *testing.T) {
	l, err := Open(compileStandin(t, standin))
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.CreateModel("x", CPU, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []interface{ Close() error }{m, l} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, numInputs := m.NumInputs()
	_, inputName := m.InputName(0)
	_, _, outputSize := m.OutputSizeDim(0)
	_, shape := m.AppendOutputShape(nil, 0)
	_, backend := m.Backend()
	for name, err := range map[string]error{
		"Run": m.Run(), "NumInputs": numInputs, "InputName": inputName, "OutputSizeDim": outputSize, "AppendOutputShape": shape,
		"Backend": backend, "SetInput": m.SetInput("data", []int64{1, 4}, floats(1, 2, 3, 4)), "Output": m.Output(0, floats(0)),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Errors are read on the thread that failed: many goroutines at once each get their own.
func TestErrorsBelongToTheirCaller(t *testing.T) {
	l := openStandin(t, standin)
	var group sync.WaitGroup
	for g := range 8 {
		m := create(t, l, "x")
		group.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("g%di%d", g, i)
				err := m.SetInput(name, []int64{1, 4}, floats(1, 2, 3, 4))
				if err == nil || !strings.Contains(err.Error(), "no input "+name+" of") {
					t.Errorf("asked for %s, got %v", name, err)
					return
				}
				runtime.Gosched()
			}
		})
	}
	group.Wait()
}

func TestHotCallsDoNotAllocate(t *testing.T) {
	l := openStandin(t, standin)
	m := create(t, l, "x")
	in, shape, out := []float32{1, 2, 3, 4}, []int64{1, 4}, make([]float32, 1)
	shapes := make([]int64, 0, 4)
	allocs := testing.AllocsPerRun(100, func() {
		if m.SetInput("data", shape, unsafe.Pointer(&in[0])) != nil || m.Run() != nil || m.Output(0, unsafe.Pointer(&out[0])) != nil {
			t.Fatal("a call failed")
		}
		if s, err := m.AppendOutputShape(shapes[:0], 0); err != nil || len(s) != 2 {
			t.Fatal("no shape")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per request", allocs)
	}
}
