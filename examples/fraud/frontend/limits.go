package frontend

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxAddresses bounds how many addresses are remembered. When more are heard of within a minute, those of the minute before are forgotten early.
	maxAddresses = 100_000
	// remembered is how long an address is remembered at least; its allowance is whole again by then.
	remembered = time.Minute
)

// limits counts requests by address. Forgetting is one step, however many there are: two generations take turns.
type limits struct {
	perSecond rate.Limit
	burst     int

	mu          sync.Mutex
	now, before map[netip.Addr]*rate.Limiter
	turned      time.Time // when now began
}

func newLimits(perSecond float64, burst int) *limits {
	return &limits{perSecond: rate.Limit(perSecond), burst: burst, now: map[netip.Addr]*rate.Limiter{}, turned: time.Now()}
}

func (l *limits) allow(address netip.Addr) bool {
	if l.perSecond < 0 {
		return true
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.now) >= maxAddresses/2 || now.Sub(l.turned) > remembered {
		l.before, l.now, l.turned = l.now, map[netip.Addr]*rate.Limiter{}, now
	}
	one := l.now[address]
	if one == nil {
		if one = l.before[address]; one == nil {
			one = rate.NewLimiter(l.perSecond, l.burst)
		}
		l.now[address] = one
	}
	return one.AllowN(now, 1)
}

// addressOf is whose requests are counted together: an address, or of IPv6 the network of 64 bits that one customer of a provider has at least. What has none, such as a Unix socket, is one.
func addressOf(remote string) netip.Addr {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	address := at.Addr().Unmap().WithZone("")
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return address
}
