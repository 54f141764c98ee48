//go:build cgo && linux

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers"
	"github.com/picket-ml/picket/bench/report"
)

// headline is the model of the greatest promises.
const headline = "500x6x30"

// The engines that goals are about.
const (
	vbmi = ours + "avx512vbmi"
	avx2 = ours + "avx2"
	dlr  = "libdlr, Treelite 0.93"
)

// manyRows is from how many rows on a call is a batch.
const manyRows = 1024

// wanted is how many times faster than the fastest peer, and than libdlr, calls of so many rows are to be, hot and with all
// instruction sets. 0 is no goal.
func wanted(model string, rows int) (peer, libdlr float64) {
	switch {
	case rows == 1 && model == headline:
		return 4, 35
	case rows >= manyRows && model == headline:
		return 15, 150
	case rows == 1:
		return 2, 0
	case rows >= manyRows:
		return 5, 0
	}
	return 0, 0
}

// cellKey is what rivals are compared in.
type cellKey struct {
	model, values, condition string
	rows, cores              int
}

// finish works out the goals, prints the table and writes everything.
func (b *benchmark) finish() error {
	cells := map[cellKey]map[string]float64{}
	var order []cellKey
	for _, k := range b.results {
		key := cellKey{k.Model, k.Values, k.Condition, k.Rows, k.Cores}
		if cells[key] == nil {
			cells[key] = map[string]float64{}
			order = append(order, key)
		}
		cells[key][k.Engine] = k.USPerRow
	}
	own := map[string]bool{}
	for _, p := range peers.All() {
		own[p.Name] = p.Own
	}
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "model\tvalues\trows\tcores\tcondition\tours, us a row\tfastest peer\tus a row\tratio\tgoal\t")
	for _, key := range order {
		cell := cells[key]
		best := ""
		for name, us := range cell {
			if !strings.HasPrefix(name, ours) && !own[name] && (best == "" || us < cell[best]) {
				best = name
			}
		}
		b.goals(key, cell, cells, best)
		us, measured := cell[vbmi]
		if !measured || best == "" {
			continue
		}
		goal, _ := wanted(key.model, key.rows)
		verdict := ""
		if key.condition == "shuffled" {
			goal /= 2
		}
		if goal > 0 && key.cores == 1 {
			verdict = fmt.Sprintf("%g: met", goal)
			if cell[best] < goal*us {
				verdict = fmt.Sprintf("%g: MISSED", goal)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%.3f\t%s\t%.3f\t%.1f\t%s\t\n", key.model, key.values, key.rows, key.cores, key.condition, us, best, cell[best], cell[best]/us, verdict)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	b.misses()
	names := make([]string, 0, len(peers.Absent()))
	for name := range peers.Absent() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.leave(models.Spec{Name: "all"}, name, 0, 0, peers.Absent()[name])
	}
	b.out.Results, b.out.LeftOut, b.out.Notes = b.results, b.left, b.notes
	return b.out.Write()
}

// goals adds what is promised about one cell.
func (b *benchmark) goals(key cellKey, cell map[string]float64, cells map[cellKey]map[string]float64, best string) {
	what := fmt.Sprintf("%s, %s, %d rows, %s", key.model, key.values, key.rows, key.condition)
	if key.cores > 1 {
		one := key
		one.cores = 1
		alone, measured := cells[one][vbmi]
		if us := cell[vbmi]; measured && us > 0 && key.rows == testRows && key.condition == "hot" {
			b.out.Reach("two cores to one: "+what, alone/us, 1.9)
		}
		return
	}
	share := 1.0
	if key.condition == "shuffled" {
		share = 0.5
	}
	peer, libdlr := wanted(key.model, key.rows)
	for _, engine := range []string{vbmi, avx2} {
		us, measured := cell[engine]
		if !measured || engine == avx2 && key.condition == "shuffled" {
			continue
		}
		if engine == avx2 {
			share /= 2
		}
		if peer > 0 && best != "" {
			b.out.Reach(fmt.Sprintf("%s to fastest peer (%s): %s", engine, best, what), cell[best]/us, peer*share)
		}
		if theirs, measured := cell[dlr]; libdlr > 0 && measured {
			b.out.Reach(fmt.Sprintf("%s to libdlr: %s", engine, what), theirs/us, libdlr*share)
		}
	}
}

// misses prints the goals that were missed, the farthest first.
func (b *benchmark) misses() {
	var missed []report.Figure
	for _, f := range b.out.Figures {
		if !f.Met() {
			missed = append(missed, f)
		}
	}
	slices.SortFunc(missed, func(a, c report.Figure) int {
		switch x, y := a.Value / *a.Least, c.Value / *c.Least; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	fmt.Fprintf(os.Stderr, "\n%d of %d goals missed, the farthest first:\n", len(missed), len(b.out.Figures))
	for _, f := range missed {
		fmt.Fprintf(os.Stderr, "  %.2f of the goal: %s\n", f.Value / *f.Least, f.Name)
	}
}
