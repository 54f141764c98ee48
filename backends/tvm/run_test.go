//go:build cgo && linux

package tvm_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// signature is one of float32 tensors.
func signature(in, out []int64) engine.Signature {
	return engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "input", DType: tensor.FP32, Dims: in}},
		Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: out}},
	}
}

// tensors makes the tensors of a side of a signature; the test's end releases them.
func tensors(t testing.TB, specs []engine.TensorSpec, rows int) []tensor.Tensor {
	t.Helper()
	var made []tensor.Tensor
	for n := range specs {
		shape, err := specs[n].Shape(rows)
		if err != nil {
			t.Fatal(err)
		}
		one, err := tensor.New(specs[n].Name, specs[n].DType, shape)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(one.Buffer.Release)
		clear(one.Bytes())
		made = append(made, one)
	}
	return made
}

func values[T tensor.Element](t testing.TB, of tensor.Tensor) []T {
	t.Helper()
	v, err := tensor.View[T](of)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// threads are the threads of an instance and the tasks of a function that the tests
// go through.
var threads = []struct{ threads, tasks int }{{1, 1}, {2, 1}, {2, 2}, {4, 3}, {8, 8}}

// TestThreads: tasks that wait for each other, tasks that launch tasks, and working
// memory, with each number of threads, again and again.
func TestThreads(t *testing.T) {
	sum := func(in []float32) (s float32) {
		for _, v := range in {
			s += v
		}
		return s
	}
	for name, more := range map[string]func(in []float32) float32{
		"together": sum,
		"nested":   func([]float32) float32 { return 1 },
		"blocks":   func([]float32) float32 { return 1 },
		"add_one":  func([]float32) float32 { return 1 },
	} {
		m := backendtest.Open(t, tvm.New(), specimen(t, []string{name}))
		for _, n := range threads {
			run, done, err := tvm.Threaded(m, n.threads)
			if err != nil {
				t.Fatal(err)
			}
			in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
			given, got := values[float32](t, in[0]), values[float32](t, out[0])
			for round := range 300 {
				for i := range given {
					given[i] = float32((i*7 + round) % 16)
				}
				if err := run(in, out, n.tasks); err != nil {
					t.Fatalf("%s, %+v, round %d: %v", name, n, round, err)
				}
				for i, v := range given {
					if want := v + more(given); got[i] != want {
						t.Fatalf("%s, %+v, round %d: value %d is %v, want %v", name, n, round, i, got[i], want)
					}
				}
			}
			if err := done(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestInstancesSideBySide: many instances with threads of their own call one library
// at once, whose pointers to its runtime are the same for all.
func TestInstancesSideBySide(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), specimen(t, []string{"together", "blocks", "fail_on_negative"}))
	in := make([][]tensor.Tensor, 6)
	out := make([][]tensor.Tensor, len(in))
	for n := range in {
		in[n], out[n] = tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	}
	var wg sync.WaitGroup
	for n := range in {
		wg.Go(func() {
			run, done, err := tvm.Threaded(m, 1+n%3)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := done(); err != nil {
					t.Error(err)
				}
			}()
			given, got := values[float32](t, in[n][0]), values[float32](t, out[n][0])
			for round := range 200 {
				value := float32(n + round%5)
				if round%10 == 9 {
					value = -1 // of 64 times -1 and of their sum, the last function does not hear, but of 2 less
				}
				for i := range given {
					given[i] = value
				}
				err := run(in[n], out[n], 1+n%3)
				if value < 0 {
					if err == nil || !strings.Contains(err.Error(), "failed") {
						t.Errorf("instance %d, round %d: %v", n, round, err)
					}
					continue
				}
				if want := value + 64*value + 2; err != nil || got[0] != want || got[63] != want {
					t.Errorf("instance %d, round %d: %v and %v, want %v; %v", n, round, got[0], got[63], want, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestFailureNamesTheNode: what a function says of a run is an error of that run, and
// the next one is none the worse.
func TestFailureNamesTheNode(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), specimen(t, []string{"add_one", "fail_on_negative"}))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	for _, tc := range []struct {
		first float32
		says  string
	}{
		{-1.5, `node "node fail_on_negative" failed: the first value is negative`},
		{3, ""},
		{-5, `node "node fail_on_negative" failed and gave no reason`},
		{0, ""},
	} {
		values[float32](t, in[0])[0] = tc.first
		err := i.Run(in, out, 1)
		switch {
		case tc.says == "" && (err != nil || values[float32](t, out[0])[0] != tc.first+2):
			t.Errorf("%v: %v, %v", tc.first, values[float32](t, out[0])[0], err)
		case tc.says != "" && (!errors.Is(err, engine.ErrRun) || !strings.HasSuffix(err.Error(), tc.says)):
			t.Errorf("%v: want an error that ends in %q, got %v", tc.first, tc.says, err)
		}
	}
	short := []tensor.Tensor{in[0].Rows(0, 63)}
	for name, run := range map[string]func() error{
		"a short input":    func() error { return i.Run(short, out, 1) },
		"a short output":   func() error { return i.Run(in, []tensor.Tensor{out[0].Rows(0, 63)}, 1) },
		"no input":         func() error { return i.Run(nil, out, 1) },
		"no rows":          func() error { return i.Run(in, out, 0) },
		"rows of no batch": func() error { return i.Run(in, out, 2) },
	} {
		if err := run(); !errors.Is(err, engine.ErrInvalidInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRefusesByName: what the first run shows, and what the library's symbols do.
func TestRefusesByName(t *testing.T) {
	for name, tc := range map[string]struct {
		functions []string
		macros    []string
		kind      error
		says      string
	}{
		"a failure":                  {[]string{"add_one", "fail"}, nil, engine.ErrArtifact, `compiled_model.json and compiled.so do not fit together: node "node fail" failed and gave no reason`},
		"a failure in a task":        {[]string{"fail_in_a_task"}, nil, engine.ErrArtifact, `node "node fail_in_a_task" failed: the last task is tired`},
		"a function of the runtime":  {[]string{"call_runtime"}, nil, engine.ErrUnsupported, "it calls tvm.contrib.cblas.matmul, a function of TVM's own runtime, which is not here"},
		"tasks without threads":      {[]string{"together_in_nine"}, nil, engine.ErrArtifact, "there are fewer threads than tasks"},
		"blocks without end":         {[]string{"hoard"}, nil, engine.ErrArtifact, "more blocks of working memory than are provided for"},
		"a huge block":               {[]string{"too_much"}, nil, engine.ErrArtifact, "more working memory than a model may have"},
		"huge blocks":                {[]string{"too_much_in_all"}, nil, engine.ErrArtifact, "more working memory than a model may have"},
		"a block of somebody":        {[]string{"foreign_block"}, nil, engine.ErrArtifact, "gives back working memory that it does not hold"},
		"a crash":                    {[]string{"add_one", "crash"}, nil, engine.ErrArtifact, `node "node crash" ended a trial run with SIGSEGV: compiled.so is damaged, or not of one compilation with compiled_model.json`},
		"a value too many":           {[]string{"overrun"}, nil, engine.ErrArtifact, `node "node overrun" ended a trial run with SIGSEGV`},
		"a function that is missing": {[]string{"subtract_one"}, nil, engine.ErrArtifact, `compiled.so exports no subtract_one, which node "node subtract_one" of compiled_model.json calls`},
		"an unknown service":         {[]string{"add_one"}, []string{"UNKNOWN"}, engine.ErrUnsupported, "asks TVM's runtime for TVMBackendRunCPUAffinity, which the tvm backend does not provide"},
		"a copy between devices":     {[]string{"__copy"}, nil, engine.ErrUnsupported, `node "node __copy" of compiled_model.json asks TVM's runtime for copy`},
		"a newer TVM":                {[]string{"add_one"}, []string{"NEWER"}, engine.ErrArtifact, "compiled.so was compiled by TVM 0.20 or later, whose functions (__tvm_ffi_...) have an interface of their own"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, specimen(t, tc.functions, tc.macros...), backendtest.Options(), tc.kind, tc.says)
		})
	}
}

// refused wants Open to fail with an error of the kind that says so.
func refused(t *testing.T, dir string, options engine.OpenOptions, kind error, says string) {
	t.Helper()
	m, err := tvm.New().Open(t.Context(), backendtest.Artifact(t, dir), options)
	if err == nil {
		t.Fatal("the artifact was opened, and closed with", m.Close())
	}
	if !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("want %v that says %q, got: %v", kind, says, err)
	}
}

// TestRefusesMoreThanTheHostHas: memory is counted before it is taken.
func TestRefusesMoreThanTheHostHas(t *testing.T) {
	dir := specimen(t, []string{"add_one", "add_one", "add_one"})
	graph := filepath.Join(dir, "compiled_model.json")
	for range 4 {
		edit(t, graph, "[64]", "[1099511627776]")
	}
	refused(t, dir, backendtest.Options(), engine.ErrMemory, "its tensors take 8388608 MiB, the process may use")
}

// TestLargeBlocks: working memory that is mapped for itself holds what is written to it, and the end of the instance gives it back.
func TestLargeBlocks(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), specimen(t, []string{"large_blocks"}))
	in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	use := func() {
		i, err := m.NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := i.Run(in, out, 1); err != nil || values[float32](t, out[0])[0] != 1 {
				t.Fatalf("got %v, %v", values[float32](t, out[0])[0], err)
			}
		}
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}
	use()
	before := mapped(t)
	for range 20 {
		use()
	}
	// An instance takes 10 MiB, so that 20 would leave 200. Sanitizers keep what was freed for a while.
	if grown := mapped(t) - before; grown > 100<<20 {
		t.Errorf("20 instances have left %d MiB mapped", grown>>20)
	}
}

// mapped is how much address space the process has.
func mapped(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(data))[0])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

// TestFlattens: a node may ask for its tensors in one dimension.
func TestFlattens(t *testing.T) {
	dir := specimen(t, []string{"add_one", "add_one"})
	graph := filepath.Join(dir, "compiled_model.json")
	for range 3 {
		edit(t, graph, "[64]", "[4,16]")
	}
	edit(t, graph, `"flatten_data":"0"`, `"flatten_data":"1"`)
	m := backendtest.Open(t, tvm.New(), dir)
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	for k := range values[float32](t, in[0]) {
		values[float32](t, in[0])[k] = float32(k)
	}
	if err := i.Run(in, out, 1); err != nil {
		t.Fatal(err)
	}
	for k, v := range values[float32](t, out[0]) {
		if math.Abs(float64(v)-float64(k+2)) != 0 {
			t.Fatalf("value %d is %v", k, v)
		}
	}
}

// TestFindsTheMathematics: a library may call libm without naming it as a library that it needs.
func TestFindsTheMathematics(t *testing.T) {
	m := backendtest.Open(t, tvm.New(), specimen(t, []string{"exponential"}))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, out := tensors(t, m.Signature().Inputs, 1), tensors(t, m.Signature().Outputs, 1)
	values[float32](t, in[0])[5] = 1
	if err := i.Run(in, out, 1); err != nil {
		t.Fatal(err)
	}
	if got := values[float32](t, out[0]); got[4] != 1 || math.Abs(float64(got[5])-math.E) > 1e-6 {
		t.Errorf("got %v", got[:6])
	}
}

// TestNewerTVMIsNamed by whatever backend meets such a library, alone or beside what looks like a graph.
func TestNewerTVMIsNamed(t *testing.T) {
	dir := specimen(t, []string{"add_one"}, "NEWER")
	refuse := func(b engine.Backend) {
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err == nil {
			t.Fatal("the artifact was opened, and closed with", m.Close())
		}
		if want := "compiled.so was compiled by TVM 0.20 or later"; !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), want) {
			t.Errorf("backend %s does not say %q: %v", b.Name(), want, err)
		}
	}
	through := dlr.New(dlr.Options{})
	defer through.Close()
	refuse(tvm.New())
	refuse(through)
	for _, name := range []string{"compiled_model.json", "compiled.params"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	refuse(treelite.New())
	refuse(through)
}
