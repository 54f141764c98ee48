package ensemble

import (
	"errors"
	"fmt"
	"strconv"
)

// xgbTree is one tree as XGBoost writes it: an array per property.
type xgbTree struct {
	id                      string
	param                   map[string]string
	left, right             []int32
	splitIndex              []int32
	splitCondition          []float32
	defaultLeft             []int32
	splitType               []int32
	cover                   []float32
	categories, catNodes    []int32
	catSegments, catLengths []int32
}

// tree reads the tree at position i and keeps it as nodes at once, so that the arrays of one tree at most are held.
func (m *xgbModel) tree(src source, i int) error {
	var x xgbTree
	if err := x.read(src); err != nil {
		return err
	}
	id := i
	if x.id != "" {
		var err error
		if id, err = strconv.Atoi(x.id); err != nil {
			return fmt.Errorf("id %s is not a number", quote(x.id))
		}
	}
	size, err := intParam(x.param, "size_leaf_vector", 0, 0, 1<<30)
	if err != nil {
		return err
	}
	if size > 1 {
		m.vectorLeaf = true // refused later, where the booster is known; its arrays have other lengths
		return nil
	}
	t, err := x.tree(m.budget)
	if err != nil {
		return err
	}
	highest, err := t.settle(m.limits.Depth)
	if err != nil {
		return err
	}
	m.maxFeature = max(m.maxFeature, highest)
	m.trees, m.ids = append(m.trees, t), append(m.ids, id)
	return nil
}

func (x *xgbTree) read(src source) error {
	return src.object(once(func(key string) (err error) {
		switch key {
		case "id":
			x.id, err = src.text()
		case "tree_param":
			x.param, err = parameters(src)
		case "left_children":
			x.left, err = src.ints()
		case "right_children":
			x.right, err = src.ints()
		case "split_indices":
			x.splitIndex, err = src.ints()
		case "split_conditions":
			x.splitCondition, err = src.floats()
		case "default_left":
			x.defaultLeft, err = src.ints()
		case "split_type":
			x.splitType, err = src.ints()
		case "sum_hessian":
			x.cover, err = src.floats()
		case "categories":
			x.categories, err = src.ints()
		case "categories_nodes":
			x.catNodes, err = src.ints()
		case "categories_segments":
			x.catSegments, err = src.ints()
		case "categories_sizes":
			x.catLengths, err = src.ints()
		default:
			err = src.skip()
		}
		return err
	}))
}

// tree turns the arrays into nodes. Shape is checked later, by settle.
func (x *xgbTree) tree(budget *setBudget) (Tree, error) {
	n := len(x.left)
	if n == 0 {
		return Tree{}, errors.New("it has no nodes")
	}
	if want, err := intParam(x.param, "num_nodes", n, 0, 1<<31-1); err != nil {
		return Tree{}, err
	} else if want != n {
		return Tree{}, fmt.Errorf("num_nodes is %d, but left_children has %d entries", want, n)
	}
	for _, a := range []struct {
		name     string
		length   int
		optional bool
	}{
		{"right_children", len(x.right), false},
		{"split_indices", len(x.splitIndex), false},
		{"split_conditions", len(x.splitCondition), false},
		{"default_left", len(x.defaultLeft), false},
		{"split_type", len(x.splitType), true},
		{"sum_hessian", len(x.cover), true},
	} {
		if a.length != n && (!a.optional || a.length != 0) {
			return Tree{}, fmt.Errorf("%s has %d entries for %d nodes", a.name, a.length, n)
		}
	}
	t := Tree{Nodes: make([]Node, n)}
	for i := range t.Nodes {
		node := &t.Nodes[i]
		*node = Node{Value: float64(x.splitCondition[i]), Left: x.left[i], Right: x.right[i], Set: -1}
		if x.cover != nil {
			node.Cover = x.cover[i]
		}
		if node.Left == -1 && node.Right == -1 {
			continue
		}
		node.Op, node.Feature, node.DefaultLeft = Less, x.splitIndex[i], x.defaultLeft[i] != 0
		if x.splitType != nil && x.splitType[i] != 0 {
			if x.splitType[i] != 1 {
				return Tree{}, fmt.Errorf("node %d has split type %d, which is not known", i, x.splitType[i])
			}
			node.Op, node.Value = SetRight, 0
		}
	}
	err := x.sets(&t, budget)
	return t, err
}

// sets fills in the categories of categorical splits.
func (x *xgbTree) sets(t *Tree, budget *setBudget) error {
	if len(x.catSegments) != len(x.catNodes) || len(x.catLengths) != len(x.catNodes) {
		return errors.New("categories_nodes, categories_segments and categories_sizes differ in length")
	}
	for i, node := range x.catNodes {
		begin, length := int64(x.catSegments[i]), int64(x.catLengths[i])
		if node < 0 || int(node) >= len(t.Nodes) || begin < 0 || length < 0 || begin+length > int64(len(x.categories)) {
			return fmt.Errorf("categories of node %d lie outside the tree's list", node)
		}
		n := &t.Nodes[node]
		if n.Op != SetRight || n.Set >= 0 {
			return fmt.Errorf("node %d has categories but is no categorical split, or has them twice", node)
		}
		last := int32(0)
		for _, c := range x.categories[begin : begin+length] {
			if c < 0 {
				return fmt.Errorf("node %d has category %d", node, c)
			}
			last = max(last, c)
		}
		set, err := budget.set(last)
		if err != nil {
			return fmt.Errorf("node %d: %w", node, err)
		}
		for _, c := range x.categories[begin : begin+length] {
			set[c/32] |= 1 << (c % 32)
		}
		n.Set = int32(len(t.Categories))
		t.Categories = append(t.Categories, set)
	}
	for i := range t.Nodes {
		if t.Nodes[i].Op == SetRight && t.Nodes[i].Set < 0 {
			return fmt.Errorf("node %d is a categorical split without categories", i)
		}
	}
	return nil
}
