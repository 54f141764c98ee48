package frontend

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxAddresses bounds how many addresses are remembered. With more, those that were not heard of for a while are forgotten; with more at once, all are.
const maxAddresses = 100_000

// limits counts requests by address.
type limits struct {
	perSecond float64
	burst     int
	mu        sync.Mutex
	of        map[string]*limited
}

type limited struct {
	limiter *rate.Limiter
	last    time.Time
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{perSecond: perSecond, burst: burst, of: map[string]*limited{}}
}

func (l *limits) allow(address string) bool {
	if l.perSecond < 0 {
		return true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.of[address]
	if one == nil {
		if len(l.of) >= maxAddresses {
			l.forget(now)
		}
		one = &limited{limiter: rate.NewLimiter(rate.Limit(l.perSecond), l.burst)}
		l.of[address] = one
	}
	one.last = now
	return one.limiter.AllowN(now, 1)
}

func (l *limits) forget(now time.Time) {
	for address, one := range l.of {
		if now.Sub(one.last) > time.Minute {
			delete(l.of, address)
		}
	}
	if len(l.of) >= maxAddresses {
		clear(l.of)
	}
}
