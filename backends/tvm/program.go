//go:build cgo && linux

package tvm

// #include "run.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// dlTensor is what TVM calls the kind of an argument that is a tensor.
const dlTensor = 7

// cpu is what DLPack calls memory of the host.
const cpu = 1

// program is a graph as the executor in C runs it, in memory of its own.
type program struct {
	c      C.picket_tvm_program
	memory *tensor.Buffer
	places []C.picket_tvm_place // the inputs, then the heads that are written where the caller wants them
	// outputPlace is which of the places is that of a head, -1 for none.
	outputPlace []int
}

// newProgram writes the calls of the graph down. functions are the addresses of
// what nodes call, nil for nodes that call nothing; at says where a storage is that
// is no caller's. With strides, functions compare what they were compiled for with
// the shapes of the graph. The caller releases it.
func newProgram(p *plan, functions []unsafe.Pointer, at func(s *storage) unsafe.Pointer, strides bool) (*program, error) {
	g := p.graph
	calls, arguments, flat, dims := 0, 0, 0, 0
	for i := range g.Entries {
		dims += g.Entries[i].Shape.Rank()
	}
	for i := range g.Nodes {
		if functions[i] == nil {
			continue
		}
		calls++
		n := len(g.Nodes[i].Inputs) + g.Nodes[i].Count
		arguments += n
		if g.Nodes[i].Flatten {
			flat += n
		}
	}
	tensors := len(g.Entries) + flat
	size := sizeOf[C.picket_tvm_tensor](tensors) + sizeOf[int64](2*(dims+flat)) + sizeOf[C.picket_tvm_call](calls) +
		sizeOf[C.picket_tvm_value](arguments) + sizeOf[int32](arguments) + sizeOf[C.picket_tvm_place](len(g.Entries)) + sizeOf[unsafe.Pointer](tensors)
	memory, err := tensor.Alloc(size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	clear(memory.Bytes())
	w := &writer{plan: p, rest: memory.Bytes(), strides: strides}
	w.tensors = take[C.picket_tvm_tensor](w, tensors)
	w.calls = take[C.picket_tvm_call](w, calls)
	for i := range g.Entries {
		e := &g.Entries[i]
		w.describe(&w.tensors[i], i, e.Shape.AppendDims(nil))
		if s := &p.storages[e.Storage]; s.role == scratch || s.role == parameter {
			w.tensors[i].data = at(s)
		}
	}
	w.flat = w.tensors[len(g.Entries):]
	of := make([][]*C.picket_tvm_tensor, len(p.storages)) // what lies in each storage of a caller
	for i := range g.Entries {
		of[g.Entries[i].Storage] = append(of[g.Entries[i].Storage], &w.tensors[i])
	}
	next := 0
	for i := range g.Nodes {
		if functions[i] != nil {
			w.call(&w.calls[next], i, functions[i], of)
			next++
		}
	}
	made := &program{memory: memory, outputPlace: make([]int, len(g.Heads))}
	made.writePlaces(w, p, of)
	made.c = C.picket_tvm_program{
		calls: unsafe.SliceData(w.calls), call_count: C.size_t(calls),
		places: unsafe.SliceData(made.places), place_count: C.size_t(len(made.places)),
	}
	return made, nil
}

// writePlaces writes down what changes from run to run.
func (made *program) writePlaces(w *writer, p *plan, of [][]*C.picket_tvm_tensor) {
	g := p.graph
	storages := make([]int, 0, len(p.inputs)+len(g.Heads))
	for _, e := range p.inputs {
		storages = append(storages, g.Entries[e].Storage)
	}
	for n, h := range g.Heads {
		made.outputPlace[n] = -1
		if p.direct[n] {
			made.outputPlace[n] = len(storages)
			storages = append(storages, g.Entries[h].Storage)
		}
	}
	made.places = take[C.picket_tvm_place](w, len(storages))
	for n, s := range storages {
		list := take[*C.picket_tvm_tensor](w, len(of[s]))
		copy(list, of[s])
		made.places[n] = C.picket_tvm_place{tensors: unsafe.SliceData(list), count: C.size_t(len(list))}
	}
}

// writer puts the parts of a program into its memory, which has room for them.
type writer struct {
	plan    *plan
	rest    []byte
	strides bool
	tensors []C.picket_tvm_tensor
	flat    []C.picket_tvm_tensor // those of nodes that take tensors flat, not written yet
	calls   []C.picket_tvm_call
}

// call writes down what node i calls.
func (w *writer) call(c *C.picket_tvm_call, i int, function unsafe.Pointer, of [][]*C.picket_tvm_tensor) {
	g := w.plan.graph
	node := &g.Nodes[i]
	n := len(node.Inputs) + node.Count
	values, kinds := take[C.picket_tvm_value](w, n), take[C.int32_t](w, n)
	for k := range n {
		entry := node.First + k - len(node.Inputs)
		if k < len(node.Inputs) {
			entry = node.Inputs[k]
		}
		t := &w.tensors[entry]
		if node.Flatten {
			e := &g.Entries[entry]
			flat := &w.flat[0]
			w.flat = w.flat[1:]
			w.describe(flat, entry, []int64{e.Shape.Elements()})
			flat.data = t.data
			of[e.Storage] = append(of[e.Storage], flat)
			t = flat
		}
		*(**C.picket_tvm_tensor)(unsafe.Pointer(&values[k])) = t
		kinds[k] = dlTensor
	}
	*c = C.picket_tvm_call{function: function, values: unsafe.SliceData(values), kinds: unsafe.SliceData(kinds), count: C.int32_t(n)}
}

// describe writes all of a tensor but where it is.
func (w *writer) describe(t *C.picket_tvm_tensor, entry int, dims []int64) {
	e := &w.plan.graph.Entries[entry]
	*t = C.picket_tvm_tensor{device_type: cpu, rank: C.int32_t(len(dims)), code: C.uint8_t(e.Element.Code), bits: C.uint8_t(e.Element.Bits), lanes: 1}
	shape := take[int64](w, len(dims))
	copy(shape, dims)
	t.shape = (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(shape)))
	if w.strides {
		strides, product := take[int64](w, len(dims)), int64(1)
		for i := len(dims) - 1; i >= 0; i-- {
			strides[i] = product
			product *= dims[i]
		}
		t.strides = (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(strides)))
	}
}

// unit is what the parts of a program are aligned to.
const unit = 16

// sizeOf is the room that n values take.
func sizeOf[T any](n int) int {
	var zero T
	// A part may begin up to a unit later than the one before ends, and there are as many parts as there are values.
	return n * (int(unsafe.Sizeof(zero)) + unit)
}

// take takes the room of n values, which are zero.
func take[T any](w *writer, n int) []T {
	if n == 0 {
		return nil
	}
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	taken := unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(w.rest[:size]))), n)
	w.rest = w.rest[min(len(w.rest), (size+unit-1)&^(unit-1)):]
	return taken
}

// release gives the memory back. No executor may be using it.
func (made *program) release() { made.memory.Release() }
