package main

import (
	"fmt"

	"github.com/picket-ml/picket/bench/peers/servers"
	"github.com/picket-ml/picket/bench/report"
)

// What is promised over gRPC: of an empty server's rate, and times the servers of others.
const (
	leastOfEmpty = 0.85
	leastTimes   = 10
)

// goals compares picketd with the rest, protocol by protocol and transport by transport.
func (b *benchmark) goals(results []report.Serving) {
	find := func(target string, like report.Serving) (report.Serving, bool) {
		for _, r := range results {
			if r.Target == target && r.Protocol == like.Protocol && r.Transport == like.Transport && r.Rows == like.Rows && r.Outstanding == like.Outstanding {
				return r, true
			}
		}
		return report.Serving{}, false
	}
	reach := b.out.Reach
	if b.options.network { // of which nothing is promised here
		reach = func(what string, value, _ float64) { b.out.Tell(what, value, "ratio") }
	}
	for _, r := range results {
		if r.Target != picketd {
			continue
		}
		if floor, measured := find(empty, r); measured {
			name := fmt.Sprintf("rows/s to those of the %s, %s", empty, cell(r))
			if r.Protocol == grpcOIP && r.Rows == 1 {
				reach(name, r.RowsPerS/floor.RowsPerS, leastOfEmpty)
			} else {
				b.out.Tell(name, r.RowsPerS/floor.RowsPerS, "ratio")
			}
		}
	}
	for _, p := range servers.All() {
		for _, r := range results {
			theirs, measured := find(p.Name, r)
			if r.Target != picketd || !measured {
				continue
			}
			rate, p99 := r.RowsPerS/theirs.RowsPerS, theirs.P99US/r.P99US
			fast, prompt := fmt.Sprintf("rows/s to those of %s, %s", p.Name, cell(r)), fmt.Sprintf("p99 of %s to picketd's, %s", p.Name, cell(r))
			if r.Protocol == grpcOIP {
				reach(fast, rate, leastTimes)
				reach(prompt, p99, leastTimes)
			} else {
				b.out.Tell(fast, rate, "ratio")
				b.out.Tell(prompt, p99, "ratio")
			}
		}
	}
}

// cell says what a result is of, without the server.
func cell(r report.Serving) string {
	return fmt.Sprintf("%s over %s, %d rows, %d outstanding", r.Protocol, r.Transport, r.Rows, r.Outstanding)
}
