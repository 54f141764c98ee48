package capture

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Encoder is an entry as a spool takes it: an Entry, or a run.
type Encoder interface {
	// Len is how many inferences it has.
	Len() int
	// Size is how many bytes AppendTo appends.
	Size() int
	// AppendTo appends the encoded entry to b, which it leaves as it was when the entry breaks a limit.
	AppendTo(b *Draft) error
}

// layout is what entries of runs of a model have in common, written down once: the run of the model has thrown the rest of the program
// out of the processor's caches, so what is done after it is dear by how much code and how many places in memory it takes, and not by
// how many bytes it copies. It does not change.
type layout struct {
	head            []byte // up to the origin
	inputs, outputs []column
	size            int  // bytes beside numbers and rows
	bytes           bool // a row has some, so that numbers can be counted
}

// column is a tensor with a row for each of a run's.
type column struct {
	head []byte // name, type, shape, and how many bytes follow
	rows int    // where in head the number of rows is
	row  int    // bytes of one
}

// Where in an entry's head is what is of one run.
const (
	whyAt    = 2
	namingAt = 3
	timeAt   = 4
	partsAt  = 16
)

// newLayout is nil for a model of which a run is none of rows alone, or breaks a limit of entries.
func newLayout(d *engine.Description) *layout {
	s := &d.Signature
	// An entry of one part without rows stands for all.
	e := Entry{Record: Record{Kind: Sample, Time: time.Unix(0, 0), Model: d.Name, Version: d.Version}, Numbered: true, Parts: make([]Part, 1)}
	l := &layout{inputs: make([]column, len(s.Inputs)), outputs: make([]column, len(s.Outputs))}
	for _, side := range []struct {
		specs   []engine.TensorSpec
		columns []column
		tensors *[]Tensor
	}{{s.Inputs, l.inputs, &e.Inputs}, {s.Outputs, l.outputs, &e.Outputs}} {
		for i := range side.specs {
			spec := &side.specs[i]
			n, err := spec.RowBytes()
			if err != nil || !spec.HasRows() {
				return nil
			}
			t := Tensor{Name: spec.Name, DType: spec.DType, Shape: append([]int64{0}, spec.Dims[1:]...)}
			*side.tensors = append(*side.tensors, t)
			head := appendTensorHead(nil, &t)
			side.columns[i] = column{head: append(head, inside, 0, 0, 0, 0), rows: len(head) - 8*len(t.Shape), row: n}
			l.bytes = l.bytes || n > 0
		}
	}
	if e.check() != nil {
		return nil
	}
	l.head = e.appendHead(nil)
	l.size = e.Size() - numberBytes // without rows they are not counted
	return l
}

// run is a run of the lane that is captured as it lies in its request: what an Entry of it would be written down as, without being made
// one.
type run struct {
	layout  *layout
	request *engine.Request
	why     Why
	at      int64 // nanoseconds since 1970
	every   bool
	counted bool   // every part, with a row and the number that follows the one before
	chosen  []span // where not every part is
	parts   int
	rows    int
}

// span is a part that was chosen, and its rows.
type span struct{ part, first, n int }

// of makes r the run that was chosen of, or tells that it has to be more or other entries.
func (r *run) of(it *item, most int64) bool {
	l, q := it.model.layout, it.request
	parts := q.Parts()
	if l == nil || it.err != nil || it.why&(it.why-1) != 0 || len(parts) == 0 || it.chosen > maxParts || it.size > most && len(parts) > 1 ||
		!haveRows(l.inputs, q.Inputs, q.Rows) || !haveRows(l.outputs, q.Outputs, q.Rows) {
		return false
	}
	r.layout, r.request, r.why, r.every = l, q, it.why, it.chosen == uint64(len(parts))
	r.parts, r.rows, r.chosen = int(it.chosen), q.Rows, r.chosen[:0]
	if r.counted = r.every && l.bytes && countOn(parts); r.every {
		return true
	}
	// Which parts chance has chosen no processor foretells, so nothing branches on it: each is written down, and stays if it was.
	spans := slices.Grow(r.chosen, len(parts))[:len(parts)]
	n, at := 0, 0
	for i := range parts {
		p := &parts[i]
		spans[n] = span{i, at, p.Rows}
		if p.Why != 0 {
			n++
		}
		at += p.Rows
	}
	r.chosen, r.rows = spans[:n], 0
	for i := range r.chosen {
		r.rows += r.chosen[i].n
	}
	return true
}

// haveRows tells whether the tensors are what the layout says: contributions, which some requests have behind them, are left out.
func haveRows(columns []column, tensors []tensor.Tensor, rows int) bool {
	if len(tensors) < len(columns) {
		return false
	}
	for i := range columns {
		if len(tensors[i].Bytes()) != rows*columns[i].row {
			return false
		}
	}
	return true
}

// countOn tells whether the first part's number tells all. It looks at all of them, as nothing is to be foretold.
func countOn(parts []engine.Part) bool {
	first, other := parts[0].Number, uint64(0)
	for i := range parts {
		other |= parts[i].Number - first - uint64(i) | uint64(parts[i].Rows) ^ 1
	}
	return other == 0
}

// Len implements Encoder.
func (r *run) Len() int { return r.parts }

// Size implements Encoder.
func (r *run) Size() int {
	n := r.layout.size
	if r.counted {
		n += countBytes
	} else {
		n += numberBytes * r.parts
	}
	for _, side := range [2][]column{r.layout.inputs, r.layout.outputs} {
		for i := range side {
			n += side[i].row * r.rows
		}
	}
	return n
}

// AppendTo implements Encoder. A run breaks no limit.
func (r *run) AppendTo(to *Draft) error {
	le := binary.LittleEndian
	b, start := to.B, len(to.B)
	b = append(b, r.layout.head...)
	b[start+whyAt], b[start+namingAt] = byte(r.why), numbered
	le.PutUint64(b[start+timeAt:], uint64(r.at))
	le.PutUint16(b[start+partsAt:], uint16(r.parts))
	origin := r.request.Origin()
	b = append(b, origin[:]...)
	parts := r.request.Parts()
	if r.counted {
		b[start+namingAt] = counted
		b = le.AppendUint64(b, parts[0].Number)
	} else {
		var numbers []byte
		b, numbers = growNumbers(b, r.parts)
		if r.every {
			for i := range parts {
				putNumber(numbers, i, uint32(parts[i].Rows), parts[i].Number)
			}
		}
		for i, s := range r.chosen {
			putNumber(numbers, i, uint32(s.n), parts[s.part].Number)
		}
	}
	to.B = b
	r.appendRows(to, r.layout.inputs, r.request.Inputs)
	r.appendRows(to, r.layout.outputs, r.request.Outputs)
	to.appended(start)
	return nil
}

func (r *run) appendRows(to *Draft, columns []column, tensors []tensor.Tensor) {
	le := binary.LittleEndian
	for i := range columns {
		c, data := &columns[i], tensors[i].Bytes()
		b, start := to.B, len(to.B)
		b = append(b, c.head...)
		le.PutUint64(b[start+c.rows:], uint64(r.rows))
		le.PutUint32(b[len(b)-4:], uint32(r.rows*c.row))
		for _, s := range r.chosen {
			b = append(b, data[s.first*c.row:(s.first+s.n)*c.row]...)
		}
		if to.B = b; r.every {
			to.appendRows(data)
		}
	}
}
