package cuda

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
)

// Links, as in kernel/forest.h.
const (
	maxNodes     = 0xffff
	viewShift    = 16
	maxViews     = 0x3fff
	linkSet      = 1 << 30
	missingRight = 1 << 31
	setIsLeft    = 1
)

// Transforms, as in kernel/forest.h.
const (
	transformHost = iota // margins are for the host to transform
	transformIdentity
	transformSigmoid
	transformExponential
	transformSoftmax
)

// view is a column with what counts as missing in it.
type view struct {
	column  int32
	missing ensemble.Missing
}

// tables are a model as the kernels read it, before it is on a device.
type tables struct {
	nodes      []uint64
	roots      []uint32
	words      []uint32 // of sets: how many, flags, the words themselves
	leaves     []float64
	base       []float64
	groupFirst []uint32
	views      []view
	plain      bool
	sets       bool
}

// layOut makes the tables of e, or fails with engine.ErrUnsupported where they cannot hold it. The trees of a group lie side by side in their
// order; a tree's nodes level by level, children side by side.
func layOut(e *ensemble.Ensemble) (*tables, error) {
	t := &tables{groupFirst: make([]uint32, e.Groups+1)}
	for _, b := range e.BaseMargin {
		t.base = append(t.base, float64(b))
	}
	viewOf := t.makeViews(e)
	if len(t.views) > maxViews {
		return nil, fmt.Errorf("%w on a GPU: the model looks at %d columns, the limit is %d", engine.ErrUnsupported, len(t.views), maxViews)
	}
	order := make([]int, len(e.Trees))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(e.Trees[a].Group, e.Trees[b].Group) })
	for _, i := range order {
		t.groupFirst[e.Trees[i].Group+1]++
		t.roots = append(t.roots, uint32(len(t.nodes)))
		if err := t.addTree(e, &e.Trees[i], viewOf); err != nil {
			return nil, fmt.Errorf("%w on a GPU: tree %d %w", engine.ErrUnsupported, i, err)
		}
	}
	if len(t.nodes) > math.MaxInt32 || len(t.words) > math.MaxInt32 {
		return nil, fmt.Errorf("%w on a GPU: the model has more nodes or categories than 32-bit numbers can tell apart", engine.ErrUnsupported)
	}
	for g := range e.Groups {
		t.groupFirst[g+1] += t.groupFirst[g]
	}
	return t, nil
}

// viewOfNode is what a split looks at. Sets look at the value itself.
func viewOfNode(n *ensemble.Node) view {
	if n.Op == ensemble.SetLeft || n.Op == ensemble.SetRight {
		return view{n.Feature, ensemble.MissingNaN}
	}
	return view{n.Feature, n.Missing}
}

// makeViews gives the columns as they are one view each where NaN is all that is missing, and else as many as the splits ask for.
func (t *tables) makeViews(e *ensemble.Ensemble) func(*ensemble.Node) int {
	numbers := map[view]int{}
	var all []view
	t.plain = true
	for i := range e.Trees {
		for j := range e.Trees[i].Nodes {
			n := &e.Trees[i].Nodes[j]
			if n.Op == ensemble.Leaf {
				continue
			}
			v := viewOfNode(n)
			t.plain = t.plain && v.missing == ensemble.MissingNaN
			if _, ok := numbers[v]; !ok {
				numbers[v] = len(all)
				all = append(all, v)
			}
		}
	}
	if e.NumFeature > 4*len(all) {
		t.plain = false // most columns are for nothing, and would only take shared memory
	}
	if !t.plain {
		if len(all) == 0 { // no tree splits, but a leaf, too, has its thread look at the first view
			all = []view{{0, ensemble.MissingNaN}}
		}
		t.views = all
		return func(n *ensemble.Node) int { return numbers[viewOfNode(n)] }
	}
	for c := range int32(e.NumFeature) {
		t.views = append(t.views, view{c, ensemble.MissingNaN})
	}
	return func(n *ensemble.Node) int { return int(n.Feature) }
}

// addTree appends what can be reached of a tree.
func (t *tables) addTree(e *ensemble.Ensemble, from *ensemble.Tree, viewOf func(*ensemble.Node) int) error {
	at := make([]int32, 1, len(from.Nodes))
	for i := 0; i < len(at); i++ {
		n := &from.Nodes[at[i]]
		if n.Op == ensemble.Leaf {
			if e.Wide() {
				t.nodes = append(t.nodes, uint64(len(t.leaves)))
				t.leaves = append(t.leaves, n.Value)
			} else {
				t.nodes = append(t.nodes, uint64(math.Float32bits(float32(n.Value)*from.Scale)))
			}
			continue
		}
		if len(at)+1 > maxNodes {
			return fmt.Errorf("has more than %d nodes", maxNodes)
		}
		link := uint32(len(at)) | uint32(viewOf(n))<<viewShift
		if !n.DefaultLeft {
			link |= missingRight
		}
		low := uint32(0)
		switch n.Op {
		case ensemble.Less:
			low = math.Float32bits(float32(n.Value))
		case ensemble.LessEqual:
			low = math.Float32bits(ensemble.Above(n.Value))
		default:
			link |= linkSet
			t.sets = true
			low = uint32(len(t.words))
			set, flags := from.Categories[n.Set], uint32(0)
			if n.Op == ensemble.SetLeft {
				flags = setIsLeft
			}
			t.words = append(append(t.words, uint32(len(set)), flags), set...)
		}
		t.nodes = append(t.nodes, uint64(link)<<32|uint64(low))
		at = append(at, n.Left, n.Right)
	}
	return nil
}

// offsets are where the tables lie, one behind the other.
type offsets struct{ nodes, roots, words, leaves, base, groupFirst, viewColumn, viewRule, size int }

// bytes are the tables as they lie on the device, each at a multiple of 256 bytes.
func (t *tables) bytes() ([]byte, offsets) {
	var o offsets
	var b []byte
	start := func(at *int) {
		b = append(b, make([]byte, (256-len(b)%256)%256)...)
		*at = len(b)
	}
	le := binary.LittleEndian
	start(&o.nodes)
	for _, n := range t.nodes {
		b = le.AppendUint64(b, n)
	}
	u32 := func(at *int, values []uint32) {
		start(at)
		for _, v := range values {
			b = le.AppendUint32(b, v)
		}
	}
	f64 := func(at *int, values []float64) {
		start(at)
		for _, v := range values {
			b = le.AppendUint64(b, math.Float64bits(v))
		}
	}
	u32(&o.roots, t.roots)
	u32(&o.words, t.words)
	f64(&o.leaves, t.leaves)
	f64(&o.base, t.base)
	u32(&o.groupFirst, t.groupFirst)
	start(&o.viewColumn)
	for _, v := range t.views {
		b = le.AppendUint32(b, uint32(v.column))
	}
	start(&o.viewRule)
	for _, v := range t.views {
		b = append(b, byte(v.missing))
	}
	b = append(b, 0) // so that no table starts at the end
	o.size = len(b)
	return b, o
}

// transformOf is what the kernel makes of the margins of e.
func transformOf(e *ensemble.Ensemble) uint32 {
	t := e.Objective.Transform
	switch {
	case e.Average || e.Outputs() != e.Groups || e.Library == ensemble.ONNX && t != ensemble.Identity:
		return transformHost
	case t == ensemble.Identity:
		return transformIdentity
	case t == ensemble.Sigmoid:
		return transformSigmoid
	case t == ensemble.Exponential:
		return transformExponential
	case t == ensemble.Softmax:
		return transformSoftmax
	}
	return transformHost
}
