package ensemble

import (
	"fmt"
	"math"
)

// settle makes sure that t is a tree (every child in range, every node reached at most once, no deeper than maxDepth
// splits, no NaN to compare with or to add), fills in its depth, and turns unreachable nodes into leaves of value 0.
// It gives the highest feature used, -1 for a tree without splits.
func (t *Tree) settle(maxDepth int) (maxFeature int32, err error) {
	seen := make([]bool, len(t.Nodes))
	type step struct {
		node  int32
		depth int32
	}
	// A walk with a stack of its own: the depth of a hostile tree must not become depth of this process's stack.
	stack := []step{{0, 0}}
	maxFeature = -1
	for len(stack) > 0 {
		at := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if seen[at.node] {
			return 0, fmt.Errorf("node %d is reached twice: this is no tree", at.node)
		}
		seen[at.node] = true
		n := &t.Nodes[at.node]
		if n.Op == Leaf {
			if math.IsNaN(n.Value) {
				return 0, fmt.Errorf("leaf %d has the value NaN", at.node)
			}
			t.Depth = max(t.Depth, int(at.depth))
			continue
		}
		if int(at.depth) >= maxDepth {
			return 0, fmt.Errorf("it is deeper than the limit of %d splits", maxDepth)
		}
		if math.IsNaN(n.Value) && (n.Op == Less || n.Op == LessEqual) {
			return 0, fmt.Errorf("node %d has the threshold NaN", at.node)
		}
		if n.Feature < 0 {
			return 0, fmt.Errorf("node %d splits on feature %d", at.node, n.Feature)
		}
		maxFeature = max(maxFeature, n.Feature)
		for _, child := range [2]int32{n.Right, n.Left} {
			if child < 0 || int(child) >= len(t.Nodes) {
				return 0, fmt.Errorf("node %d has a child %d, but the tree has %d nodes", at.node, child, len(t.Nodes))
			}
			stack = append(stack, step{child, at.depth + 1})
		}
	}
	for i := range t.Nodes {
		if !seen[i] {
			t.Nodes[i] = Node{Left: -1, Right: -1, Set: -1}
		}
	}
	return maxFeature, nil
}

// setBudget bounds the memory that sets of categories take: a category is a bit position, so a few bytes of a hostile
// file could otherwise ask for megabytes each.
type setBudget struct{ words int }

func newSetBudget(fileSize int) *setBudget { return &setBudget{words: 1<<18 + 2*fileSize} }

// set makes room for categories 0 to last.
func (b *setBudget) set(last int32) ([]uint32, error) {
	n := int(last)/32 + 1
	if n > b.words {
		return nil, fmt.Errorf("category %d needs more memory than a file of this size may take", last)
	}
	b.words -= n
	return make([]uint32, n), nil
}
