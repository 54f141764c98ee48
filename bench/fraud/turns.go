package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/examples/fraud/load"
)

// Who is asked in turns, beside picketd.
const (
	empty  = "empty"
	nobody = "nobody"
)

// turns measures what asking Picket adds to a transaction. Three applications beside each other, each with a database of its own, take turns under the same load, of the same transactions: one asks picketd, one a server of the lane that does nothing, and one, whose
// breaker is open because nobody is there, asks nobody and decides by its rules. The first less the last is what Picket adds; the second less the last, what asking any other process adds.
func turns(ctx context.Context, s *settings, bin string) (list []result, err error) {
	p, err := prepare(bin, filepath.Join(bin, "turns"), "postgresql")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	var sites []*site
	for _, name := range []string{picketd, empty, nobody} {
		protocol := "lane"
		if name == picketd {
			protocol = s.protocol
		}
		one, err := p.newSite(ctx, name, protocol)
		if err != nil {
			return nil, err
		}
		sites = append(sites, one)
		if name == picketd {
			err = p.startPicketd(ctx, s, one)
		} else {
			one.asks = []string{"--control", "", "--metrics", ""}
			socket := filepath.Join(p.folder(one), "lane.sock")
			if err = p.start(one.process("server"), self, emptyServer, socket); err == nil {
				err = wait(ctx, socket)
			}
		}
		if err == nil {
			err = p.open(ctx, s, one)
		}
		if err == nil && name == nobody {
			err = p.stopOne(one.process("server"))
		}
		if err != nil {
			return nil, err
		}
	}
	for range s.turns {
		for _, one := range sites {
			r, err := p.load(ctx, one, int(1.2*postgresRate*(s.turn+s.warm).Seconds())+1000, load.Options{Clients: 4 * s.clients, Rate: postgresRate, For: s.turn, Warm: s.warm})
			if err != nil {
				return nil, err
			}
			r.Database, r.Loop, r.Rate, r.Clients = "postgresql", "turns", postgresRate, 4*s.clients
			r.Scorer, r.Protocol, r.Budget = one.name, one.protocol, s.budget.String()
			list = append(list, *r)
		}
	}
	return list, nil
}

// adds tells what came of the turns: medians of them, and of what one had more than another in the same round.
func adds(out *report.Report, list []result) {
	p50 := func(r *result) float64 { return float64(r.Latency.P50) }
	for _, scorer := range []string{picketd, empty, nobody} {
		for _, one := range []struct {
			name, unit string
			of         func(*result) float64
		}{
			{"mean", "us", func(r *result) float64 { return r.MeanLatency }},
			{"p50", "us", p50},
			{"p99", "us", func(r *result) float64 { return float64(r.Latency.P99) }},
			{"score, mean", "us", func(r *result) float64 { return r.MeanScoring }},
			{"part of the time that the score took", "ratio", func(r *result) float64 { return r.ScoringShare }},
			{"processors' time of who is asked", "us", (*result).asked},
			{"processors' time of the servers", "us", (*result).serving},
		} {
			if scorer == nobody && strings.Contains(one.name, "score") || scorer == nobody && strings.Contains(one.name, "asked") {
				continue
			}
			out.Tell("in turns, "+scorer+": "+one.name, median(of(list, scorer, one.of)), one.unit)
		}
	}
	// Of the p50, because the breaker tries five of the questions each second, which take as long as they may.
	without := of(list, nobody, p50)
	for _, scorer := range []string{picketd, empty} {
		share := of(list, scorer, p50)
		for i, with := range share {
			share[i] = (with - without[i]) / with
		}
		out.Tell("in turns: part of the p50 that asking "+scorer+" adds", median(share), "ratio")
	}
}

// asked is the processors' time of who is asked for scores.
func (r *result) asked() float64 {
	if r.Scorer == picketd {
		return r.CPU[picketd+" "+picketd]
	}
	return r.CPU["server "+empty]
}

// of is what a function gives of the results of one scorer, in their order.
func of(list []result, scorer string, f func(*result) float64) []float64 {
	var all []float64
	for i := range list {
		if list[i].Scorer == scorer {
			all = append(all, f(&list[i]))
		}
	}
	return all
}

// median needs a value at least, and leaves them as they are.
func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}
