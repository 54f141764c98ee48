package main

import (
	"math/rand/v2"
	"time"
)

// arrivals is when requests are to be sent, from the beginning of a load.
type arrivals []time.Duration

// poisson is arrivals at random at so many a second, for so long.
func poisson(random *rand.Rand, perSecond float64, d time.Duration) arrivals {
	var a arrivals
	for at := 0.0; ; {
		at += random.ExpFloat64() / perSecond
		when := time.Duration(at * float64(time.Second))
		if when >= d {
			return a
		}
		a = append(a, when)
	}
}

// burstTime is how long a burst lasts, and the silence after it.
const burstTime = 50 * time.Millisecond

// bursts is as many arrivals as poisson gives, in bursts of twice the rate.
func bursts(random *rand.Rand, perSecond float64, d time.Duration) arrivals {
	a := poisson(random, 2*perSecond, d/2)
	for i, at := range a {
		a[i] = at + at.Truncate(burstTime)
	}
	return a
}
