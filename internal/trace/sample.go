package trace

import (
	"math"
	"math/rand/v2"
)

// sampler takes a fraction of the requests that have no parent.
type sampler struct {
	fraction float64
	// logRest is the logarithm of the fraction that is not taken.
	logRest float64
}

func newSampler(fraction float64) sampler {
	return sampler{fraction: fraction, logRest: math.Log1p(-fraction)}
}

// take decides about one request.
func (s sampler) take() bool { return s.fraction > 0 && rand.Float64() < s.fraction }

// gap is how many requests are passed over until the next is taken: the same as
// asking take for each of them, at the price of asking once.
func (s sampler) gap() uint64 {
	switch {
	case s.fraction <= 0:
		return math.MaxUint64
	case s.fraction >= 1:
		return 0
	}
	gap := math.Log1p(-rand.Float64()) / s.logRest
	if gap >= math.MaxUint64 {
		return math.MaxUint64
	}
	return uint64(gap)
}

// Lottery picks the requests to be traced where they come in large numbers and
// without parents. It belongs to one connection. The zero Lottery picks none.
type Lottery struct {
	tracer *Tracer
	left   uint64 // requests until the next one is picked
}

// Lottery makes one.
func (t *Tracer) Lottery() Lottery {
	if t == nil {
		return Lottery{}
	}
	return Lottery{tracer: t, left: t.sampler.gap()}
}

// Pick is the place among the next n requests of the first that is to be traced, n
// for none of them. Those up to it count as seen.
func (l *Lottery) Pick(n int) int {
	switch {
	case l.tracer == nil:
		return n
	case l.left >= uint64(n):
		l.left -= uint64(n)
		return n
	}
	at := int(l.left)
	l.left = l.tracer.sampler.gap()
	return at
}
