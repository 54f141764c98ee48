package cuda

import "github.com/picket-ml/picket/internal/cuda"

// As in kernel/forest.h.
const (
	threads = 256 // of a block
	step    = 4   // trees that a thread goes down in step
)

// maxLanes is how many threads look at the same row at most. With more, the one that adds up what they have found is what takes the time.
const maxLanes = 64

// shape is how the threads of a block divide the work. See kernel/forest.h.
type shape struct {
	blockRows, lanes int // powers of two, together threads
	staged, shared   int // bytes of shared memory: of the rows' views, 0 where they stay where they are, and of all
	stride, apart    int // from one row to the next, and from one view to the next, in floats
}

// lanesFor is how many threads should look at the same row, of so many rows that are on the device at once. More lanes have fewer trees each to go
// down one after the other, fewer lanes leave less to add up to one; both even out where lanes grow with the square root of what a multiprocessor
// has too few rows for. balance is what was the fastest on an H200 from 256 rows to a million, with 500 trees. No lane is without trees.
func lanesFor(d cuda.Device, rows, trees int) int {
	const balance = 32 << 10
	lanes := 1
	for lanes < maxLanes && 4*lanes*lanes*rows <= balance*d.Processors && lanes*step < trees {
		lanes *= 2
	}
	return lanes
}

// shapeOf is the work divided among so many lanes, with the rows staged. The threads of a warp look at any columns of their rows. Where those are
// 32 different rows or more, they lie side by side, column by column, each row in a bank of its own whatever the column. Where they are fewer,
// the rows lie one behind the other, at an odd distance, so that the same column of all of them is in different banks.
func shapeOf(lanes, views, valueBytes int) shape {
	s := shape{blockRows: threads / lanes, lanes: lanes, stride: 1}
	s.apart = s.blockRows
	floats := s.blockRows * views
	if s.blockRows < 32 {
		s.stride, s.apart = views|1, 1
		floats = s.blockRows * s.stride
	}
	s.staged = max(16, 4*floats)
	s.shared = s.staged + s.tile(valueBytes)
	return s
}

// shapeFor divides the work on so many rows, all that are on the device at once: with the lanes that suit their number, or more where their views
// only so fit the shared memory that leaves room for four blocks beside each other. Where they do not, all of the shared memory is taken; ok is false
// where not even the fewest rows of a block fit. Rows whose views are the columns can stay where they are then.
func shapeFor(d cuda.Device, views, rows, trees, valueBytes int, plain bool) (s shape, ok bool) {
	least := lanesFor(d, rows, trees)
	for _, limit := range []int{d.Shared / 4, d.Shared} {
		for lanes := least; lanes <= maxLanes; lanes *= 2 {
			if s = shapeOf(lanes, views, valueBytes); s.shared <= limit {
				return s, true
			}
		}
	}
	if !plain {
		return s, false
	}
	s = shapeOf(least, 0, valueBytes)
	s.staged, s.shared = 0, s.tile(valueBytes)
	return s, true
}

// tile is what lanes hand their leaves over in.
func (s shape) tile(valueBytes int) int {
	if s.lanes == 1 {
		return 0
	}
	return step * threads * valueBytes
}

// blocks is how many blocks so many rows take.
func (s shape) blocks(rows int) int { return (rows + s.blockRows - 1) / s.blockRows }
