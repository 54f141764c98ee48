//go:build cgo && linux

package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/tensor"
)

// openLibDLR opens an artifact with libdlr 1.6.0, through its C API: SetDLRInput, RunDLRModel, GetDLROutput.
func openLibDLR(artifact func(context.Context, Task) (string, error)) func(context.Context, Task) (*Instance, error) {
	return func(ctx context.Context, t Task) (*Instance, error) {
		dir, err := artifact(ctx, t)
		if err != nil {
			return nil, err
		}
		library, err := cdlr.Open(models.LibDLR())
		if err != nil {
			return nil, err
		}
		// It takes its number of threads from the environment when it opens a model.
		if err := os.Setenv("OMP_NUM_THREADS", strconv.Itoa(t.Threads)); err != nil {
			return nil, errors.Join(fmt.Errorf("telling libdlr its threads: %w", err), library.Close())
		}
		dlr, err := library.CreateModel(dir, cdlr.CPU, 0)
		if err != nil {
			return nil, errors.Join(err, library.Close())
		}
		r, shape := t.Rows, []int64{0, int64(t.Model.Features)}
		run := func(from, n int) (time.Duration, error) {
			shape[0] = int64(n)
			err := dlr.SetInput("data", shape, tensor.Pointer(r.Single.Rows(from, from+n)))
			if err == nil {
				err = dlr.Run()
			}
			if err == nil {
				err = dlr.Output(0, tensor.Pointer(r.Answers.Rows(from, from+n)))
			}
			return 0, err
		}
		answers := func(from, n int) ([]float32, error) {
			if _, err := run(from, n); err != nil {
				return nil, err
			}
			return r.answers(from, n)
		}
		return &Instance{
			Run: run, Answers: answers, Close: func() error { return errors.Join(dlr.Close(), library.Close()) },
		}, nil
	}
}
