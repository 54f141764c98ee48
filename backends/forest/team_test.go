package forest

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cores"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// shared opens a model whose smallest batches are shared among threads, on so many cores.
func shared(t *testing.T, e *ensemble.Ensemble, threads, cores int) *model {
	t.Helper()
	signature := engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{-1, int64(e.NumFeature)}}},
		Outputs: []engine.TensorSpec{{Name: "output", DType: tensor.FP32, Dims: []int64{-1, int64(e.Outputs())}}},
	}
	options := backendtest.Options()
	options.Threads = threads
	m, err := newModel(e, signature, options)
	if err != nil {
		t.Fatal(err)
	}
	m.cores, m.part = cores, 16
	return m
}

// TestThreads answers in batches that threads share, by several callers at once, what one thread answers row by row; and
// gives every core back.
func TestThreads(t *testing.T) {
	const n = 700
	for _, name := range []string{"depth 6", "classes", "leaf-wise"} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 5))
			e := randomForest(random, shapes[name])
			e.Objective.Transform = ensemble.Sigmoid
			rows := randomRows(random, e, n)
			m := shared(t, e, 4, 3)
			defer m.Close()
			want := make([]float32, n*e.Outputs())
			for i := range n {
				if err := e.Predict(rows[i*e.NumFeature:(i+1)*e.NumFeature], want[i*e.Outputs():(i+1)*e.Outputs()]); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(func() {
					r := backendtest.NewRunner(t, m)
					defer r.Close()
					for range 10 {
						for _, n := range []int{n, 1, 16, 47, 48, 513} {
							if !slices.Equal(r.Run(rows[:n*e.NumFeature]), want[:n*e.Outputs()]) {
								t.Errorf("a batch of %d rows is answered differently", n)
							}
						}
					}
				})
			}
			wg.Wait()
			if n := cores.InUse(); n != 0 {
				t.Errorf("%d cores are still in use", n)
			}
			if len(m.spares.free) > 3 {
				t.Errorf("the model keeps %d workspaces for helpers on 3 cores", len(m.spares.free))
			}
		})
	}
}

// TestHelpersWork sees to it that a helper does rows while the caller is busy with others.
func TestHelpersWork(t *testing.T) {
	e := randomForest(rand.New(rand.NewPCG(1, 5)), shapes["depth 3"])
	m := shared(t, e, 2, 2)
	defer m.Close()
	cores.Enter() // the caller, who has begun and takes no rows: the helper does them all
	defer cores.Give(1)
	in, err := tensor.New("data", tensor.FP32, tensor.MustShape(64, int64(e.NumFeature)))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Buffer.Release()
	answers, err := tensor.New("output", tensor.FP32, tensor.MustShape(64, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer answers.Buffer.Release()
	bound := 0
	m.bind = func(work func()) { bound++; work() }
	team := newTeam(m)
	team.in, team.out, team.rows = tensor.Pointer(in), tensor.Pointer(answers), 64
	if got := cores.Take(5, m.cores); got != 1 {
		t.Fatalf("took %d cores, one was free", got)
	}
	if got := cores.Take(1, m.cores); got != 0 {
		t.Fatalf("took %d cores, none was free", got)
	}
	team.helpers = 1
	team.ended.Add(1)
	go team.help()
	team.Close()
	if team.rows != 0 || team.busy != 0 || team.helpers != 0 {
		t.Errorf("the helper left %d rows, %d busy, %d helpers", team.rows, team.busy, team.helpers)
	}
	if bound != 1 {
		t.Errorf("the helper was bound %d times", bound)
	}
	values, err := tensor.View[float32](answers)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(values, 0) {
		t.Error("the helper left rows without an answer")
	}
}

// TestPanics lets a helper panic, and the caller of a Run: either way the Run panics in its caller, who can contain that,
// and every core is given back.
func TestPanics(t *testing.T) {
	e := randomForest(rand.New(rand.NewPCG(1, 5)), shapes["depth 3"])
	for _, helper := range []bool{true, false} {
		m := shared(t, e, 2, 2)
		i, err := m.NewInstance()
		if err != nil {
			t.Fatal(err)
		}
		const n = 64
		in, err := tensor.New("data", tensor.FP32, tensor.MustShape(n, int64(e.NumFeature)))
		if err != nil {
			t.Fatal(err)
		}
		out, err := tensor.New("output", tensor.FP32, tensor.MustShape(n, 1))
		if err != nil {
			t.Fatal(err)
		}
		one := i.(*instance)
		run := func() (failure any) {
			defer func() { failure = recover() }()
			if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
				t.Error(err)
			}
			return nil
		}
		own := one.own
		if helper {
			// The caller has taken rows and is slow: the helper gets the rest.
			one.team.mu.Lock()
			one.team.in, one.team.out, one.team.rows = tensor.Pointer(in), tensor.Pointer(out), n
			one.team.helpers = 1
			one.team.mu.Unlock()
			m.spares.put(&workspace{})
			cores.Enter()
			one.team.ended.Add(1)
			one.team.help()
			func() {
				defer func() {
					if recover() == nil {
						t.Error("a helper has panicked, and nobody knows")
					}
				}()
				one.team.wait()
			}()
			m.spares.free = nil // the broken one
		} else {
			m.cores = 1 // no helper takes all rows first
			one.own = &workspace{}
			if run() == nil {
				t.Error("a Run without a workspace did not panic")
			}
			m.cores, one.own = 2, own
		}
		if failure := run(); failure != nil {
			t.Errorf("the next Run panicked, too: %v", failure)
		}
		if err := errors.Join(i.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		in.Buffer.Release()
		out.Buffer.Release()
		if n := cores.InUse(); n != 0 {
			t.Errorf("%d cores are still in use", n)
		}
	}
}

// TestThreadsAllocate nothing, once the helpers have their workspaces.
func TestThreadsAllocate(t *testing.T) {
	e := randomForest(rand.New(rand.NewPCG(1, 5)), shapes["depth 6"])
	m := shared(t, e, 2, 2)
	defer m.Close()
	r := backendtest.NewRunner(t, m)
	rows := make([]float32, 512*e.NumFeature)
	for range 100 { // until a helper was early enough to need a workspace
		r.Run(rows)
		time.Sleep(time.Millisecond)
	}
	r.Close()
	checkAllocations(t, m)
}
