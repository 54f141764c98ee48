package cuda

import "github.com/picket-ml/picket/internal/cuda"

// As in kernel/forest.h.
const (
	threads = 256 // of a block
	step    = 4   // trees that a thread goes down in step
)

// maxLanes is how many threads look at the same row at most. With more, the one that adds up what they have found is what takes the time.
const maxLanes = 32

// shape is how the threads of a block divide the work. See kernel/forest.h.
type shape struct {
	blockRows, lanes int
	staged           bool
	shared           int // bytes
}

// fill is how many threads a multiprocessor should have, so that there is always one whose loads have arrived. Its largest number is 1,024 to
// 2,048, by the GPU.
const fill = 1024

// stride is how many floats of shared memory a row takes: odd, so that a column of 32 rows lies in 32 banks.
func stride(views int) int { return views | 1 }

// shapeFor divides the work on so many rows, all that are on the device at once: with as few lanes as fill the device, whose rows fit the shared memory that leaves room for four
// blocks beside each other. Where they do not, all of the shared memory is taken; ok is false where not even 8 rows fit. Rows whose views
// are the columns can stay where they are then.
func shapeFor(d cuda.Device, views, rows, valueBytes int, plain bool) (s shape, ok bool) {
	for _, limit := range []int{d.Shared / 4, d.Shared} {
		for lanes := 1; lanes <= maxLanes; lanes *= 2 {
			at := shape{blockRows: threads / lanes, lanes: lanes, staged: true}
			at.shared = 4*at.blockRows*stride(views) + at.tile(valueBytes)
			if at.shared > limit {
				continue
			}
			s, ok = at, true
			if rows*lanes >= fill*d.Processors {
				break
			}
		}
		if ok {
			return s, true
		}
	}
	if !plain {
		return s, false
	}
	s.lanes = 1
	for s.lanes < maxLanes && rows*s.lanes < fill*d.Processors {
		s.lanes *= 2
	}
	s.blockRows = threads / s.lanes
	s.shared = s.tile(valueBytes)
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
