package compile

import (
	"fmt"
	"sort"

	"github.com/picket-ml/picket/internal/ensemble"
)

// view is how a split wants to see missing values in a row's integers.
type view uint8

const (
	low      view = iota // missing is below everything: the split goes left
	high                 // missing is above everything: the split goes right
	zero                 // missing is 0
	zeroLow              // missing and zero are below everything
	zeroHigh             // missing and zero are above everything
	views
)

// viewOf gives the view that turns n's test, missing values included, into one comparison.
func viewOf(n *ensemble.Node) view {
	switch {
	case n.Missing == ensemble.MissingNone:
		return zero
	case n.Missing == ensemble.MissingNaN && n.DefaultLeft:
		return low
	case n.Missing == ensemble.MissingNaN:
		return high
	case n.DefaultLeft:
		return zeroLow
	}
	return zeroHigh
}

// bound is the integer below which a row's integer sends it left.
func bound(n *ensemble.Node) int32 {
	if n.Op == ensemble.LessEqual {
		return key(roundDown(n.Value)) + 1
	}
	return key(float32(n.Value))
}

// unit is a run of trees of one group, compiled as one file.
type unit struct {
	group int
	trees []int // indices into the ensemble, in the order of the sum
}

// unitNodes is about how many nodes a unit holds: enough that starting a compiler does not matter, few enough that
// progress is seen and all cores have work to the end.
const unitNodes = 4000

// plan is an ensemble laid out for C.
type plan struct {
	e *ensemble.Ensemble
	// features are the columns that any split reads, ascending. Only these are turned into integers.
	features []int32
	// first is where each view's integers start in a row's array, -1 for a view that no split uses; slots is the
	// array's length.
	first [views]int
	slots int
	// middle is the slot that the array is addressed from, so that as many slots as possible are at most 128 bytes
	// away on either side and take a short address in x86-64 code.
	middle int
	units  []unit

	column map[int32]int // feature to its index in features
}

// newPlan lays e out, or says by name what in it cannot be compiled.
func newPlan(e *ensemble.Ensemble) (*plan, error) {
	p := &plan{e: e, column: map[int32]int{}}
	var used [views]bool
	for i := range e.Trees {
		for j := range e.Trees[i].Nodes {
			n := &e.Trees[i].Nodes[j]
			switch n.Op {
			case ensemble.Leaf:
			case ensemble.Less, ensemble.LessEqual:
				used[viewOf(n)] = true
				p.column[n.Feature] = 0
			default:
				return nil, fmt.Errorf("categorical splits are not supported (tree %d, node %d, feature %d has one): encode the column as numbers or one-hot before training", i, j, n.Feature)
			}
		}
	}
	for f := range p.column {
		p.features = append(p.features, f)
	}
	sort.Slice(p.features, func(i, j int) bool { return p.features[i] < p.features[j] })
	for i, f := range p.features {
		p.column[f] = i
	}
	for v := range p.first {
		p.first[v] = -1
		if used[v] {
			p.first[v] = p.slots
			p.slots += len(p.features)
		}
	}
	p.middle = min(32, p.slots/2)
	p.split()
	return p, nil
}

// split divides the trees into units, group by group. Groups are summed one after the other, which changes no sum.
func (p *plan) split() {
	for g := range p.e.Groups {
		nodes := unitNodes
		for i := range p.e.Trees {
			if p.e.Trees[i].Group != g {
				continue
			}
			if nodes >= unitNodes {
				p.units = append(p.units, unit{group: g})
				nodes = 0
			}
			u := &p.units[len(p.units)-1]
			u.trees = append(u.trees, i)
			nodes += len(p.e.Trees[i].Nodes)
		}
	}
}

// slot is where n's value stands in a row's array, relative to the middle.
func (p *plan) slot(n *ensemble.Node) int {
	return p.first[viewOf(n)] + p.column[n.Feature] - p.middle
}
