package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/hw"
)

// daemon is one that is measured. Outside its turns all its threads are stopped, so that it writes what it has captured in its own
// turns and not in those of others.
type daemon struct {
	name     string
	captured float64 // the fraction
	program  string
	process  *versus.Process
	ask      protocols.Ask
}

func (d *daemon) signal(s syscall.Signal) error {
	if err := unix.Kill(d.process.PID(), s); err != nil {
		return fmt.Errorf("sending the daemon that captures %s %v: %w", d.name, s, err)
	}
	return nil
}

// load is how daemons are asked.
type load struct {
	name, part      string        // part is what -only calls it
	clients, window int           // each client sends window requests with one write, and waits for all answers
	turn            time.Duration // of one daemon
	warmUp          time.Duration // before each, not counted
	turns           int           // of each daemon in a round
	rounds          int           // with the same processes
	lives           int           // how many times the daemons are started, each for so many rounds
	placed          placement
	daemons         int  // how many of them, from the first on
	floor           bool // has a turn, too
	judged          bool // promises are
}

// placement is which processors the clients and the daemons may use.
type placement struct{ clients, daemons []int }

// turn is what was seen of one daemon in one turn, or in those of a round.
type turn struct {
	Requests int           `json:"requests"`
	Took     time.Duration `json:"took_ns"`
	Daemon   time.Duration `json:"daemon_cpu_ns"`
	Clients  time.Duration `json:"clients_cpu_ns"`
	Kernel   time.Duration `json:"kernel_threads_cpu_ns"` // of the whole machine, whoever they worked for
	P50      time.Duration `json:"p50_ns"`                // of a client's writes and waits
	P99      time.Duration `json:"p99_ns"`

	latencies []time.Duration
}

// run is all rounds.
func (l load) run(ctx context.Context, dir string, daemons []*daemon, m models.Model, ask protocols.Ask, floor *floor) ([]series, error) {
	if err := hw.BindProcess(os.Getpid(), l.placed.clients); err != nil {
		return nil, err
	}
	var all []series
	for _, d := range daemons {
		all = append(all, series{Name: d.name})
	}
	if l.floor {
		all = append(all, series{Name: floorName})
	}
	random := rand.New(rand.NewPCG(1, uint64(l.window)))
	for range l.lives {
		if err := errors.Join(l.live(ctx, dir, daemons, m, ask, floor, random, all), os.RemoveAll(dir)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// live starts the daemons, has them and the floor take turns, in another order each time, puts what was seen in each round behind all, and
// stops the daemons.
func (l load) live(ctx context.Context, dir string, daemons []*daemon, m models.Model, ask protocols.Ask, floor *floor, random *rand.Rand, all []series) error {
	callers := make([][]protocols.Client, len(daemons))
	for i, d := range daemons {
		if err := d.start(ctx, filepath.Join(dir, strconv.Itoa(i)), len(daemons), m, ask); err != nil {
			return err
		}
		defer d.stop()
		for range l.clients {
			c, err := d.ask.Lane(l.window)()
			if err != nil {
				return fmt.Errorf("connecting to the daemon of %s: %w", d.name, err)
			}
			defer c.Close()
			callers[i] = append(callers[i], c)
		}
		if err := errors.Join(hw.BindProcess(d.process.PID(), l.placed.daemons), d.signal(syscall.SIGSTOP)); err != nil {
			return err
		}
	}
	kernel := newKernelThreads()
	defer kernel.close()
	for round := range l.rounds + 1 {
		sums := make([]turn, len(all))
		turns := l.turns
		if round == 0 {
			turns = 1 // in which memory is still found for everything, and which does not count
		}
		for range turns {
			for _, i := range random.Perm(len(all)) {
				var t turn
				var err error
				if i == len(daemons) {
					t, err = floor.turn(ctx, l.turn)
				} else {
					t, err = l.one(ctx, daemons[i], callers[i], kernel)
				}
				if err != nil {
					return fmt.Errorf("measuring %s: %w", all[i].Name, err)
				}
				sums[i].add(&t)
			}
		}
		for i := range all {
			if round > 0 {
				all[i].Turns = append(all[i].Turns, sums[i].whole())
			}
		}
	}
	return nil
}

// add adds another turn.
func (t *turn) add(other *turn) {
	t.Requests, t.Took = t.Requests+other.Requests, t.Took+other.Took
	t.Daemon, t.Clients, t.Kernel = t.Daemon+other.Daemon, t.Clients+other.Clients, t.Kernel+other.Kernel
	t.latencies = append(t.latencies, other.latencies...)
}

// whole is the turn with what only all of it tells, and without what that is made of.
func (t *turn) whole() turn {
	if len(t.latencies) > 0 {
		t.P50, t.P99 = interleave.Quantile(t.latencies, 0.5), interleave.Quantile(t.latencies, 0.99)
	}
	t.latencies = nil
	return *t
}

// one is one turn of a daemon, which is stopped before and after.
func (l load) one(ctx context.Context, d *daemon, callers []protocols.Client, kernel *kernelThreads) (t turn, err error) {
	if err := d.signal(syscall.SIGCONT); err != nil {
		return t, err
	}
	if _, err := l.ask(ctx, callers, l.warmUp); err != nil {
		return t, err
	}
	var before, after [3]time.Duration
	if before, err = clocks(d, kernel); err != nil {
		return t, err
	}
	start := time.Now()
	t.latencies, err = l.ask(ctx, callers, l.turn)
	t.Took = time.Since(start)
	if err != nil {
		return t, err
	}
	if after, err = clocks(d, kernel); err != nil {
		return t, err
	}
	t.Daemon, t.Clients, t.Kernel = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	t.Requests = len(t.latencies) * l.window
	return t, d.signal(syscall.SIGSTOP)
}

// ask has the clients ask for so long, and gives how long each call took.
func (l load) ask(ctx context.Context, callers []protocols.Client, long time.Duration) (latencies []time.Duration, err error) {
	var all sync.WaitGroup
	took, failed := make([][]time.Duration, len(callers)), make([]error, len(callers))
	for n, c := range callers {
		took[n] = make([]time.Duration, 0, 1<<16)
		all.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(n)))
			end := time.Now().Add(long)
			for now := time.Now(); now.Before(end); {
				c.Prepare(random)
				begun := time.Now()
				if failed[n] = c.Do(ctx); failed[n] != nil {
					return
				}
				now = time.Now()
				took[n] = append(took[n], now.Sub(begun))
				if _, failed[n] = c.Check(); failed[n] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	for n := range callers {
		if failed[n] != nil {
			return nil, failed[n]
		}
		latencies = append(latencies, took[n]...)
	}
	return latencies, nil
}

// clocks are the processors' times of the daemon, of this process, and of the threads of the kernel.
func clocks(d *daemon, kernel *kernelThreads) (all [3]time.Duration, err error) {
	if all[2], err = kernel.read(); err != nil {
		return all, err
	}
	if all[0], err = d.process.CPU(); err != nil {
		return all, err
	}
	all[1], err = versus.CPU(os.Getpid())
	return all, err
}

// kernelThreads are those that write and complete writes, for whomever.
type kernelThreads struct{ files []*os.File }

func newKernelThreads() *kernelThreads {
	k := &kernelThreads{}
	paths, _ := filepath.Glob("/proc/[0-9]*/comm") // the pattern is one
	for _, path := range paths {
		name, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		for _, begins := range [...]string{"kworker", "jbd2", "ksoftirqd"} {
			if strings.HasPrefix(string(name), begins) {
				if f, err := os.Open(filepath.Join(filepath.Dir(path), "schedstat")); err == nil {
					k.files = append(k.files, f)
				}
			}
		}
	}
	return k
}

func (k *kernelThreads) read() (sum time.Duration, err error) {
	var b [128]byte
	for _, f := range k.files {
		n, _ := f.ReadAt(b[:], 0)
		if n == 0 {
			continue // a worker that has ended: what it did is not told any more
		}
		var one int64
		if _, err := fmt.Sscan(string(b[:n]), &one); err != nil {
			return 0, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
		sum += time.Duration(one)
	}
	return sum, nil
}

func (k *kernelThreads) close() {
	for _, f := range k.files {
		_ = f.Close()
	}
}
