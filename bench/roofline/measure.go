//go:build cgo && linux

package roofline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/bench/counters"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// measured are the models: the usual one, and one whose tables stay in the first caches.
func measured() []synthetic.Model {
	return []synthetic.Model{
		{Name: "500x6x30", Trees: 500, Depth: 6, Features: 30},
		{Name: "50x6x30", Trees: 50, Depth: 6, Features: 30},
	}
}

// batch is how many rows a call of the slice kernel has.
const batch = 4096

// Measure finds out what one core of this host can do, and what the kernels make of it. It takes some ten seconds.
func Measure(ctx context.Context) (*Report, error) {
	host := hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true})
	r := &Report{
		Schema: Schema, Version: Version, Time: time.Now().UTC(), Processor: host.CPU.Model, Level: string(host.CPU.Level),
		Notes: []string{
			"Bandwidth and operations are measured, the best of several tries on one core; what else ran meanwhile makes them too low, never too high.",
			"Bytes and operations of kernels are counted from the layout of the tables for complete trees, not measured: what a kernel reads twice, and what it does beside looking up and comparing, such as addition, is not in them. A kernel's share of the roof is an estimate from below.",
			"An operation is one on a whole register of the kernel's width, and the roof is of comparisons of bytes; permutes and selections have a roof of their own, on some processors a lower one.",
		},
	}
	family := forest.Family(host)
	width := map[string]int{"avx512vbmi": 64, "avx512bw": 64, "avx2": 32, "neon": 16}[family]
	if width == 0 {
		return nil, fmt.Errorf("measuring a roofline: this processor gets the portable kernel alone, which has no vector operations to count")
	}
	width = native.VectorBytes(width)
	for _, area := range areas(host) {
		rate, err := native.ReadPeak(area.Bytes, width)
		if err != nil {
			return nil, err
		}
		area.BytesPerS = rate
		r.Bandwidth = append(r.Bandwidth, area)
	}
	r.Operations = []Operation{{Name: fmt.Sprintf("comparisons of %d bytes at once", width), Bits: 8 * width, PerS: native.ComparePeak(width)}}
	why := ""
	for _, m := range measured() {
		kernels, reason, err := r.kernels(ctx, host, m, family, width)
		if err != nil {
			return nil, err
		}
		r.Kernels, why = append(r.Kernels, kernels...), reason
	}
	if why != "" {
		r.Notes = append(r.Notes, "Instructions and cycles are missing: "+why+".")
	}
	return r, nil
}

// areas lie well within each of the caches, and far beyond the last.
func areas(host *hw.Host) []Bandwidth {
	var list []Bandwidth
	largest := int64(8 << 20)
	for _, c := range host.CPU.Caches {
		if c.Type == "instruction" || c.Size <= 0 {
			continue
		}
		size := c.Size / 2
		if c.Level == 3 { // of which others have parts
			size = min(size, 8<<20)
		}
		list = append(list, Bandwidth{Level: fmt.Sprintf("L%d", c.Level), Bytes: size})
		largest = max(largest, c.Size)
	}
	const most = 512 << 20
	return append(list, Bandwidth{Level: "memory", Bytes: min(4*largest, most)})
}

// kernels measures one model's. why says what keeps the counters from being read.
func (r *Report) kernels(ctx context.Context, host *hw.Host, m synthetic.Model, family string, width int) (list []Kernel, why string, err error) {
	dir, err := os.MkdirTemp("", "picket-roofline-*")
	if err != nil {
		return nil, "", fmt.Errorf("making a folder for a model: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := m.Write(dir); err != nil {
		return nil, "", err
	}
	instance, end, err := models.Open(ctx, forest.New(), dir, "", 1)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if endErr := end(); err == nil {
			err = endErr
		}
	}()
	in, err := tensor.New("data", tensor.FP32, tensor.MustShape(batch, int64(m.Features)))
	if err != nil {
		return nil, "", err
	}
	defer in.Buffer.Release()
	copy(in.Bytes(), tensor.AsBytes(synthetic.Rows(batch, m.Features)))
	out, err := tensor.New("out", tensor.FP32, tensor.MustShape(batch, 1))
	if err != nil {
		return nil, "", err
	}
	defer out.Buffer.Release()
	s := shape{m.Trees, m.Depth, m.Features}
	for _, k := range []struct {
		name  string
		rows  int
		count func(int) (float64, float64)
		how   string
	}{
		{family + " row", 1, s.rowKernel, "counted: a block and a line for each tree, two lines of thresholds for each feature"},
		{family + " slice", batch, s.sliceKernel, fmt.Sprintf("counted: a mask for each node, for %d rows at once", 8*width)},
	} {
		run := func() error { // all rows, in calls of the kernel's
			for from := 0; from < batch; from += k.rows {
				if err := instance.Run([]tensor.Tensor{in.Rows(from, from+k.rows)}, []tensor.Tensor{out.Rows(from, from+k.rows)}, k.rows); err != nil {
					return err
				}
			}
			return nil
		}
		ns, err := shortest(run)
		if err != nil {
			return nil, "", err
		}
		kernel := Kernel{Kernel: k.name, Model: m.Name, Rows: k.rows, NSPerRow: ns / batch, How: k.how}
		kernel.BytesPerRow, kernel.OperationsPerRow = k.count(width)
		if why, err = kernel.countInstructions(run); err != nil {
			return nil, "", err
		}
		list = append(list, kernel)
	}
	return list, why, nil
}

// shortest is the median of the fastest quarter of many runs: a roof is what is reached when nothing disturbs.
func shortest(run func() error) (float64, error) {
	var took []float64
	for start := time.Now(); time.Since(start) < time.Second || len(took) < 8; {
		began := time.Now()
		if err := run(); err != nil {
			return 0, err
		}
		took = append(took, float64(time.Since(began)))
	}
	slices.Sort(took)
	return took[len(took)/8], nil
}

// countInstructions asks the processor. why says why that is not to be had, as in most virtual machines.
func (k *Kernel) countInstructions(run func() error) (why string, err error) {
	set, err := counters.Open(0)
	if err != nil {
		return err.Error(), nil
	}
	defer set.Close()
	before, err := set.Read()
	if err != nil {
		return err.Error(), nil
	}
	const times = 20
	for range times {
		if err := run(); err != nil {
			return "", err
		}
	}
	after, err := set.Read()
	if err != nil {
		return err.Error(), nil
	}
	k.InstructionsPerRow = math.Round(float64(after.Instructions-before.Instructions) / times / batch)
	k.CyclesPerRow = math.Round(float64(after.Cycles-before.Cycles) / times / batch)
	return "", nil
}
