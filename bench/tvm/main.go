// Command tvm measures backends/tvm against libdlr on the same TVM graphs. JSON
// goes to standard output.
//
// A call is everything from a tensor in memory to the answer in memory, made from Go
// as a server in Go makes it: one call into C for tvm, three for libdlr
// (SetDLRInput, RunDLRModel, GetDLROutput), because its interface has no fewer. Both
// have one thread for a call. With one caller they take turns, hot and shuffled
// (package interleave); with two, each caller has an instance or a handle of its own,
// and the two engines take turns of a second.
//
// What the engine itself takes is measured on a graph of one function that does
// nothing: all of Run that is no model.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/picket-ml/picket/backends/tvm"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// network is one compiled graph with one input and one output of float32.
type network struct {
	name, dir string
	// goal is how many times libdlr's time ours should be less, at least.
	goal float64
}

func main() {
	program.Main("bench-tvm", func(ctx context.Context) error {
		// libdlr's threads would compete with the other subject for the cores, and it would bind both callers to the first of them.
		if err := errors.Join(os.Setenv("TVM_NUM_THREADS", "1"), os.Setenv("TVM_BIND_THREADS", "0")); err != nil {
			return fmt.Errorf("telling libdlr its threads: %w", err)
		}
		return run(ctx)
	})
}

func run(ctx context.Context) (err error) {
	runtime.LockOSThread() // libdlr keeps its last error per thread
	library, err := cdlr.Open(models.LibDLR())
	if err != nil {
		return fmt.Errorf("%w (make fixtures fetches it)", err)
	}
	defer func() { err = errors.Join(err, library.Close()) }()
	out := report.New()
	fixtures := filepath.Join(testkit.ModuleRoot(), "internal/testkit/testdata/tvm")
	networks := []network{
		{"mlp", filepath.Join(fixtures, "mlp_b1-v3"), 3},
		{"small-cnn", filepath.Join(fixtures, "cnn-v3"), 1},
		{"mobilenet", filepath.Join(models.Cache(), "tvm", "mobilenet"), 1},
	}
	var results []report.Kernel
	for _, n := range networks {
		if _, err := os.Stat(n.dir); err != nil {
			out.LeftOut = append(out.LeftOut, report.LeftOut{Model: n.name, Engine: "all", Why: "make bench-tvm-nets has not made it"})
			continue
		}
		kernels, err := measure(ctx, n, library, out)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", n.name, err)
		}
		results = append(results, kernels...)
	}
	us, err := overhead(ctx)
	if err != nil {
		return fmt.Errorf("measuring the engine alone: %w", err)
	}
	out.Promise("what the engine takes for a call, us", round(us), "us", 0.5)
	out.Results = results
	return out.Write()
}

func round(x float64) float64 { return math.Round(1000*x) / 1000 }

// caller is one caller of both engines, with tensors of its own.
type caller struct {
	instance     engine.Instance
	handle       *cdlr.Model
	in, out      []tensor.Tensor // out is ours, and then libdlr's
	shape        []int64
	failed       error
	name         string // of the input
	ours, theirs tensor.Tensor
}

// newCaller makes a caller of the model. The caller of it closes it.
func newCaller(m engine.Model, library *cdlr.Library, dir string, data []float32) (_ *caller, err error) {
	c := &caller{}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	s := m.Signature()
	if c.instance, err = m.NewInstance(); err != nil {
		return nil, err
	}
	if c.handle, err = library.CreateModel(dir, cdlr.CPU, 0); err != nil {
		return nil, err
	}
	in, err := tensor.New(s.Inputs[0].Name, tensor.FP32, tensor.MustShape(s.Inputs[0].Dims...))
	if err != nil {
		return nil, err
	}
	c.in, c.shape, c.name = []tensor.Tensor{in}, s.Inputs[0].Dims, in.Name
	copy(in.Bytes(), tensor.AsBytes(data))
	shape := tensor.MustShape(s.Outputs[0].Dims...)
	if c.ours, err = tensor.New("tvm", tensor.FP32, shape); err != nil {
		return nil, err
	}
	if c.theirs, err = tensor.New("libdlr", tensor.FP32, shape); err != nil {
		return nil, err
	}
	c.out = []tensor.Tensor{c.ours}
	// The same answers, bit for bit, or the times mean nothing.
	c.runOurs(0, 1)
	c.runTheirs(0, 1)
	if c.failed == nil && string(c.ours.Bytes()) != string(c.theirs.Bytes()) {
		c.failed = errors.New("the answers of tvm and libdlr differ")
	}
	return c, c.failed
}

func (c *caller) runOurs(int, int) time.Duration {
	if err := c.instance.Run(c.in, c.out, 1); err != nil {
		c.failed = err
	}
	return 0
}

func (c *caller) runTheirs(int, int) time.Duration {
	err := c.handle.SetInput(c.name, c.shape, tensor.Pointer(c.in[0]))
	if err == nil {
		err = c.handle.Run()
	}
	if err == nil {
		err = c.handle.Output(0, tensor.Pointer(c.theirs))
	}
	if err != nil {
		c.failed = err
	}
	return 0
}

func (c *caller) close() error {
	var errs []error
	if c.instance != nil {
		errs = append(errs, c.instance.Close())
	}
	if c.handle != nil {
		errs = append(errs, c.handle.Close())
	}
	for _, t := range append(slices.Clone(c.in), c.ours, c.theirs) {
		t.Buffer.Release()
	}
	return errors.Join(errs...)
}

// open opens a model with one thread for a run.
func open(ctx context.Context, dir string) (engine.Model, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	a, err := engine.NewArtifact(dir, root)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	defer a.Close()
	host := hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true})
	return tvm.New().Open(ctx, a, engine.OpenOptions{Host: host, Threads: 1})
}

func measure(ctx context.Context, n network, library *cdlr.Library, out *report.Report) (results []report.Kernel, err error) {
	m, err := open(ctx, n.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	data := make([]float32, product(m.Signature().Inputs[0].Dims))
	for i := range data {
		data[i] = float32(i%17)/8 - 1
	}
	callers := make([]*caller, 2)
	for i := range callers {
		c, err := newCaller(m, library, n.dir, data)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, c.close()) }()
		callers[i] = c
	}
	one := callers[0]
	subjects := []interleave.Subject{{Name: "tvm", Run: one.runOurs}, {Name: "libdlr", Run: one.runTheirs}}
	plan := interleave.Plan{TestRows: 1, Rows: 1, Rounds: 15, Turn: 30 * time.Millisecond, Calls: 3000, Seed: 1, Budget: 10 * time.Second}
	for _, condition := range interleave.Conditions() {
		var us [2]float64
		for i, d := range condition.Measure(subjects, plan) {
			us[i] = float64(d.Nanoseconds()) / 1e3
			results = append(results, report.Kernel{Model: n.name, Engine: subjects[i].Name, Condition: condition.Name, Rows: 1, Cores: 1, USPerRow: us[i]})
		}
		name := fmt.Sprintf("libdlr to tvm, %s, %s (%.2f to %.2f us)", n.name, condition.Name, us[1], us[0])
		if condition.Name == "hot" {
			out.Reach(name, round(us[1]/us[0]), n.goal)
		} else {
			out.Tell(name, round(us[1]/us[0]), "ratio")
		}
	}
	rates := together(callers)
	names := []string{"tvm", "libdlr"}
	for i, name := range names {
		results = append(results, report.Kernel{Model: n.name, Engine: name, Condition: "2 callers", Rows: 1, Cores: 2, USPerRow: round(1e6 / rates[i][1])})
	}
	out.Reach(fmt.Sprintf("two callers to one, tvm, %s (%.0f to %.0f calls a second)", n.name, rates[0][1], rates[0][0]), round(rates[0][1]/rates[0][0]), 1.7)
	out.Tell(fmt.Sprintf("two callers to one, libdlr, %s (%.0f to %.0f calls a second)", n.name, rates[1][1], rates[1][0]), round(rates[1][1]/rates[1][0]), "ratio")
	return results, errors.Join(callers[0].failed, callers[1].failed)
}

// turns and turn are how often and how long callers call together.
const (
	turns = 7
	turn  = 300 * time.Millisecond
)

// together is the median of calls a second of each engine, with one caller and with
// two at once, all taking turns.
func together(callers []*caller) (rates [2][2]float64) {
	var all [2][2][]time.Duration // for a call
	for range turns {
		for n := range callers {
			for e := range all {
				all[e][n] = append(all[e][n], spell(callers[:n+1], e))
			}
		}
	}
	for e := range all {
		for n := range all[e] {
			rates[e][n] = 1e9 / float64(interleave.Median(all[e][n]).Nanoseconds())
		}
	}
	return rates
}

// spell has callers call an engine for a turn, and gives the time in which one call
// of any of them is done.
func spell(callers []*caller, engine int) time.Duration {
	var mu sync.Mutex
	calls := 0
	var wg sync.WaitGroup
	start := time.Now()
	for _, c := range callers {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			run, n := c.runOurs, 0
			if engine == 1 {
				run = c.runTheirs
			}
			for ; n%64 != 0 || time.Since(start) < turn; n++ {
				run(0, 1)
			}
			mu.Lock()
			calls += n
			mu.Unlock()
		})
	}
	wg.Wait()
	return time.Since(start) / time.Duration(calls)
}

func product(dims []int64) int64 {
	n := int64(1)
	for _, d := range dims {
		n *= d
	}
	return n
}
