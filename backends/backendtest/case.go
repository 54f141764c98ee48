package backendtest

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// Case is a backend, an artifact that it opens, and what the model is known to
// answer.
type Case struct {
	Backend engine.Backend
	// Dir is the artifact's folder. It is copied before anything is changed.
	Dir string
	// Library is the name of the file in Dir that holds machine code, which the
	// hostile scenarios damage. Where there is no machine code it is empty, and
	// Model is the name of the file that holds the model as data. Damage to data
	// may go unnoticed; it may not do more than change answers.
	Library, Model string
	// Symbol is part of a symbol name without which the library is none of the
	// backend's. Empty leaves that scenario out: the backend does not look.
	Symbol string

	// Signature is what the model has to say of itself: one FP32 input and one
	// FP32 output, both with rows or both without.
	Signature engine.Signature
	// Input holds whole rows, or whole tensors where the signature has no rows,
	// and Expected the answers to them.
	Input, Expected []float32
	// Tolerance is how far an answer may be from Expected; 0 demands the same
	// bits.
	Tolerance float64

	// BatchTolerance is how far an answer may be from the one to the same row in
	// other company; 0 demands the same bits. It is for libraries that add up in
	// another order where there are more rows.
	BatchTolerance float64

	// NaNIsMissing is set for models that take any NaN as a missing value, so
	// that all of them have the same answer. ZeroIsMissing is the same of exact
	// zeros.
	NaNIsMissing, ZeroIsMissing bool

	// Cycles is how often the model is opened and closed; 0 for a thousand, or
	// a hundred with -short. A backend over a library that is known to lose
	// something each time says here how much the test may lose.
	Cycles int
}

// file is the name of the file that the hostile scenarios damage.
func (c *Case) file() string {
	if c.Library != "" {
		return c.Library
	}
	return c.Model
}

// thisHost is found out once: it does not change, and asking takes a while.
var thisHost = sync.OnceValue(func() *hw.Host {
	return hw.Detect(context.Background(), hw.Options{NoGPU: true, NoIMDS: true})
})

// Options are the engine.OpenOptions that the suite opens models with: this
// host, one thread.
func Options() engine.OpenOptions { return engine.OpenOptions{Host: thisHost(), Threads: 1} }

// Artifact opens the folder dir as the engine's sources do. The test's end
// closes it.
func Artifact(t testing.TB, dir string) *engine.Artifact {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatalf("opening the artifact: %v", err)
	}
	a, err := engine.NewArtifact("file://"+dir, root)
	if err != nil {
		t.Fatalf("opening the artifact: %v", errors.Join(err, root.Close()))
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("closing the artifact: %v", err)
		}
	})
	return a
}

// Open opens the model in dir; what fails, fails the test. The test's end
// closes the model.
func Open(t testing.TB, b engine.Backend, dir string) engine.Model {
	t.Helper()
	m, err := b.Open(context.Background(), Artifact(t, dir), Options())
	if err != nil {
		t.Fatalf("opening %s: %v", dir, err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("closing the model of %s: %v", dir, err)
		}
	})
	return m
}
