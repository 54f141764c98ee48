// Package models gives benchmarks the models they measure.
package models

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/picket-ml/picket/bench/source"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/packaging/compile"
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
	return compiled(ctx, "demo", filepath.Join(source.Root(), "examples/demo/fraud.ubj"), true)
}

// Trained is a model of so many trees, trained by XGBoost on first use and
// compiled for this host.
func Trained(ctx context.Context, trees, depth, features int) (Model, error) {
	s := Spec{Name: fmt.Sprintf("%dx%dx%d", trees, depth, features), Library: XGBoost, Trees: trees, Size: depth, Features: features, Classes: 2}
	trained, err := s.Train(ctx)
	if err != nil {
		return Model{}, err
	}
	return compiled(ctx, s.Name, trained, true)
}

// Fixture is an artifact that Treelite 0.93 made of a model of the tests.
func Fixture() Model {
	return Model{Name: "fraud", Made: "treelite-0.93", Dir: filepath.Join(source.Root(), "internal/testkit/testdata/treelite/fraud-tl0.93"), Features: 30}
}

// Cache is the folder of what benchmarks make and keep.
func Cache() string { return filepath.Join(source.Root(), ".cache/bench") }

// compiled compiles source for this host, again even if that was done before where again says so.
func compiled(ctx context.Context, name, source string, again bool) (Model, error) {
	if err := os.MkdirAll(Cache(), 0o755); err != nil {
		return Model{}, fmt.Errorf("making the benchmarks' cache: %w", err)
	}
	target, dir := artifact(ctx, name)
	m := Model{Name: name, Made: "picket", Dir: dir}
	if _, err := os.Stat(filepath.Join(dir, "compiled.so")); err == nil && !again {
		return m, nil
	}
	result, err := compile.Run(ctx, compile.Options{Source: source, Out: dir, Target: target, Force: true})
	if err != nil {
		return Model{}, err
	}
	m.Features = result.Features
	return m, nil
}

// artifact is the compiler's target for this host, and the folder for what it makes of the model.
func artifact(ctx context.Context, name string) (target, dir string) {
	target = string(hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true}).CPU.Level)
	return target, filepath.Join(Cache(), name+"-"+target)
}

// LibDLR is where make fixtures puts the real libdlr 1.6.0.
func LibDLR() string { return filepath.Join(source.Root(), ".cache/libdlr/1.6.0/libdlr.so") }

// ONNXRuntime is where make fixtures puts ONNX Runtime 1.32.0.
func ONNXRuntime() string {
	return filepath.Join(source.Root(), ".cache/onnxruntime/1.32.0/libonnxruntime.so")
}

// Open makes an instance of the artifact in dir with one backend, on this host
// less what mask names, that may use so many threads. The caller calls the
// function to close both.
func Open(ctx context.Context, b engine.Backend, dir, mask string, threads int) (engine.Instance, func() error, error) {
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
	model, err := b.Open(ctx, a, engine.OpenOptions{Host: host, Threads: threads})
	if err != nil {
		return nil, nil, err
	}
	instance, err := model.NewInstance()
	if err != nil {
		return nil, nil, errors.Join(err, model.Close())
	}
	return instance, func() error { return errors.Join(instance.Close(), model.Close()) }, nil
}
