// Package load asks servers and libraries for predictions, and tells how long they took and what became of them.
//
// A load is closed, when each caller asks again as soon as it has its answer, or open, when requests are due at times that were
// fixed before. In an open load every latency counts from when the request was due, whatever kept it from being sent: a server
// that stalls, or a generator that is late, is not asked less for it (no coordinated omission).
package load

import (
	"math/rand/v2"
	"time"
)

// Arrivals is when requests are to be sent, from the beginning of a load, ascending.
type Arrivals []time.Duration

// Poisson is arrivals at random at so many a second, for so long.
func Poisson(random *rand.Rand, perSecond float64, d time.Duration) Arrivals {
	var a Arrivals
	for at := 0.0; ; {
		at += random.ExpFloat64() / perSecond
		when := time.Duration(at * float64(time.Second))
		if when >= d {
			return a
		}
		a = append(a, when)
	}
}

// BurstTime is how long a burst lasts, and the silence after it.
const BurstTime = 50 * time.Millisecond

// Bursts is as many arrivals as Poisson gives, in bursts of twice the rate.
func Bursts(random *rand.Rand, perSecond float64, d time.Duration) Arrivals {
	a := Poisson(random, 2*perSecond, d/2)
	for i, at := range a {
		a[i] = at + at.Truncate(BurstTime)
	}
	return a
}
