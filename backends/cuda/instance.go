package cuda

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/tensor"
)

// instance is one executor. It belongs to one goroutine.
type instance struct {
	model *model
	slots []*slot
	row   []float64 // of the host's transforms
	// began is the start of a large batch, where somebody is told of chunks; else nil.
	began *cuda.Event
}

// slot is a stream and the memory of one chunk on its way.
type slot struct {
	stream *cuda.Stream
	// in and margins are those of a chunk; out are predictions, where they do not lie in the place of margins.
	in, margins, out *cuda.Memory
	// Pinned memory for rows that come from, and results that go to, memory that is not. Nil until it is needed.
	stageIn, stageOut *tensor.Buffer

	// What is on its way; rows is 0 for nothing.
	rows int
	to   unsafe.Pointer // where the predictions go
	// together is how many rows are on their way in all slots at once.
	together int
	// near tells that nothing is copied: the kernel reads the rows, and writes what comes back, in pinned memory itself.
	near bool
	// direct tells that they have been put there by the device.
	direct bool
	// marks are when a chunk began, was copied in, computed and copied out, where somebody is told; else there are none.
	marks []*cuda.Event
	// run is the kernel's parameter, alone in its memory: C is shown nothing that leads on into the Go heap.
	run *run
}

// NewInstance makes the streams and takes the memory of one executor.
func (m *model) NewInstance() (engine.Instance, error) {
	i := &instance{model: m, slots: make([]*slot, m.device.slots), row: make([]float64, m.groups)}
	for n := range i.slots {
		s, err := m.newSlot()
		if err == nil {
			i.slots[n] = s
			continue
		}
		return nil, m.device.Failed(devices.And(err, i.free()))
	}
	var err error
	if m.device.timeline != nil {
		if i.began, err = m.lease.Context.NewEvent(true); err != nil {
			return nil, m.device.Failed(devices.And(err, i.free()))
		}
	}
	return i, nil
}

func (m *model) newSlot() (s *slot, err error) {
	s = &slot{}
	defer func() {
		if err != nil {
			err = devices.And(err, s.free(m.lease.Pool))
		}
	}()
	if s.stream, err = m.lease.Context.NewStream(); err != nil {
		return s, err
	}
	pool := m.lease.Pool
	if s.in, err = pool.Alloc(4 * m.chunk * m.features); err != nil {
		return s, err
	}
	if s.margins, err = pool.Alloc(m.valueBytes * m.chunk * m.groups); err != nil {
		return s, err
	}
	parameter := m.run
	s.run = &parameter
	for m.device.timeline != nil && len(s.marks) < 4 {
		e, err := m.lease.Context.NewEvent(true)
		if err != nil {
			return s, err
		}
		s.marks = append(s.marks, e)
	}
	if m.valueBytes == 8 && !m.onHost() {
		if s.out, err = pool.Alloc(4 * m.chunk * m.outputs); err != nil {
			return s, err
		}
	}
	return s, nil
}

// free gives back all there is of a slot, of which nothing may be on its way.
func (s *slot) free(pool *cuda.Pool) (err error) {
	for _, memory := range []*cuda.Memory{s.in, s.margins, s.out} {
		pool.Free(memory)
	}
	s.stageIn.Release()
	s.stageOut.Release()
	for _, e := range s.marks {
		err = errors.Join(err, e.Close())
	}
	if s.stream != nil {
		err = errors.Join(err, s.stream.Close())
	}
	return err
}

// mark records where a chunk is, if somebody is told.
func (s *slot) mark(n int) error {
	if s.marks == nil {
		return nil
	}
	return s.stream.Record(s.marks[n])
}

// tell tells of the chunk that was done in the slot.
func (i *instance) tell(s *slot, rows int) error {
	c := Chunk{Slot: slices.Index(i.slots, s), Rows: rows}
	for n, at := range []*time.Duration{&c.Began, &c.Copied, &c.Computed, &c.Returned} {
		var err error
		if *at, err = s.marks[n].Since(i.began); err != nil {
			return err
		}
	}
	i.model.device.timeline(c)
	return nil
}

// launch puts the kernel on so many rows into the stream, of so many that are on the device together.
func (m *model) launch(s *slot, rows, together int) error {
	shape, _ := shapeFor(m.device.Facts(), m.views, together, int(m.run.trees), m.valueBytes, m.plain)
	s.run.rows, s.run.blockRows, s.run.lanes = uint32(rows), uint32(shape.blockRows), uint32(shape.lanes)
	s.run.rowBits, s.run.staged = uint32(bits.TrailingZeros(uint(shape.blockRows))), uint32(shape.staged)
	s.run.stride, s.run.apart = uint32(shape.stride), uint32(shape.apart)
	return s.stream.Launch(m.function, shape.blocks(rows), threads, shape.shared, unsafe.Pointer(s.run))
}

// place tells the kernel where the chunk's rows lie and where what comes back of them goes: in the slot's own memory, or near at from and to, which are
// pinned. It says where in the slot's memory what comes back is copied from.
func (m *model) place(s *slot, from, to unsafe.Pointer) cuda.Ptr {
	s.run.in, s.run.margins, s.run.out = s.in.At, s.margins.At, s.margins.At
	if s.out != nil {
		s.run.out = s.out.At
	}
	back := &s.run.out
	if m.onHost() {
		back = &s.run.margins
	}
	if s.near {
		s.run.in, *back = cuda.Address(from), cuda.Address(to)
	}
	return *back
}

// Run predicts the rows. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	// The engine has seen to this; but what follows writes by address.
	if len(in) != 1 || len(out) != 1 || rows < 1 || in[0].Size() != 4*rows*m.features || out[0].Size() != 4*rows*m.outputs {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	if err := i.runChunks(in[0], out[0], rows); err != nil {
		return m.device.Failed(err)
	}
	return nil
}

// runChunks sends the rows through the slots, one after the other. Whatever happens, nothing is on its way when it returns: the tensors are
// borrowed.
func (i *instance) runChunks(in, out tensor.Tensor, rows int) (err error) {
	m := i.model
	from, to := tensor.Pointer(in), tensor.Pointer(out)
	pinnedIn, pinnedOut := cuda.Pinned(in.Buffer), cuda.Pinned(out.Buffer) && !m.onHost()
	// Chunks of about the same size, so that the last one is not a short one that fills no GPU.
	if i.began != nil {
		if err := i.slots[0].stream.Record(i.began); err != nil {
			return err
		}
	}
	chunks := (rows + m.chunk - 1) / m.chunk
	size := (rows + chunks - 1) / chunks
	for at, n := 0, 0; at < rows && err == nil; n++ {
		s := i.slots[n%len(i.slots)]
		if err = i.finish(s); err != nil {
			break
		}
		some := min(size, rows-at)
		s.together = min(rows, size*len(i.slots))
		s.near = chunks == 1 && m.staged
		err = i.start(s, unsafe.Add(from, 4*at*m.features), unsafe.Add(to, 4*at*m.outputs), some, pinnedIn, pinnedOut)
		at += some
	}
	for _, s := range i.slots {
		if failed := i.finish(s); err == nil {
			err = failed
		}
	}
	return err
}

// start puts a chunk into its slot's stream: copy in, kernel, copy out; or the kernel alone, where the slot is near.
func (i *instance) start(s *slot, from, to unsafe.Pointer, rows int, pinnedIn, pinnedOut bool) error {
	m := i.model
	bytes, back := 4*rows*m.features, rows*m.resultBytes()
	if !pinnedIn {
		if err := i.stage(&s.stageIn, 4*m.chunk*m.features); err != nil {
			return err
		}
		copy(s.stageIn.Bytes(), unsafe.Slice((*byte)(from), bytes))
		from = unsafe.Pointer(unsafe.SliceData(s.stageIn.Bytes()))
	}
	landing := to
	if !pinnedOut {
		if err := i.stage(&s.stageOut, m.chunk*m.resultBytes()); err != nil {
			return err
		}
		landing = unsafe.Pointer(unsafe.SliceData(s.stageOut.Bytes()))
	}
	s.rows, s.to, s.direct = rows, to, pinnedOut // from here on something may be on its way
	result := m.place(s, from, landing)
	if err := s.mark(0); err != nil {
		return err
	}
	if !s.near {
		if err := s.stream.CopyIn(s.in.At, from, bytes); err != nil {
			return err
		}
	}
	if err := s.mark(1); err != nil {
		return err
	}
	if err := m.launch(s, rows, s.together); err != nil {
		return err
	}
	if err := s.mark(2); err != nil {
		return err
	}
	if !s.near {
		if err := s.stream.CopyOut(landing, result, back); err != nil {
			return err
		}
	}
	return s.mark(3)
}

func (i *instance) stage(b **tensor.Buffer, n int) (err error) {
	if *b == nil {
		*b, err = i.model.lease.Pool.Pinned(n)
	}
	return err
}

// finish waits for what is on its way in a slot, and puts the predictions where they belong. After an error it has waited all the same.
func (i *instance) finish(s *slot) error {
	if s.rows == 0 {
		return nil
	}
	rows := s.rows
	s.rows = 0
	if err := s.stream.Synchronize(); err != nil {
		return err
	}
	if !s.direct {
		i.put(s.stageOut.Bytes(), s.to, rows)
	}
	if s.marks != nil {
		return i.tell(s, rows)
	}
	return nil
}

// put turns what came back for the rows into predictions.
func (i *instance) put(back []byte, to unsafe.Pointer, rows int) {
	m := i.model
	out := unsafe.Slice((*float32)(to), rows*m.outputs)
	if !m.onHost() {
		copy(unsafe.Slice((*byte)(to), 4*len(out)), back)
		return
	}
	from := unsafe.Pointer(unsafe.SliceData(back))
	for r := range rows {
		if m.valueBytes == 8 {
			copy(i.row, unsafe.Slice((*float64)(from), rows*m.groups)[r*m.groups:])
		} else {
			for g, x := range unsafe.Slice((*float32)(from), rows*m.groups)[r*m.groups : (r+1)*m.groups] {
				i.row[g] = float64(x)
			}
		}
		m.head.Transform(i.row, m.rounds)
		for o := range m.outputs {
			out[r*m.outputs+o] = float32(i.row[o])
		}
	}
}

// Close gives back streams and memory.
func (i *instance) Close() error {
	err := i.free()
	if errors.Is(err, cuda.ErrLost) {
		return nil // there is nothing to give back any more
	}
	return err
}

func (i *instance) free() (err error) {
	if i.began != nil {
		err = errors.Join(err, i.began.Close())
	}
	for _, s := range i.slots {
		if s != nil {
			err = errors.Join(err, s.free(i.model.lease.Pool))
		}
	}
	return err
}
