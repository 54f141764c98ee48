//go:build cgo && linux

// Package peers runs the libraries that others score tree models with, for benchmarks: each on the same model files and the
// same rows, called as its users would call it where speed matters. Their libraries are installed, and models turned into the
// forms that they take, on first use, below .cache.
package peers

import (
	"context"
	"time"

	"github.com/picket-ml/picket/bench/models"
)

// Task is what a peer is opened for.
type Task struct {
	Model   models.Spec
	Rows    *Rows
	Threads int
	// Ready refuses what would first have to be compiled or converted, which takes minutes for a large model.
	Ready bool
}

// Peer is a library that runs tree models.
type Peer struct {
	Name string
	// Own says that what it runs was made by picket compile: not a competitor, but told beside them.
	Own bool
	// Tolerance is how far its answers, probabilities, may be from the model's, and Strays how many of 10,000 rows may be
	// farther. Why says what for.
	Tolerance float64
	Strays    int
	Why       string
	// Complete says that answers are compared on rows without missing values only.
	Complete bool

	open func(context.Context, Task) (*Instance, error)
}

// Instance is a peer with one model and one number of threads. It is used by one goroutine at a time; who opened it calls Close.
type Instance struct {
	// Note says how it is called, where that needs saying.
	Note string
	// Run predicts rows rows of the task's from row from, and returns how long that took if it knows better than the caller.
	Run func(from, rows int) (time.Duration, error)
	// Turn, if there is one, predicts rows rows again and again for as long as d, of the rows from on, at least least times.
	Turn func(from, rows int, d time.Duration, least int) ([]time.Duration, error)
	// HotOnly says that a single call cannot be timed, so that it has no place in the shuffled condition.
	HotOnly bool
	// Answers predicts n rows from row from and returns the values, row-major.
	Answers func(from, n int) ([]float32, error)
	Close   func() error
}

// Open opens the peer for t. An error of which errors.Is reports ErrUnsuited says why the peer cannot run the model; any other
// says that something is broken.
func (p *Peer) Open(ctx context.Context, t Task) (*Instance, error) { return p.open(ctx, t) }

// All are the peers, those that compiled the model first.
func All() []*Peer {
	const rounding = "thresholds are rounded to float32"
	return []*Peer{
		{Name: "libdlr, Treelite 0.93", Tolerance: 1e-5, open: openLibDLR(neoArtifact)},
		{Name: "direct, Treelite 0.93", Tolerance: 1e-5, open: openDirect(neoArtifact)},
		{Name: "libdlr, picket compile", Own: true, Tolerance: 1e-5, open: openLibDLR(ownArtifact)},
		{Name: "direct, picket compile", Own: true, Tolerance: 1e-5, open: openDirect(ownArtifact)},
		{Name: "TL2cgen", Tolerance: 1e-5, open: openTL2cgen},
		{Name: "lleaves", Tolerance: 1e-5, open: openLleaves},
		{Name: "XGBoost", Tolerance: 1e-6, open: openXGBoost},
		{Name: "LightGBM", Tolerance: 1e-6, open: openLightGBM},
		{Name: "ONNX Runtime", Tolerance: 1e-5, Strays: 20, Why: rounding, open: openONNXRuntime},
		{Name: "GTIL", Tolerance: 1e-5, open: openGTIL},
		{Name: "oneDAL", Tolerance: 1e-5, Strays: 20, Why: rounding, open: openOneDAL},
		{Name: "oneDAL, from Python", Tolerance: 1e-5, Strays: 20, Why: rounding, open: openProcess("onedal")},
		{Name: "YDF", Tolerance: 1e-5, Strays: 20, Why: rounding, Complete: true, open: openProcess("ydf")},
	}
}

// Absent are the peers that are never there, and why.
func Absent() map[string]string {
	return map[string]string{
		"hummingbird": "it needs PyTorch, whose wheels for Linux bring CUDA with them: too large for the set-up of a benchmark",
	}
}
