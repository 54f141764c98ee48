package roofline

// shape is a model of complete trees over features that each have some hundred distinct thresholds.
type shape struct{ trees, depth, features int }

// What the forest's layouts take, in bytes: see backends/forest/forest.h, row.inc.h and slice.inc.h.
const (
	topBytes  = 16 // slots and ranks of the block at the top of a tree
	lineBytes = 64 // a block below it with its exits and leaves
	pivots    = 16 // floats that a rank is searched among, twice
	floatSize = 4
)

// rowKernel is what a row takes in the row kernel for trees of up to depth 6, two blocks one below the other: of each tree the top
// block and one of those below, a line. Of the thresholds two lines of 16 are read for each feature. An operation is one on a
// whole register: a permute and a comparison for each width / 8 blocks, and two comparisons for each sixteen thresholds.
func (s shape) rowKernel(width int) (bytes, operations float64) {
	blocks := 2 * float64(s.trees)
	bytes = float64(s.trees)*(topBytes+lineBytes) + float64(s.features)*(2*pivots*floatSize+floatSize)
	operations = 2*blocks/(float64(width)/8) + float64(s.features)*2*pivots*floatSize/float64(width)
	return bytes, operations
}

// sliceKernel is what a row takes in the slice kernel, which has 8 * width rows in its registers, a bit for each: of each tree
// 2^depth - 1 masks are read and as many registers selected, less those of the lowest level that need none, then the leaves are
// looked up in width / 64 registers each. Masks are written once for every distinct threshold, of which there are at most as many
// as nodes, and 255 for a feature.
func (s shape) sliceKernel(width int) (bytes, operations float64) {
	rows := float64(8 * width)
	nodes := float64(int(1)<<s.depth - 1)
	leaves := float64(int(1) << s.depth)
	distinct := min(255*float64(s.features), float64(s.trees)*nodes)
	masks := (float64(s.trees)*nodes + distinct) * float64(width)
	tables := float64(s.trees) * (nodes*floatSize + leaves*floatSize)
	bytes = (masks+tables)/rows + float64(s.features)*floatSize
	// Selections, and of the eight groups of width rows each four bytes of a leaf from leaves / width registers.
	lookups := 8 * floatSize * max(1, leaves/float64(width))
	operations = (float64(s.trees)*(nodes-float64(s.depth)+lookups) + distinct) / rows
	return bytes, operations
}
