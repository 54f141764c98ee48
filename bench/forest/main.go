//go:build cgo && linux

// Command forest measures backends/forest, every family of its kernels that the processor has, against what runs the
// artifact that was compiled from the same model: backends/treelite, a C loop that calls predict, and libdlr where it is on
// this machine. JSON goes to standard output.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// testRows is how many different rows there are, manyRows the largest call.
const (
	testRows = 65_536
	manyRows = 65_536
)

func main() {
	// libdlr's threads would compete with the other subjects for the cores.
	err := os.Setenv("OMP_NUM_THREADS", "1")
	if err == nil {
		err = run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-forest:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	// libdlr keeps its last error per thread.
	runtime.LockOSThread()
	large, err := models.Trained(ctx, 500, 6, 30)
	if err != nil {
		return err
	}
	out := report.New()
	var results []report.Kernel
	for _, kind := range []struct {
		name string
		rows func(n, cols int) []float32
	}{{"5% missing", testkit.RowsNoZeros}, {"none missing", testkit.RowsNoMissing}} {
		rows := kind.rows(testRows, large.Features)
		for i, v := range rows {
			if v == 0 { // libdlr 1.6 would take it for missing and walk other paths
				rows[i] = 1e-40
			}
		}
		kernels, err := measure(ctx, large, kind.name, rows, out)
		if err != nil {
			return fmt.Errorf("measuring model %s: %w", large.Name, err)
		}
		results = append(results, kernels...)
	}
	out.Results = results
	return out.Write()
}

// subject is something that predicts, with its own place for answers.
type subject struct {
	interleave.Subject
	answers tensor.Tensor
	slow    bool // left out of the largest calls
	close   func() error
}

func measure(ctx context.Context, m models.Model, kind string, values []float32, out *report.Report) (results []report.Kernel, err error) {
	rows, err := tensor.New("data", tensor.FP32, tensor.MustShape(testRows, int64(m.Features)))
	if err != nil {
		return nil, err
	}
	defer rows.Buffer.Release()
	copy(rows.Bytes(), tensor.AsBytes(values))
	var failed error
	subjects, err := open(ctx, m, rows, &failed)
	defer func() {
		for _, s := range subjects {
			s.answers.Buffer.Release()
			err = errors.Join(err, s.close())
		}
	}()
	if err != nil {
		return nil, err
	}
	if err := compare(subjects, &failed); err != nil {
		return nil, err
	}
	for _, n := range []int{1, 8, 64, 1024, manyRows} {
		var turn []interleave.Subject
		for _, s := range subjects {
			if n < manyRows || !s.slow {
				turn = append(turn, s.Subject)
			}
		}
		plan := interleave.Plan{TestRows: testRows, Rows: n, Rounds: 9, Turn: 20 * time.Millisecond, Calls: 300 + 2000/n, Seed: 1}
		if n == manyRows {
			plan.Rounds, plan.Calls = 3, 5
		}
		for _, c := range interleave.Conditions() {
			us := map[string]float64{}
			for i, d := range c.Measure(turn, plan) {
				us[turn[i].Name] = float64(d.Nanoseconds()) / 1e3 / float64(n)
				results = append(results, report.Kernel{Model: m.Name + ", " + kind, Engine: turn[i].Name, Condition: c.Name, Rows: n, Cores: 1, USPerRow: us[turn[i].Name]})
			}
			for _, s := range turn {
				out.Tell(fmt.Sprintf("%s, %s, %d rows, %s, %s", m.Name, kind, n, c.Name, s.Name), math.Round(1000*us[s.Name])/1000, "us a row")
			}
			out.Promise(fmt.Sprintf("%s to treelite, %s, %s, %d rows, %s", turn[0].Name, m.Name, kind, n, c.Name),
				math.Round(10000*us[turn[0].Name]/us["treelite"])/10000, "ratio", 1)
		}
	}
	return results, failed
}

// open opens the model in every way there is. What it gives is to be closed even after an error.
func open(ctx context.Context, m models.Model, rows tensor.Tensor, failed *error) (subjects []subject, err error) {
	add := func(name string, slow bool, run func(from tensor.Tensor, to tensor.Tensor, n int) error, close func() error) error {
		answers, err := tensor.New(name, tensor.FP32, tensor.MustShape(testRows, 1))
		if err != nil {
			return errors.Join(err, close())
		}
		subjects = append(subjects, subject{interleave.Subject{Name: name, Run: func(from, n int) time.Duration {
			if e := run(rows.Rows(from, from+n), answers.Rows(from, from+n), n); e != nil {
				*failed = e
			}
			return 0
		}}, answers, slow, close})
		return nil
	}
	backend := func(name string, slow bool, b engine.Backend, mask string) error {
		instance, close, err := models.Open(ctx, b, m.Dir, mask)
		if err != nil {
			return err
		}
		in, out := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
		return add(name, slow, func(from, to tensor.Tensor, n int) error {
			in[0], out[0] = from, to
			return instance.Run(in, out, n)
		}, close)
	}
	var seen []string
	for _, mask := range []string{"", "avx512vbmi", "avx512f", "sse4.2", "neon"} {
		family := forest.Family(hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true, Mask: mask}))
		if slices.Contains(seen, family) {
			continue
		}
		seen = append(seen, family)
		if err := backend("forest "+family, false, forest.New(), mask); err != nil {
			return subjects, err
		}
	}
	if err := backend("treelite", false, treelite.New(), ""); err != nil {
		return subjects, err
	}
	artifact, err := native.Open(m.Dir)
	if err != nil {
		return subjects, err
	}
	if err := add("C loop", true, func(from, to tensor.Tensor, _ int) error { artifact.Run(from, to); return nil }, artifact.Close); err != nil {
		return subjects, err
	}
	return subjects, addLibDLR(m, add)
}

// addLibDLR adds libdlr where it was fetched.
func addLibDLR(m models.Model, add func(string, bool, func(tensor.Tensor, tensor.Tensor, int) error, func() error) error) error {
	path := models.LibDLR()
	if _, err := os.Stat(path); err != nil {
		fmt.Fprintln(os.Stderr, "bench-forest: without libdlr, which is not there (make fixtures fetches it)")
		return nil //nolint:nilerr // a peer that is absent is left out
	}
	library, err := cdlr.Open(path)
	if err != nil {
		return err
	}
	dlr, err := library.CreateModel(m.Dir, cdlr.CPU, 0)
	if err != nil {
		return errors.Join(err, library.Close())
	}
	shape := []int64{0, int64(m.Features)}
	return add("libdlr", true, func(from, to tensor.Tensor, n int) error {
		shape[0] = int64(n)
		err := dlr.SetInput("data", shape, tensor.Pointer(from))
		if err == nil {
			err = dlr.Run()
		}
		if err == nil {
			err = dlr.Output(0, tensor.Pointer(to))
		}
		return err
	}, func() error { return errors.Join(dlr.Close(), library.Close()) })
}

// compare wants the same answers of all, or the times mean nothing: the kernels of this program the same bits, the others
// within the last bits of the exponential function.
func compare(subjects []subject, failed *error) error {
	const some = 10_000
	for _, s := range subjects {
		s.Run(0, some)
	}
	if *failed != nil {
		return *failed
	}
	want, err := tensor.View[float32](subjects[0].answers.Rows(0, some))
	if err != nil {
		return err
	}
	for _, s := range subjects[1:] {
		got, err := tensor.View[float32](s.answers.Rows(0, some))
		if err != nil {
			return err
		}
		for i := range want {
			if math.Abs(float64(got[i]-want[i])) > 1e-6 {
				return fmt.Errorf("row %d: %s answers %v, %s %v", i, subjects[0].Name, want[i], s.Name, got[i])
			}
		}
	}
	return nil
}
