package capture

import (
	"math"
	"math/rand/v2"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Sampling is which requests of a model are captured; any of its reasons will do. The
// zero value is none.
type Sampling struct {
	Rate   float64 // a fraction, by chance
	Every  int     // every so many
	Banded bool    // with an answer from Low to High in Output
	Low    float64
	High   float64
	Output string // empty for the first
	Errors bool   // those that fail
}

// any tells whether there is a reason at all.
func (s *Sampling) any() bool { return s.Rate > 0 || s.Every > 0 || s.Banded || s.Errors }

// chooser is a Sampling for one model.
type chooser struct {
	Sampling
	all       bool    // by chance, and for no other reason
	chance    bool    // likewise some
	mean      float64 // with chance: see passes
	threshold uint64  // of a random number, for Rate
	output    int     // the index of Output, -1 where the model has none
}

func newChooser(s Sampling, signature *engine.Signature) *chooser {
	c := &chooser{Sampling: s, output: -1}
	switch {
	case s.Rate >= 1:
		c.threshold = math.MaxUint64
		c.all = s.Every == 0 && !s.Banded
	case s.Rate > 0:
		c.threshold = uint64(s.Rate * (1 << 63) * 2)
		c.chance, c.mean = s.Every == 0 && !s.Banded, -1/math.Log1p(-s.Rate)
	}
	for i := range signature.Outputs {
		if s.Output == "" && i == 0 || s.Output == signature.Outputs[i].Name {
			c.output = i
		}
	}
	return c
}

// passes says how many inferences are passed by before the next is captured, where chance alone decides: one number decides for all of
// these, and not one for each. What it says has no memory, so each run begins anew. Whole parts of a number that is distributed exponentially
// are distributed as that is.
func (c *chooser) passes() int {
	if n := rand.ExpFloat64() * c.mean; n < math.MaxInt32 { // so is no NaN, which rates have that are hardly numbers
		return int(n)
	}
	return math.MaxInt32
}

// choose says why an inference is captured, 0 if it is not. n counts the model's
// inferences. out is its rows of the outputs, nil for one that failed.
func (c *chooser) choose(n *atomic.Uint64, out []tensor.Tensor, first, rows int, failed bool) Why {
	var why Why
	if failed {
		if c.Errors {
			why = ByError
		}
		return why
	}
	if c.threshold == math.MaxUint64 || c.threshold > 0 && rand.Uint64() < c.threshold {
		why |= ByRate
	}
	if c.Every > 0 && n.Add(1)%uint64(c.Every) == 0 {
		why |= ByCount
	}
	if c.Banded && c.output >= 0 && c.inBand(&out[c.output], first, rows) {
		why |= ByOutput
	}
	return why
}

// inBand tells whether any number of some rows is in the band.
func (c *chooser) inBand(t *tensor.Tensor, first, rows int) bool {
	b := t.Bytes()
	if t.Shape.Rank() > 0 && t.Shape.Dim(0) > int64(rows) {
		row := len(b) / int(t.Shape.Dim(0))
		b = b[first*row : (first+rows)*row]
	}
	size := t.DType.Size()
	for ; size > 0 && len(b) >= size; b = b[size:] {
		if v := number(t.DType, b); v >= c.Low && v <= c.High {
			return true
		}
	}
	return false
}
