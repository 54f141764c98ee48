package cuda

import (
	"errors"
	"unsafe"

	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/tensor"
)

// fewRows is how many rows are few: they are copied through pinned memory that stays where it is, so that copy, kernel and copy back can be a
// graph.
const fewRows = 2048

// sizes are what few rows are padded to. What the rows behind them hold does not matter, nor what comes of it.
var sizes = [...]int{32, 128, 512, fewRows}

// few is what an instance has for few rows. It uses the first slot's stream and memory on the device, in which nothing is on its way between runs.
type few struct {
	slot    *slot
	in, out *tensor.Buffer // pinned
	graphs  [len(sizes)]*cuda.Graph
	// noGraphs tells that the driver could not make one: then work is put into the stream piece by piece.
	noGraphs bool
}

func (m *model) newFew(s *slot) (f *few, err error) {
	f = &few{slot: s}
	if f.in, err = m.lease.Pool.Pinned(4 * fewRows * m.features); err != nil {
		return nil, err
	}
	if f.out, err = m.lease.Pool.Pinned(fewRows * m.resultBytes()); err != nil {
		f.in.Release()
		return nil, err
	}
	clear(f.in.Bytes())
	return f, nil
}

// runFew predicts at most fewRows rows.
func (i *instance) runFew(from, to unsafe.Pointer, rows int) error {
	m, f := i.model, i.few
	copy(f.in.Bytes(), unsafe.Slice((*byte)(from), 4*rows*m.features))
	size := 0
	for sizes[size] < rows {
		size++
	}
	err := f.send(m, size)
	// Also after an error: part of it may be on its way.
	if waited := f.slot.stream.Synchronize(); err == nil {
		err = waited
	}
	if err != nil {
		return err
	}
	i.put(f.out.Bytes()[:rows*m.resultBytes()], to, rows)
	return nil
}

// send puts a padded batch into the stream as a graph, which is made the first time that its size is used.
func (f *few) send(m *model, size int) error {
	if g := f.graphs[size]; g != nil {
		return g.Launch(f.slot.stream)
	}
	work := func() error {
		rows, s := sizes[size], f.slot
		if err := s.stream.CopyIn(s.in.At, unsafe.Pointer(unsafe.SliceData(f.in.Bytes())), 4*rows*m.features); err != nil {
			return err
		}
		if err := m.launch(s, rows, rows); err != nil {
			return err
		}
		return s.stream.CopyOut(unsafe.Pointer(unsafe.SliceData(f.out.Bytes())), m.result(s), rows*m.resultBytes())
	}
	if f.noGraphs {
		return work()
	}
	g, err := f.slot.stream.Capture(work)
	if err == nil {
		f.graphs[size] = g
		return g.Launch(f.slot.stream)
	}
	if errors.Is(err, cuda.ErrLost) {
		return err
	}
	f.noGraphs = true
	return work()
}

// free gives back what there is; nothing may be on its way.
func (f *few) free() (err error) {
	if f == nil {
		return nil
	}
	for _, g := range f.graphs {
		if g != nil {
			err = errors.Join(err, g.Close())
		}
	}
	f.in.Release()
	f.out.Release()
	return err
}
