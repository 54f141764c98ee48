package capture

import (
	"math"
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

// chooser is a Sampling for one model. What most requests need of it is together, because they have to fetch it.
type chooser struct {
	any       bool   // there is a reason at all
	all       bool   // by chance, and for no other reason but an error
	chance    bool   // likewise some
	threshold uint64 // of a random number, for Rate
	output    int    // the index of Output, -1 where the model has none
	Sampling
}

// tally is what a model's requests change when it is chosen among them, from whatever thread.
type tally struct {
	count atomic.Uint64 // of inferences, for Every
	place atomic.Uint64 // in the sequence of numbers, for Rate
}

// draws gives a run numbers of its own, each as good as random.
func (n *tally) draws() draws { return draws(mix(n.place.Add(stride))) }

// draws is SplitMix64. Go's own generator is one for all and has more behind it than chance needs; after a model's run each part of
// that comes from far away in memory, and one number took longer than copying a captured row does.
type draws uint64

const stride = 0x9e3779b97f4a7c15

func (d *draws) next() uint64 {
	*d += stride
	return mix(uint64(*d))
}

func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func newChooser(s Sampling, signature *engine.Signature) *chooser {
	c := &chooser{Sampling: s, output: -1, any: s.Rate > 0 || s.Every > 0 || s.Banded || s.Errors}
	switch {
	case s.Rate >= 1:
		c.threshold = math.MaxUint64
		c.all = s.Every == 0 && !s.Banded
	case s.Rate > 0:
		c.threshold = uint64(s.Rate * (1 << 63) * 2)
		c.chance = s.Every == 0 && !s.Banded
	}
	for i := range signature.Outputs {
		if s.Output == "" && i == 0 || s.Output == signature.Outputs[i].Name {
			c.output = i
		}
	}
	return c
}

// chances decides by chance of 64 inferences, one a bit. It compares as many numbers with the threshold at once, from their highest bits down,
// of which each draw has one for every number: each decides of half of those that are left, so eight draws, as a rule, do for all.
func (c *chooser) chances(d *draws) (chosen uint64) {
	left := ^uint64(0)
	for bit := uint64(1) << 63; bit > 0 && left > 0; bit >>= 1 {
		ones := d.next()
		if c.threshold&bit != 0 {
			chosen |= left &^ ones
			left &= ones
		} else {
			left &^= ones
		}
	}
	return chosen
}

// byChance decides of one inference.
func (c *chooser) byChance(n *tally) bool {
	d := n.draws()
	return d.next() < c.threshold
}

// choose says why an inference is captured, 0 if it is not. n is the model's. out is its
// rows of the outputs, nil for one that failed.
func (c *chooser) choose(n *tally, out []tensor.Tensor, first, rows int, failed bool) Why {
	var why Why
	if failed {
		if c.Errors {
			why = ByError
		}
		return why
	}
	if c.threshold == math.MaxUint64 {
		why |= ByRate
	} else if c.threshold > 0 && c.byChance(n) {
		why |= ByRate
	}
	if c.Every > 0 && n.count.Add(1)%uint64(c.Every) == 0 {
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
