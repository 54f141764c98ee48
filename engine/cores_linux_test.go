package engine_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
)

// opening is a backend that keeps what it was opened with.
type opening struct {
	*enginetest.Backend
	options engine.OpenOptions
}

func (o *opening) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	o.options = options
	return o.Backend.Open(ctx, a, options)
}

// allowed are the CPUs that this process may use.
func allowed(t *testing.T) []int {
	t.Helper()
	cpus := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}).CPU.Affinity
	if len(cpus) == 0 {
		t.Fatal("the kernel does not say which CPUs this process may use")
	}
	return cpus
}

// mask is which CPUs the calling thread may use.
func mask(t *testing.T) string {
	t.Helper()
	cpus, err := hw.ThreadCPUs(0)
	if err != nil {
		t.Error(err)
	}
	return hw.FormatCPUs(cpus)
}

// masks counts this process's threads by the CPUs that they may use.
func masks(t *testing.T) map[string]int {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(text), "Cpus_allowed_list:")
		list, _, _ := strings.Cut(after, "\n")
		counts[strings.TrimSpace(list)]++
	}
	return counts
}

// A model that is to keep to some CPUs does, on threads of its own; all others stay
// as they were.
func TestCores(t *testing.T) {
	cpus := allowed(t)
	all, one := hw.FormatCPUs(cpus), strconv.Itoa(cpus[len(cpus)-1])
	for name, p := range map[string]engine.Properties{"inline": inline, "queued": {}, "anywhere": {Anywhere: true}} {
		t.Run(name, func(t *testing.T) {
			if got := mask(t); got != all {
				t.Fatalf("this thread may use the CPUs %s of %s", got, all)
			}
			var mu sync.Mutex
			var ran []string
			b := &opening{Backend: enginetest.New(enginetest.Script{Properties: p, OnRun: func(int) error {
				mu.Lock()
				defer mu.Unlock()
				ran = append(ran, mask(t))
				return nil
			}})}
			host := &hw.Host{CPU: hw.CPU{CoresAllowed: 8, Affinity: cpus}}
			e := newEngine(t, engine.Options{Host: host, Backends: []engine.Backend{b}})
			load(t, e, "m", engine.ModelOptions{Cores: one})
			for range 10 {
				predict(t, e, "m", 1, 1, 0)
			}
			if got := mask(t); got != all {
				t.Errorf("the caller's thread may use the CPUs %s of %s now", got, all)
			}
			if !slices.Equal(slices.Compact(ran), []string{one}) {
				t.Errorf("it ran on the CPUs %q, not on %s", ran, one)
			}
			d := e.List()[0]
			if s := stats(t, e, "m"); s.InlineRuns != 0 || d.Inline || d.Options.Instances != 1 || d.Options.Threads != 1 || b.options.Threads != 1 {
				t.Errorf("%d runs were inline; the model is described as %+v", s.InlineRuns, d)
			}
			if now := masks(t); len(cpus) > 1 && now[one] != 1 {
				t.Errorf("the threads may use the CPUs %v: one is to be bound to %s", now, one)
			}

			within := make(chan string, 1)
			go b.options.Bind(func() { within <- mask(t) })
			if got := <-within; got != one {
				t.Errorf("what a backend has bound runs on the CPUs %s, not on %s", got, one)
			}
			if err := e.Unload(t.Context(), "m"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "no thread is bound any more", func() bool { now := masks(t); return len(now) == 1 && now[all] > 0 })
		})
	}
}

// Bind leaves the thread as it was.
func TestBindGivesTheThreadBack(t *testing.T) {
	cpus := allowed(t)
	b := &opening{Backend: enginetest.New(enginetest.Script{})}
	e := newEngine(t, engine.Options{Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 2, Affinity: cpus}}, Backends: []engine.Backend{b}})
	load(t, e, "free", engine.ModelOptions{})
	if b.options.Bind != nil {
		t.Error("a model that may use all CPUs has something to bind")
	}
	load(t, e, "m", engine.ModelOptions{Cores: strconv.Itoa(cpus[0])})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.options.Bind(func() {})
	if got := mask(t); got != hw.FormatCPUs(cpus) {
		t.Errorf("the thread may use the CPUs %s of %s now", got, hw.FormatCPUs(cpus))
	}
}

func TestCoresRefusals(t *testing.T) {
	host := func(cpus ...int) *hw.Host {
		return &hw.Host{CPU: hw.CPU{CoresAllowed: 2, Affinity: cpus, AffinityReason: "nobody says"}}
	}
	for _, c := range []struct {
		cores, want string
		host        *hw.Host
	}{
		{"2", "may use the CPUs 0-1 only", host(0, 1)},
		{"0-2", "may use the CPUs 0-1 only", host(0, 1)},
		{"0", "is not known: nobody says", host()},
		{"1-0", "does not ascend", host(0, 1)},
		{"0,0", "does not ascend", host(0, 1)},
		{"one", "write ascending numbers", host(0, 1)},
		{" ", "names no CPU", host(0, 1)},
		{"0-4000000000", "is not a CPU number", host(0, 1)},
	} {
		e := newEngine(t, engine.Options{Host: c.host}, enginetest.New(enginetest.Script{}))
		_, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{Cores: c.cores})
		if !errors.Is(err, engine.ErrInvalidInput) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("cores %q: %v, want %q", c.cores, err, c.want)
		}
		if _, err := engine.New(engine.Options{Host: c.host, Source: enginetest.Source{Dir: t.TempDir()}, Defaults: engine.ModelOptions{Cores: c.cores}}); !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("cores %q for all: %v, want %q", c.cores, err, c.want)
		}
	}
}

// Instances on threads of their own have them wake before threads that are busy.
func TestInstancesWakeSoon(t *testing.T) {
	slice := func() uint64 {
		a, err := unix.SchedGetAttr(0, 0)
		if err != nil {
			t.Error(err)
			return 0
		}
		return a.Runtime
	}
	want := make(chan uint64)
	go func() { // the thread is not unlocked, and ends with the goroutine
		runtime.LockOSThread()
		if err := hw.WakeSoon(); err != nil {
			t.Error(err)
		}
		want <- slice()
	}()
	got := make(chan uint64, 1)
	e := newEngine(t, engine.Options{}, enginetest.New(enginetest.Script{OnRun: func(int) error { got <- slice(); return nil }}))
	load(t, e, "m", engine.ModelOptions{Instances: 1})
	predict(t, e, "m", 1, 1, 0)
	if got, want := <-got, <-want; got != want {
		t.Errorf("the instance's thread has a slice of %d ns, want %d", got, want)
	}
}
