package ensemble

import "math"

// Op is what a node does with a row.
type Op uint8

// The operations. XGBoost and LightGBM send a category of the set to different sides, so there are two.
const (
	Leaf      Op = iota // ends the walk; Value is added to the group's sum
	Less                // left if x < Value (XGBoost)
	LessEqual           // left if x <= Value (LightGBM)
	SetRight            // right if x is in the set, else left (XGBoost)
	SetLeft             // left if x is in the set, else right (LightGBM)
)

// Missing is which values take a node's default direction instead of the comparison.
type Missing uint8

// The kinds of missing. XGBoost knows only MissingNaN; LightGBM has all three.
const (
	MissingNaN  Missing = iota // NaN takes the default direction
	MissingNone                // nothing does: NaN is read as 0 and compared
	MissingZero                // NaN, and values within ZeroThreshold of 0, take the default direction
)

// ZeroThreshold is how near to zero LightGBM takes a value for zero: 1e-35 rounded to float32, inclusive.
const ZeroThreshold = float32(1e-35)

// Node is one node of a tree. Nodes keep the numbers of the file (LightGBM: splits first, then leaves), so leaf
// indices can be compared with the trainer's.
type Node struct {
	// Value is the threshold of a split or the value of a leaf. XGBoost's are float32 values, exactly.
	Value float64
	// Cover is the training weight that came through the node (sum of hessians, or rows), 0 when the file has none.
	Cover float32
	// Feature is the column a split reads.
	Feature int32
	// Left and Right are the children of a split, -1 in a leaf.
	Left, Right int32
	// Set is the index into Tree.Categories for SetLeft and SetRight, else -1.
	Set         int32
	Op          Op
	Missing     Missing
	DefaultLeft bool
}

// Tree is one tree of an ensemble. Node 0 is the root; every node reachable from it is reached once. Nodes that cannot
// be reached (XGBoost leaves pruned ones in place) are leaves of value 0.
type Tree struct {
	Group int     // the margin this tree adds to
	Scale float32 // factor on the leaf values (dart's weight_drop), else 1
	Depth int     // splits on the longest way from the root to a leaf
	Nodes []Node
	// Categories holds the sets of categorical splits as bits: category c is in set s when bit c%32 of word c/32 is
	// set. Categories past the last word are not in the set.
	Categories [][]uint32
}

// InSet says whether category c is in set s.
func (t *Tree) InSet(s int32, c uint32) bool {
	words := t.Categories[s]
	return int(c/32) < len(words) && words[c/32]>>(c%32)&1 == 1
}

// Above is the least float32 above t, so that x <= t is !(x >= Above(t)) for every float32 x; NaN where there is none.
func Above(t float64) float32 {
	down := float32(t)
	if float64(down) > t {
		down = math.Nextafter32(down, float32(math.Inf(-1)))
	}
	if math.IsInf(float64(down), 1) {
		return float32(math.NaN())
	}
	return math.Nextafter32(down, float32(math.Inf(1)))
}
