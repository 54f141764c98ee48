//go:build cgo && linux

package peers

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
)

// openNative opens what native calls in this process.
func openNative(k native.Kind, t Task, library, model string) (*Instance, error) {
	p, err := native.OpenPeer(k, native.Task{
		Library: library, Model: model, Features: t.Model.Features, Outputs: t.Model.Outputs(), Threads: t.Threads,
	})
	if err != nil {
		return nil, err
	}
	r := t.Rows
	run := func(from, n int) (time.Duration, error) {
		return p.Run(r.Single.Rows(from, from+n), r.Wide.Rows(from, from+n), r.Answers.Rows(from, from+n))
	}
	answers := func(from, n int) ([]float32, error) {
		if _, err := run(from, n); err != nil {
			return nil, err
		}
		return r.answers(from, n)
	}
	return &Instance{Run: run, Answers: answers, Close: p.Close}, nil
}

// oneThread refuses what has no threads of its own.
func oneThread(t Task) error {
	if t.Threads > 1 {
		return fmt.Errorf("%w: it has no threads of its own", ErrUnsuited)
	}
	return nil
}

func openDirect(artifact func(context.Context, Task) (string, error)) func(context.Context, Task) (*Instance, error) {
	return func(ctx context.Context, t Task) (*Instance, error) {
		if err := oneThread(t); err != nil {
			return nil, err
		}
		dir, err := artifact(ctx, t)
		if err != nil {
			return nil, err
		}
		return openNative(native.Treelite, t, filepath.Join(dir, "compiled.so"), "")
	}
}

func openTL2cgen(ctx context.Context, t Task) (*Instance, error) {
	if err := oneThread(t); err != nil {
		return nil, err
	}
	library, err := form(ctx, "tl2cgen", t)
	if err != nil {
		return nil, err
	}
	return openNative(native.TL2cgen, t, library, "")
}

func openLleaves(ctx context.Context, t Task) (*Instance, error) {
	if t.Model.Library != models.LightGBM {
		return nil, fmt.Errorf("%w: it takes LightGBM's models only", ErrUnsuited)
	}
	if err := oneThread(t); err != nil {
		return nil, err
	}
	library, err := form(ctx, "lleaves", t)
	if err != nil {
		return nil, err
	}
	return openNative(native.Lleaves, t, library, "")
}

func openXGBoost(ctx context.Context, t Task) (*Instance, error) {
	if t.Model.Library != models.XGBoost {
		return nil, fmt.Errorf("%w: it takes its own models only", ErrUnsuited)
	}
	return openTrainer(ctx, native.XGBoost, t, "xgboost/lib/libxgboost.so")
}

func openLightGBM(ctx context.Context, t Task) (*Instance, error) {
	if t.Model.Library != models.LightGBM {
		return nil, fmt.Errorf("%w: it takes its own models only", ErrUnsuited)
	}
	return openTrainer(ctx, native.LightGBM, t, "lightgbm/lib/lib_lightgbm.so")
}

func openGTIL(ctx context.Context, t Task) (*Instance, error) {
	// It refuses more threads than OpenMP was given when the process started, which is one, for the others' sake.
	if t.Threads > 1 {
		return nil, fmt.Errorf("%w: its number of threads is the whole process's", ErrUnsuited)
	}
	return openTrainer(ctx, native.GTIL, t, "treelite/lib/libtreelite.so")
}

// openTrainer opens what reads the model file itself.
func openTrainer(ctx context.Context, k native.Kind, t Task, library string) (*Instance, error) {
	path, err := installed(library)
	if err != nil {
		return nil, err
	}
	model, err := t.Model.Train(ctx)
	if err != nil {
		return nil, err
	}
	return openNative(k, t, path, model)
}

func openONNXRuntime(ctx context.Context, t Task) (*Instance, error) {
	path, err := installed("onnxruntime/capi/libonnxruntime.so.*")
	if err != nil {
		return nil, err
	}
	if t.Model.Library == models.ONNX {
		return openNative(native.ONNXRuntime, t, path, t.Model.File)
	}
	model, err := form(ctx, "onnx", t)
	if err != nil {
		return nil, err
	}
	return openNative(native.ONNXRuntime, t, path, model)
}

func openOneDAL(ctx context.Context, t Task) (*Instance, error) {
	model, err := form(ctx, "onedal", t)
	if err != nil {
		return nil, err
	}
	return openNative(native.OneDAL, t, filepath.Join(environment(), "lib/libpicket_onedal.so"), model)
}
