// Package models gives benchmarks the models they measure.
package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
	"github.com/picket-ml/picket/tensor"
)

// Model is an artifact folder and rows for it.
type Model struct {
	Name     string
	Made     string // by what
	Dir      string
	Features int
}

// TestRows is how many rows Rows gives.
const TestRows = 10_000

// Demo is the model of examples/demo, compiled for this host.
func Demo(ctx context.Context) (Model, error) {
	return compiled(ctx, "demo", filepath.Join(testkit.ModuleRoot(), "examples/demo/fraud.ubj"))
}

// Trained is a model of so many trees, trained on first use and compiled for
// this host.
func Trained(ctx context.Context, trees, depth, features int) (Model, error) {
	name := fmt.Sprintf("%dx%dx%d", trees, depth, features)
	train := exec.CommandContext(ctx, filepath.Join(testkit.ModuleRoot(), "bench/models/train.sh"),
		name, strconv.Itoa(trees), strconv.Itoa(depth), strconv.Itoa(features))
	train.Stderr = os.Stderr
	if err := train.Run(); err != nil {
		return Model{}, fmt.Errorf("training model %s: %w", name, err)
	}
	return compiled(ctx, name, filepath.Join(cache(), name+".ubj"))
}

// Fixture is an artifact that Treelite 0.93 made of a model of the tests.
func Fixture() Model {
	return Model{Name: "fraud", Made: "treelite-0.93", Dir: filepath.Join(testkit.ModuleRoot(), "internal/testkit/testdata/treelite/fraud-tl0.93"), Features: 30}
}

func cache() string { return filepath.Join(testkit.ModuleRoot(), ".cache/bench") }

func compiled(ctx context.Context, name, source string) (Model, error) {
	if err := os.MkdirAll(cache(), 0o755); err != nil {
		return Model{}, fmt.Errorf("making the benchmarks' cache: %w", err)
	}
	target := string(hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true}).CPU.Level)
	dir := filepath.Join(cache(), name+"-"+target)
	result, err := compile.Run(ctx, compile.Options{Source: source, Out: dir, Target: target, Force: true})
	if err != nil {
		return Model{}, err
	}
	return Model{Name: name, Made: "picket", Dir: dir, Features: result.Features}, nil
}

// LibDLR is where make fixtures puts the real libdlr 1.6.0.
func LibDLR() string { return filepath.Join(testkit.ModuleRoot(), ".cache/libdlr/1.6.0/libdlr.so") }

// Open makes an instance of the artifact in dir with one backend, on this host
// less what mask names. The caller calls the function to close both.
func Open(ctx context.Context, b engine.Backend, dir, mask string) (engine.Instance, func() error, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the artifact: %w", err)
	}
	a, err := engine.NewArtifact(dir, root)
	if err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	defer a.Close()
	host := hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true, Mask: mask})
	model, err := b.Open(ctx, a, engine.OpenOptions{Host: host, Threads: 1})
	if err != nil {
		return nil, nil, err
	}
	instance, err := model.NewInstance()
	if err != nil {
		return nil, nil, errors.Join(err, model.Close())
	}
	return instance, func() error { return errors.Join(instance.Close(), model.Close()) }, nil
}

// Rows is TestRows rows for a model of that many features, with 5% of the
// values missing. Exact zeros are replaced by 1e-40, because libdlr 1.6 would
// take them for missing and walk other paths.
func Rows(features int) (tensor.Tensor, error) {
	t, err := tensor.New("data", tensor.FP32, tensor.MustShape(TestRows, int64(features)))
	if err != nil {
		return t, err
	}
	copy(t.Bytes(), tensor.AsBytes(testkit.RowsNoZeros(TestRows, features)))
	return t, nil
}
