package ensemble

import (
	"errors"
	"fmt"
	"math"
	"strconv"
)

// onnxTrees are the attributes of a TreeEnsembleClassifier or TreeEnsembleRegressor: arrays with an entry per node, and
// arrays with an entry per weight (a value that a leaf adds to a class or target).
type onnxTrees struct {
	double bool // the operator's numbers are float64

	treeIDs, nodeIDs, features, whenTrue, whenFalse, missing []int32
	modes                                                    [][]byte
	thresholds                                               []float64

	weightTrees, weightNodes, weightGroups []int32
	weights                                []float64

	base          []float64
	labels        []string
	targets       int
	aggregate     string
	postTransform string
	classifier    bool
}

// onnxTreeAttributes decodes the attributes; double is whether the operator's input is float64.
func onnxTreeAttributes(encoded [][]byte, double bool, limits Limits) (*onnxTrees, error) {
	a := &onnxTrees{double: double, aggregate: "SUM", postTransform: "NONE", targets: -1}
	seen := map[string]bool{}
	for _, b := range encoded {
		at, err := newONNXAttribute(b)
		if err != nil {
			return nil, err
		}
		if seen[at.name] {
			return nil, fmt.Errorf("attribute %s is there twice", quote(at.name))
		}
		seen[at.name] = true
		if at.element != 0 && !double { // ONNX Runtime refuses it, too
			return nil, fmt.Errorf("attribute %s is a tensor, but the operator's input is float: tensors go with an input of double", quote(at.name))
		}
		switch at.name {
		case "nodes_treeids":
			a.treeIDs = at.ints
		case "nodes_nodeids":
			a.nodeIDs = at.ints
		case "nodes_featureids":
			a.features = at.ints
		case "nodes_truenodeids":
			a.whenTrue = at.ints
		case "nodes_falsenodeids":
			a.whenFalse = at.ints
		case "nodes_missing_value_tracks_true":
			a.missing = at.ints
		case "nodes_modes":
			a.modes = at.texts
		case "nodes_values", "nodes_values_as_tensor":
			a.thresholds, err = onnxOnce(a.thresholds, at)
		case "class_treeids", "target_treeids":
			a.weightTrees = at.ints
		case "class_nodeids", "target_nodeids":
			a.weightNodes = at.ints
		case "class_ids", "target_ids":
			a.weightGroups = at.ints
		case "class_weights", "class_weights_as_tensor", "target_weights", "target_weights_as_tensor":
			a.weights, err = onnxOnce(a.weights, at)
		case "base_values", "base_values_as_tensor":
			a.base, err = onnxOnce(a.base, at)
		case "n_targets":
			a.targets = int(min(at.number, math.MaxInt32))
		case "classlabels_int64s":
			err = a.label(len(at.ints), limits.Groups, func(i int) string { return strconv.Itoa(int(at.ints[i])) })
		case "classlabels_strings":
			err = a.label(len(at.texts), limits.Groups, func(i int) string { return string(at.texts[i]) })
		case "aggregate_function":
			a.aggregate = at.text
		case "post_transform":
			a.postTransform = at.text
		case "nodes_hitrates", "nodes_hitrates_as_tensor": // how often nodes are passed: no prediction depends on it
		default:
			return nil, unsupported("attribute %s is not known", quote(at.name))
		}
		if err != nil {
			return nil, err
		}
	}
	return a, a.lengths()
}

// label fills in the labels of n classes.
func (a *onnxTrees) label(n, limit int, text func(i int) string) error {
	if n == 0 {
		return nil
	}
	if len(a.labels) > 0 || n > limit {
		return fmt.Errorf("the class labels are there twice, or are more than %d", limit)
	}
	a.classifier, a.labels = true, make([]string, n)
	for i := range a.labels {
		a.labels[i] = text(i)
	}
	return nil
}

// onnxOnce gives the numbers of an attribute that comes as a list or as a tensor, but not both.
func onnxOnce(have []float64, a *onnxAttribute) ([]float64, error) {
	if len(have) > 0 && len(a.floats) > 0 {
		return nil, fmt.Errorf("attribute %s is there twice", quote(a.name))
	}
	if len(a.floats) == 0 {
		return have, nil
	}
	return a.floats, nil
}

func (a *onnxTrees) lengths() error {
	n, w := len(a.treeIDs), len(a.weightTrees)
	for _, l := range []struct {
		name         string
		length, want int
	}{
		{"nodes_nodeids", len(a.nodeIDs), n}, {"nodes_featureids", len(a.features), n}, {"nodes_modes", len(a.modes), n},
		{"nodes_truenodeids", len(a.whenTrue), n}, {"nodes_falsenodeids", len(a.whenFalse), n}, {"nodes_values", len(a.thresholds), n},
		{"the nodes of weights", len(a.weightNodes), w}, {"the classes or targets of weights", len(a.weightGroups), w}, {"weights", len(a.weights), w},
	} {
		if l.length != l.want {
			return fmt.Errorf("%s has %d entries; there should be %d", l.name, l.length, l.want)
		}
	}
	if len(a.missing) != n && len(a.missing) != 0 {
		return fmt.Errorf("nodes_missing_value_tracks_true has %d entries for %d nodes", len(a.missing), n)
	}
	if n == 0 {
		return errors.New("it has no nodes")
	}
	return nil
}

// onnxTree is where one tree lies in the arrays.
type onnxTree struct {
	from, to int             // nodes
	places   map[int32]int32 // node id to place in the tree, nil where they are the same
}

func (t *onnxTree) place(id int32) (int32, bool) {
	if t.places == nil {
		return id, id >= 0 && int(id) < t.to-t.from
	}
	i, ok := t.places[id]
	return i, ok
}

// trees finds the trees: every run of nodes with one tree id, whose first node is the root.
func (a *onnxTrees) trees(limit int) ([]onnxTree, map[int32]int, error) {
	var list []onnxTree
	byID := map[int32]int{}
	for i := 0; i < len(a.treeIDs); {
		id, from, plain := a.treeIDs[i], i, true
		for ; i < len(a.treeIDs) && a.treeIDs[i] == id; i++ {
			plain = plain && a.nodeIDs[i] == int32(i-from)
		}
		if _, again := byID[id]; again {
			return nil, nil, fmt.Errorf("the nodes of tree %d do not stand together", id)
		}
		if len(list) >= limit {
			return nil, nil, fmt.Errorf("there are more than %d trees", limit)
		}
		t := onnxTree{from: from, to: i}
		if !plain {
			t.places = make(map[int32]int32, i-from)
			for j := from; j < i; j++ {
				t.places[a.nodeIDs[j]] = int32(j - from)
			}
			if len(t.places) != i-from {
				return nil, nil, fmt.Errorf("two nodes of tree %d have the same id", id)
			}
		}
		byID[id] = len(list)
		list = append(list, t)
	}
	return list, byID, nil
}

// weightsOf is the weights in the order of their nodes: those of node i are indices[start[i]:start[i+1]], in the order
// of the file.
func (a *onnxTrees) weightsOf(list []onnxTree, byID map[int32]int) (start, indices []int32, err error) {
	start, indices = make([]int32, len(a.treeIDs)+1), make([]int32, len(a.weights))
	nodes := make([]int32, len(a.weights))
	for w, id := range a.weightTrees {
		t, ok := byID[id]
		if !ok {
			return nil, nil, fmt.Errorf("weight %d belongs to tree %d, which does not exist", w, id)
		}
		p, ok := list[t].place(a.weightNodes[w])
		if !ok {
			return nil, nil, fmt.Errorf("weight %d belongs to node %d of tree %d, which does not exist", w, a.weightNodes[w], id)
		}
		nodes[w] = int32(list[t].from) + p
		start[nodes[w]+1]++
	}
	for i := range a.treeIDs {
		start[i+1] += start[i]
	}
	for w, n := range nodes {
		indices[start[n]] = int32(w)
		start[n]++
	}
	copy(start[1:], start)
	start[0] = 0
	return start, indices, nil
}

// structure gives the nodes of a tree with leaves of value 0.
func (a *onnxTrees) structure(t *onnxTree) ([]Node, error) {
	nodes := make([]Node, t.to-t.from)
	for i := range nodes {
		at := t.from + i
		n := &nodes[i]
		*n = Node{Left: -1, Right: -1, Set: -1}
		mode := string(a.modes[at])
		if mode == "LEAF" {
			continue
		}
		whenTrue, ok := t.place(a.whenTrue[at])
		if !ok {
			return nil, fmt.Errorf("node %d has a child %d, which does not exist", a.nodeIDs[at], a.whenTrue[at])
		}
		whenFalse, ok := t.place(a.whenFalse[at])
		if !ok {
			return nil, fmt.Errorf("node %d has a child %d, which does not exist", a.nodeIDs[at], a.whenFalse[at])
		}
		// NaN compares false with everything, so it goes where the test fails, unless it is said to go where it holds.
		n.Value, n.Feature = a.thresholds[at], a.features[at]
		n.Left, n.Right, n.DefaultLeft = whenTrue, whenFalse, len(a.missing) > 0 && a.missing[at] == 1
		switch mode {
		case "BRANCH_LEQ":
			n.Op = LessEqual
		case "BRANCH_LT":
			n.Op = Less
		case "BRANCH_GTE": // the opposite of LT
			n.Op = Less
			n.Left, n.Right, n.DefaultLeft = n.Right, n.Left, !n.DefaultLeft
		case "BRANCH_GT": // the opposite of LEQ
			n.Op = LessEqual
			n.Left, n.Right, n.DefaultLeft = n.Right, n.Left, !n.DefaultLeft
		default:
			return nil, unsupported("node %d has mode %s, which is not supported; BRANCH_LEQ, LT, GTE and GT are", a.nodeIDs[at], quote(mode))
		}
		if n.Op == Less && a.double {
			n.Value = roundUp(n.Value)
		}
	}
	return nodes, nil
}

// roundUp is the least float32 value that is not below t: for the float32 values that rows hold, x < t and
// x < roundUp(t) are the same.
func roundUp(t float64) float64 {
	r := float32(t)
	if float64(r) < t {
		r = math.Nextafter32(r, float32(math.Inf(1)))
	}
	return float64(r)
}

// fill makes the ensemble. A leaf may add to several classes; an [Ensemble]'s tree adds to one group, so such a tree
// becomes one tree per class it adds to, with the same splits. That changes no sum.
func (a *onnxTrees) fill(e *Ensemble, m *onnxModel) error {
	list, byID, err := a.trees(m.limits.Trees)
	if err != nil {
		return err
	}
	start, indices, err := a.weightsOf(list, byID)
	if err != nil {
		return err
	}
	if a.classifier != (e.Booster == "TreeEnsembleClassifier") {
		return errors.New("its class labels are missing, or it is a regressor with class labels")
	}
	if err := a.scores(e, m.limits.Groups); err != nil {
		return err
	}
	b := onnxBuilder{onnxTrees: a, start: start, indices: indices, limits: m.limits, budget: 1<<12 + m.size/3,
		leaves: make([]int32, e.Groups), always: make([]bool, e.Groups)}
	highest := int32(-1)
	for i := range list {
		h, err := b.add(e, &list[i])
		if err != nil {
			return fmt.Errorf("tree %d: %w", a.treeIDs[list[i].from], err)
		}
		highest = max(highest, h)
	}
	for g := range e.Groups {
		if a.mustScore(e, g) && !b.always[g] {
			return unsupported("some rows have no score for class or target %d, to which ONNX Runtime then adds no base value: this is not supported", g)
		}
	}
	if e.NumFeature < 0 {
		e.NumFeature = max(1, int(highest)+1)
	}
	if int(highest) >= e.NumFeature || int(highest) >= m.limits.Features {
		return fmt.Errorf("it splits on feature %d, but the input has %d", highest, e.NumFeature)
	}
	return a.finish(e, len(list))
}

// onnxBuilder turns trees into ensemble trees.
type onnxBuilder struct {
	*onnxTrees
	start, indices []int32
	limits         Limits
	budget         int     // nodes that may still be made
	groups         []int32 // those that the tree at hand adds to
	leaves         []int32 // per group: leaves of the tree at hand that add to it, 0 between trees
	always         []bool  // per group: some tree adds to it whichever way a row takes
}

var errTooWide = errors.New("its leaves add to many classes or targets: that needs more memory than a file of this size may take")

// add appends the trees that t becomes and gives the highest feature used.
func (b *onnxBuilder) add(e *Ensemble, t *onnxTree) (highest int32, err error) {
	if b.budget -= t.to - t.from; b.budget < 0 {
		return 0, errTooWide
	}
	nodes, err := b.structure(t)
	if err != nil {
		return 0, err
	}
	if err := b.groupsOf(e, t); err != nil {
		return 0, err
	}
	if len(b.groups) == 0 { // it adds nothing, but must be a tree all the same
		shape := Tree{Nodes: nodes}
		return shape.settle(b.limits.Depth)
	}
	for k, g := range b.groups {
		out := Tree{Group: int(g), Scale: 1, Nodes: nodes}
		if k < len(b.groups)-1 {
			if b.budget -= len(nodes); b.budget < 0 {
				return 0, errTooWide
			}
			out.Nodes = append([]Node(nil), nodes...)
		}
		if err := b.weigh(out.Nodes, t, g); err != nil {
			return 0, err
		}
		if highest, err = out.settle(b.limits.Depth); err != nil {
			return 0, err
		}
		if len(e.Trees) >= b.limits.Trees {
			return 0, errTooWide
		}
		e.Trees = append(e.Trees, out)
	}
	return highest, nil
}

// groupsOf finds the groups that t's leaves add to, and those that every leaf adds to.
func (b *onnxBuilder) groupsOf(e *Ensemble, t *onnxTree) error {
	b.groups = b.groups[:0]
	all := int32(0)
	for i := t.from; i < t.to; i++ {
		if string(b.modes[i]) != "LEAF" {
			continue
		}
		all++
		of := b.indices[b.start[i]:b.start[i+1]]
		if len(of) == 0 && !b.classifier && e.Groups == 1 {
			return fmt.Errorf("leaf %d has no weight", b.nodeIDs[i])
		}
		for _, w := range of {
			g := b.weightGroups[w]
			if g < 0 || int(g) >= e.Groups {
				return fmt.Errorf("a leaf adds to class or target %d; there are %d", g, e.Groups)
			}
			if b.leaves[g] == 0 {
				b.groups = append(b.groups, g)
			}
			b.leaves[g]++
		}
	}
	for _, g := range b.groups { // a leaf that adds twice is refused later
		b.always[g] = b.always[g] || b.leaves[g] == all
		b.leaves[g] = 0
	}
	return nil
}

// weigh puts the weights for group g into the leaves; leaves without one add 0.
func (b *onnxBuilder) weigh(nodes []Node, t *onnxTree, g int32) error {
	for i := range nodes {
		if nodes[i].Op != Leaf {
			continue
		}
		found := false
		nodes[i].Value = 0
		for _, w := range b.indices[b.start[t.from+i]:b.start[t.from+i+1]] {
			if b.weightGroups[w] != g {
				continue
			}
			if found {
				return fmt.Errorf("leaf %d has two weights for one class or target", b.nodeIDs[t.from+i])
			}
			found, nodes[i].Value = true, b.weights[w]
		}
	}
	return nil
}
