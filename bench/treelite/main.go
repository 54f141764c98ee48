// Command treelite measures backends/treelite against libdlr on the same
// compiled tree artifacts, hot and shuffled. JSON goes to standard output.
//
// A call is everything from rows in memory to answers in memory, made from Go as
// a server in Go makes it: one call into C for treelite, three for libdlr
// (SetDLRInput, RunDLRModel, GetDLROutput), because its interface has no fewer. A C
// program would save libdlr two of those crossings, which is at most 0.1 us of the
// microsecond that it takes for one row of a small model, and nothing at 64 rows.
// Both have one thread; libdlr with more is not measured.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/tensor"
)

func main() {
	program.Main("bench-treelite", func(ctx context.Context) error {
		// libdlr's threads would compete with the other subject for the cores.
		if err := os.Setenv("OMP_NUM_THREADS", "1"); err != nil {
			return fmt.Errorf("telling libdlr its threads: %w", err)
		}
		return run(ctx)
	})
}

func run(ctx context.Context) (err error) {
	// libdlr keeps its last error per thread.
	runtime.LockOSThread()
	demo, err := models.Demo(ctx)
	if err != nil {
		return err
	}
	large, err := models.Trained(ctx, 500, 6, 30)
	if err != nil {
		return err
	}
	library, err := cdlr.Open(models.LibDLR())
	if err != nil {
		return fmt.Errorf("%w (make fixtures fetches it)", err)
	}
	defer func() { err = errors.Join(err, library.Close()) }()

	out := report.New()
	var results []report.Kernel
	for _, m := range []models.Model{models.Fixture(), demo, large} {
		kernels, err := measure(ctx, m, library, out)
		if err != nil {
			return fmt.Errorf("measuring model %s: %w", m.Name, err)
		}
		results = append(results, kernels...)
	}
	out.Results = results
	return out.Write()
}

func measure(ctx context.Context, m models.Model, library *cdlr.Library, out *report.Report) (results []report.Kernel, err error) {
	rows, err := testrows.New(m.Features)
	if err != nil {
		return nil, err
	}
	defer rows.Buffer.Release()
	ours, theirs, err := twoAnswers()
	if err != nil {
		return nil, err
	}
	defer ours.Buffer.Release()
	defer theirs.Buffer.Release()

	instance, closeOurs, err := models.Open(ctx, treelite.New(), m.Dir, "", 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeOurs()) }()
	dlr, err := library.CreateModel(m.Dir, cdlr.CPU, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dlr.Close()) }()

	var failed error
	in, result := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
	shape := []int64{0, int64(m.Features)}
	subjects := []interleave.Subject{
		{Name: "treelite", Run: func(from, n int) time.Duration {
			in[0], result[0] = rows.Rows(from, from+n), ours.Rows(from, from+n)
			if e := instance.Run(in, result, n); e != nil {
				failed = e
			}
			return 0
		}},
		{Name: "libdlr", Run: func(from, n int) time.Duration {
			shape[0] = int64(n)
			e := dlr.SetInput("data", shape, tensor.Pointer(rows.Rows(from, from+n)))
			if e == nil {
				e = dlr.Run()
			}
			if e == nil {
				e = dlr.Output(0, tensor.Pointer(theirs.Rows(from, from+n)))
			}
			if e != nil {
				failed = e
			}
			return 0
		}},
	}

	// The same answers, bit for bit, or the times mean nothing.
	for _, s := range subjects {
		s.Run(0, models.TestRows)
	}
	if failed != nil {
		return nil, failed
	}
	if string(ours.Bytes()) != string(theirs.Bytes()) {
		return nil, errors.New("the answers of treelite and libdlr differ")
	}

	for _, n := range []int{1, 8, 64, 1024} {
		plan := interleave.Plan{TestRows: models.TestRows, Rows: n, Rounds: 15, Turn: 30 * time.Millisecond, Calls: 300 + 3000/n, Seed: 1}
		for _, c := range interleave.Conditions() {
			var us [2]float64
			for i, d := range c.Measure(subjects, plan) {
				us[i] = float64(d.Nanoseconds()) / 1e3 / float64(n)
				results = append(results, report.Kernel{Model: m.Name, Engine: subjects[i].Name, Condition: c.Name, Rows: n, Cores: 1, USPerRow: us[i]})
			}
			out.Promise(fmt.Sprintf("treelite to libdlr, %s by %s, %d rows, %s (%.2f to %.2f us a row)", m.Name, m.Made, n, c.Name, us[0], us[1]),
				math.Round(1000*us[0]/us[1])/1000, "ratio", 1)
		}
	}
	return results, failed
}

func twoAnswers() (a, b tensor.Tensor, err error) {
	shape := tensor.MustShape(models.TestRows, 1)
	if a, err = tensor.New("treelite", tensor.FP32, shape); err != nil {
		return a, b, err
	}
	if b, err = tensor.New("libdlr", tensor.FP32, shape); err != nil {
		a.Buffer.Release()
	}
	return a, b, err
}
