//go:build cgo && linux

package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"

	backend "github.com/picket-ml/picket/backends/cuda"
)

// maxRows is the most of one call.
const maxRows = 1 << 20

// subjects are the backends that are compared.
type subjects struct {
	host        *hw.Host
	forest      engine.Backend
	gpu, serial *backend.Backend
	on          string // the UUID of the GPU that is measured, of several; empty for any
}

// opened is a model with one instance.
type opened struct {
	model    engine.Model
	instance engine.Instance
	in, out  int // values of a row
}

func (s *subjects) open(ctx context.Context, b engine.Backend, dir string) (*opened, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	a, err := engine.NewArtifact("file://"+dir, root)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	m, err := b.Open(ctx, a, engine.OpenOptions{Host: s.host, Threads: max(1, int(s.host.CPU.CoresAllowed)), GPUs: s.on})
	if err != nil {
		return nil, fmt.Errorf("opening the model with %s: %w", b.Name(), err)
	}
	i, err := m.NewInstance()
	if err != nil {
		return nil, fmt.Errorf("making an instance of %s: %w", b.Name(), err)
	}
	g := m.Signature()
	return &opened{m, i, int(g.Inputs[0].Dims[1]), int(g.Outputs[0].Dims[1])}, nil
}

func (o *opened) close() {
	for _, c := range []interface{ Close() error }{o.instance, o.model} {
		if err := c.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "closing:", err)
		}
	}
}

// room is a tensor of so many rows: in memory of the model's own, or in ordinary.
func (o *opened) room(rows, values int, own bool) (tensor.Tensor, error) {
	shape, err := tensor.NewShape(int64(rows), int64(values))
	if err != nil {
		return tensor.Tensor{}, err
	}
	if a, ok := o.model.(engine.Allocator); ok && own {
		b, err := a.Allocate(4 * rows * values)
		if err != nil {
			return tensor.Tensor{}, err
		}
		return tensor.In("x", tensor.FP32, shape, b, 0)
	}
	return tensor.New("x", tensor.FP32, shape)
}

// fill fills rows with what thresholds divide, one value in 20 missing.
func fill(t tensor.Tensor) error {
	values, err := tensor.View[float32](t)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(3, 4))
	for i := range values {
		values[i] = float32(random.NormFloat64())
		if random.IntN(20) == 0 {
			values[i] = float32(math.NaN())
		}
	}
	return nil
}

// reference is rows and backend forest's answers for them, with the model that gave them. The caller closes the one and releases the others.
func (s *subjects) reference(ctx context.Context, dir string, rows int) (o *opened, in, out tensor.Tensor, err error) {
	if o, err = s.open(ctx, s.forest, dir); err != nil {
		return nil, in, out, err
	}
	defer func() {
		if err != nil {
			in.Buffer.Release()
			out.Buffer.Release()
			o.close()
		}
	}()
	if in, err = o.room(rows, o.in, false); err == nil {
		out, err = o.room(rows, o.out, false)
	}
	if err == nil {
		err = fill(in)
	}
	if err == nil {
		err = o.instance.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, rows)
	}
	return o, in, out, err
}

// same wants the answers of the GPU to have the bits of backend forest's.
func (s *subjects) same(ctx context.Context, dir string, rows int) error {
	o, in, want, err := s.reference(ctx, dir, rows)
	if err != nil {
		return err
	}
	defer o.close()
	defer in.Buffer.Release()
	defer want.Buffer.Release()
	for _, b := range []engine.Backend{s.gpu, s.serial} {
		for _, own := range []bool{false, true} {
			if err := s.compare(ctx, b, dir, in, want, rows, own); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare runs the rows at once, and the first of them in batches of other sizes.
func (s *subjects) compare(ctx context.Context, b engine.Backend, dir string, in, want tensor.Tensor, rows int, own bool) error {
	o, err := s.open(ctx, b, dir)
	if err != nil {
		return err
	}
	defer o.close()
	for _, n := range []int{rows, 1, 32, 33, 700, 2048, min(2049, rows), min(9001, rows)} {
		if err := ctx.Err(); err != nil {
			return err
		}
		from, err := o.room(n, o.in, own)
		if err != nil {
			return err
		}
		defer from.Buffer.Release()
		to, err := o.room(n, o.out, own)
		if err != nil {
			return err
		}
		defer to.Buffer.Release()
		copy(from.Bytes(), in.Bytes())
		if err := o.instance.Run([]tensor.Tensor{from}, []tensor.Tensor{to}, n); err != nil {
			return err
		}
		got, expected := to.Bytes(), want.Bytes()[:to.Size()]
		for i := range got {
			if got[i] != expected[i] {
				row := i / 4 / o.out
				return fmt.Errorf("row %d of %d (pinned %v) is % x from the GPU and % x from backend forest", row, n, own,
					got[i&^3:i&^3+4], expected[i&^3:i&^3+4])
			}
		}
	}
	return nil
}

// kernels are what was measured.
type kernels []report.Kernel

// of is the time for a row, in microseconds; NaN where it was not measured.
func (k kernels) of(engine string, rows int) float64 {
	for _, one := range k {
		if one.Engine == engine && one.Rows == rows {
			return one.USPerRow
		}
	}
	return math.NaN()
}

// How often and how long at most something is repeated, the subjects taking turns.
const (
	turns    = 15
	turnTime = 8 * time.Second
)

// measure times all subjects on the same rows, taking turns.
func (s *subjects) measure(ctx context.Context, dir string, sizes []int) (kernels, error) {
	cores := max(1, int(s.host.CPU.CoresAllowed))
	list := []struct {
		name  string
		b     engine.Backend
		own   bool
		cores int
	}{
		{"forest", s.forest, false, cores},
		{"cuda", s.gpu, true, 0},
		{"cuda, from memory that is not pinned", s.gpu, false, 0},
		{"cuda, nothing overlaps", s.serial, true, 0},
	}
	var all kernels
	fmt.Fprintf(os.Stderr, "\n%-40s %9s %12s\n", "engine", "rows", "us per row")
	for _, n := range sizes {
		type subject struct {
			o       *opened
			in, out tensor.Tensor
			us      []float64
		}
		subjects := make([]subject, len(list))
		err := func() error {
			for i, l := range list {
				o, err := s.open(ctx, l.b, dir)
				if err != nil {
					return err
				}
				subjects[i].o = o
				if subjects[i].in, err = o.room(n, o.in, l.own); err != nil {
					return err
				}
				if subjects[i].out, err = o.room(n, o.out, l.own); err != nil {
					return err
				}
				if err := fill(subjects[i].in); err != nil {
					return err
				}
			}
			began := time.Now()
			for turn := range turns + 2 {
				if turn > 4 && time.Since(began) > turnTime {
					break
				}
				for i := range subjects {
					if err := ctx.Err(); err != nil {
						return err
					}
					x := &subjects[i]
					// The second of two is timed, as FIL's program times calls that follow each other: the first finds the GPU asleep.
					var start time.Time
					for range 2 {
						start = time.Now()
						if err := x.o.instance.Run([]tensor.Tensor{x.in}, []tensor.Tensor{x.out}, n); err != nil {
							return err
						}
					}
					if turn > 1 { // the first warm it up
						x.us = append(x.us, float64(time.Since(start).Nanoseconds())/1e3/float64(n))
					}
				}
			}
			return nil
		}()
		for _, x := range subjects {
			x.in.Buffer.Release()
			x.out.Buffer.Release()
			if x.o != nil {
				x.o.close()
			}
		}
		if err != nil {
			return nil, err
		}
		for i, l := range list {
			us := subjects[i].us
			slices.Sort(us)
			k := report.Kernel{Model: "large", Engine: l.name, Condition: "hot", Rows: n, Cores: l.cores, USPerRow: us[len(us)/2]}
			fmt.Fprintf(os.Stderr, "%-40s %9d %12.4f\n", k.Engine, n, k.USPerRow)
			all = append(all, k)
		}
	}
	return all, nil
}

// copyRate is how many bytes a second a run takes in, in GB/s, of a model that is nothing but copying.
func (s *subjects) copyRate(ctx context.Context, dir string) (float64, error) {
	o, err := s.open(ctx, s.gpu, dir)
	if err != nil {
		return 0, err
	}
	defer o.close()
	in, err := o.room(maxRows, o.in, true)
	if err != nil {
		return 0, err
	}
	defer in.Buffer.Release()
	out, err := o.room(maxRows, o.out, true)
	if err != nil {
		return 0, err
	}
	defer out.Buffer.Release()
	if err := fill(in); err != nil {
		return 0, err
	}
	best := 0.0
	for range turns {
		start := time.Now()
		if err := o.instance.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, maxRows); err != nil {
			return 0, err
		}
		best = max(best, float64(in.Size())/time.Since(start).Seconds()/1e9)
	}
	return best, nil
}
