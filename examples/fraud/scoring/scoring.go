// Package scoring asks Picket for the probability that a transaction is a fraud, and knows what to do when there is no answer in time.
package scoring

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/picket-ml/picket/examples/fraud/features"
)

// Score is a model's answer.
type Score struct {
	// Probability of fraud, by the model.
	Probability float32
	// Contributions are what each feature adds to the log-odds; empty where the model does not say.
	Contributions []float32
	// Unexplained is why there are no contributions although the model says them: the score was in time, and they were late, say.
	Unexplained error
	// Model is who answered.
	Model *Model
	// Inference is what Picket calls the answer among what it captures; empty where it does not say.
	Inference string
}

// Scorer asks a model. Any number of goroutines may use it.
type Scorer interface {
	// Name is how the model is asked: "lane", "ring", "agent" or "oip".
	Name() string
	// Score asks about one profile, which it does not keep. When ctx ends it fails.
	Score(ctx context.Context, profile []float32) (Score, error)
	// Use makes a version the one that is asked from now on. It must be loaded under its Served name. A failure leaves the present one.
	Use(ctx context.Context, m *Model) error
	// Current is the model that is asked, nil before the first Use.
	Current() *Model
	// Explained tells whether it says contributions.
	Explained() bool
	// Close ends what is under way.
	Close() error
}

// inUse is the model that a Scorer asks, nil before the first Use, with what its protocol knows of it.
type inUse[T any] struct{ current atomic.Pointer[used[T]] }

type used[T any] struct {
	model     *Model
	explained bool // it was loaded with explain: true
	by        T
}

func (s *inUse[T]) Current() *Model {
	if use := s.current.Load(); use != nil {
		return use.model
	}
	return nil
}

func (s *inUse[T]) Explained() bool {
	use := s.current.Load()
	return use != nil && use.explained
}

// errNoModel is the failure of a Scorer before its first Use.
var errNoModel = errors.New("asking for a score: no model is in use yet")

// checked refuses what is no probability.
func checked(s Score) (Score, error) {
	if !(s.Probability >= 0 && s.Probability <= 1) { // so that NaN is refused
		return Score{}, fmt.Errorf("asking for a score: %s answers %v, which is no probability", s.Model.Served(), s.Probability)
	}
	for _, c := range s.Contributions {
		if math.IsNaN(float64(c)) {
			return Score{}, fmt.Errorf("asking for a score: %s answers with a contribution that is no number", s.Model.Served())
		}
	}
	return s, nil
}

// contributions tells whether an output of so many numbers a row is the features' contributions: one for each, and perhaps the bias after them.
func contributions(numbers int) bool { return numbers == features.Count || numbers == features.Count+1 }
