package forest

import (
	"sync"
	"unsafe"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// workspace is the memory that one thread needs to run a model.
type workspace struct {
	model   *model
	scratch *tensor.Buffer
	// margins are those of mostRows rows, nil for models whose margins can lie where the predictions will be; and row is one
	// row of them, for transforms that are computed row by row.
	margins *tensor.Buffer
	row     []float64
}

func newWorkspace(m *model) (*workspace, error) {
	scratch, err := m.program.newScratch(m.pin)
	if err != nil {
		return nil, err
	}
	w := &workspace{model: m, scratch: scratch, row: make([]float64, m.groups)}
	if m.direct() {
		return w, nil
	}
	if w.margins, err = alloc(mostRows*m.groups*8, m.pin); err != nil {
		scratch.Release()
		return nil, err
	}
	return w, nil
}

// run predicts the rows at in, float32, and writes the predictions to out, float32.
func (w *workspace) run(in, out unsafe.Pointer, rows int) {
	m := w.model
	scratch := unsafe.Pointer(unsafe.SliceData(w.scratch.Bytes()))
	for rows > 0 {
		n, margins := min(rows, mostRows), out
		if w.margins != nil {
			margins = unsafe.Pointer(unsafe.SliceData(w.margins.Bytes()))
		}
		m.program.run(in, margins, scratch, n)
		w.finish(margins, out, n)
		if rows -= n; rows > 0 {
			in, out = unsafe.Add(in, 4*n*m.features), unsafe.Add(out, 4*n*m.outputs)
		}
	}
}

// fewMargins is how many are finished here sooner than in C.
const fewMargins = 8

// finish turns the margins of n rows into predictions, to the bits that ensemble.Transform gives.
func (w *workspace) finish(margins, out unsafe.Pointer, n int) {
	m := w.model
	all := n * m.groups
	switch t := m.head.Objective.Transform; {
	case margins == out && t == ensemble.Identity:
	case all >= fewMargins && m.program.finish(&m.head, margins, out, n):
	case margins == out && t == ensemble.Sigmoid:
		for i, x := range unsafe.Slice((*float32)(out), all) {
			unsafe.Slice((*float32)(out), all)[i] = 1 / (float32(ensemble.Exp(float64(min(-x, 88.7)))) + 1)
		}
	default:
		w.finishRows(margins, unsafe.Slice((*float32)(out), n*m.outputs), n)
	}
}

func (w *workspace) finishRows(margins unsafe.Pointer, out []float32, n int) {
	m := w.model
	for r := range n {
		if m.wide {
			copy(w.row, unsafe.Slice((*float64)(margins), n*m.groups)[r*m.groups:])
		} else {
			for g, x := range unsafe.Slice((*float32)(margins), n*m.groups)[r*m.groups : (r+1)*m.groups] {
				w.row[g] = float64(x)
			}
		}
		m.head.Transform(w.row, m.rounds)
		for o := range m.outputs {
			out[r*m.outputs+o] = float32(w.row[o])
		}
	}
}

func (w *workspace) Close() {
	w.scratch.Release()
	w.margins.Release()
	w.scratch, w.margins = nil, nil
}

// spares are the workspaces of a model's helpers while they have nothing to do. As helpers are limited by the cores of the
// process, so are these. Any number of goroutines may use it.
type spares struct {
	mu   sync.Mutex
	free []*workspace
}

// take gives a workspace, a new one where none is free.
func (s *spares) take(m *model) (*workspace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		w := s.free[n-1]
		s.free = s.free[:n-1]
		return w, nil
	}
	return newWorkspace(m)
}

func (s *spares) put(w *workspace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, w)
}

// Close releases what is free. No helper may be running.
func (s *spares) Close() {
	for _, w := range s.free {
		w.Close()
	}
	s.free = nil
}
