//go:build cgo && linux

package tvm

// #include "run.h"
import "C"

import (
	"fmt"
	"strings"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cores"
	"github.com/picket-ml/picket/tensor"
)

// instance is one executor of a graph. It owns its program, the memory of what
// functions give each other, and threads. Which thread calls it does not matter.
type instance struct {
	model    *model
	program  *program
	executor *C.picket_tvm_executor
	scratch  *tensor.Buffer
	// staged are copies of tensors that lie where functions cannot take them, by
	// place; nil until one does.
	staged []*tensor.Buffer
}

// newInstance makes an instance of up to so many threads.
func newInstance(m *model, threads int) (*instance, error) {
	i := &instance{model: m}
	if err := i.allocate(threads); err != nil {
		i.release()
		return nil, err
	}
	return i, nil
}

// allocate takes what the instance owns. After an error some of it is there.
func (i *instance) allocate(threads int) (err error) {
	m := i.model
	if i.scratch, err = alloc(m.plan.scratch, m.options.Pin); err != nil {
		return err
	}
	if i.program, err = newProgram(m.plan, m.functions, i.at, false); err != nil {
		return err
	}
	i.staged = make([]*tensor.Buffer, len(i.program.places))
	i.executor, err = newExecutor(i.program, threads)
	return err
}

// newExecutor starts the threads of a program.
func newExecutor(p *program, threads int) (*C.picket_tvm_executor, error) {
	executor, err := C.picket_tvm_new(&p.c, C.int(threads), maxWorkspace)
	if executor == nil {
		return nil, fmt.Errorf("%w: starting %d threads for a model: %w", engine.ErrMemory, threads, err)
	}
	return executor, nil
}

// at is where a storage is that is no caller's.
func (i *instance) at(s *storage) unsafe.Pointer {
	if s.role == parameter {
		return i.model.parameter(s)
	}
	return unsafe.Pointer(&i.scratch.Bytes()[s.place])
}

// Run runs the graph, once or, where the signature has rows, as often as the rows
// fill it. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	times := 1
	if m.batch > 0 {
		times = rows
	}
	// The engine has seen to this; but what follows writes by address.
	if rows < 1 || m.batch == 0 && rows != 1 || !fit(in, m.inBytes, times) || !fit(out, m.outBytes, times) {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	tasks := 1
	if m.threads > 1 {
		cores.Enter()
		tasks += cores.Take(m.threads-1, m.cores)
		defer cores.Give(tasks)
	}
	if m.batch == 0 {
		return i.run(in, out, 0, 1, 1, tasks)
	}
	for at := 0; at < rows; at += m.batch {
		if err := i.run(in, out, at, min(m.batch, rows-at), m.batch, tasks); err != nil {
			return err
		}
	}
	return nil
}

// fit tells whether each tensor has so many times its bytes.
func fit(tensors []tensor.Tensor, bytes []int, times int) bool {
	if len(tensors) != len(bytes) {
		return false
	}
	for n := range tensors {
		if tensors[n].Size() != times*bytes[n] {
			return false
		}
	}
	return true
}

// run runs the graph for rows at to at+n of the tensors; it takes all of batch at
// once. Without rows in the signature, the tensors are the one row of them.
func (i *instance) run(in, out []tensor.Tensor, at, n, batch, tasks int) error {
	m, p := i.model, i.program
	for k := range in {
		place := m.entry[k]
		address := unsafe.Add(tensor.Pointer(in[k]), at*m.inBytes[k])
		if n < batch || !aligned(address) {
			staged, err := i.stage(place, batch*m.inBytes[k])
			if err != nil {
				return err
			}
			size := n * m.inBytes[k]
			copy(staged, in[k].Bytes()[at*m.inBytes[k]:][:size])
			clear(staged[size:])
			address = unsafe.Pointer(unsafe.SliceData(staged))
		}
		p.places[place].data = address
	}
	for k := range out {
		place := p.outputPlace[k]
		if place < 0 {
			continue
		}
		address := unsafe.Add(tensor.Pointer(out[k]), at*m.outBytes[k])
		if n < batch || !aligned(address) {
			staged, err := i.stage(place, batch*m.outBytes[k])
			if err != nil {
				return err
			}
			address = unsafe.Pointer(unsafe.SliceData(staged))
		}
		p.places[place].data = address
	}
	if failed := C.picket_tvm_run(i.executor, C.int(tasks)); failed != 0 {
		return fmt.Errorf("%w: %s", engine.ErrRun, i.failure(int(failed)))
	}
	for k := range out {
		to := out[k].Bytes()[at*m.outBytes[k]:][:n*m.outBytes[k]]
		if from := i.answer(k); len(to) > 0 && from != unsafe.Pointer(unsafe.SliceData(to)) {
			copy(to, unsafe.Slice((*byte)(from), len(to)))
		}
	}
	return nil
}

// answer is where head k lies after a run.
func (i *instance) answer(k int) unsafe.Pointer {
	m := i.model
	if place := i.program.outputPlace[k]; place >= 0 {
		return i.program.places[place].data
	}
	s := &m.plan.storages[m.plan.graph.Entries[m.plan.graph.Heads[k]].Storage]
	if s.role == input {
		return i.program.places[s.place].data
	}
	return i.at(s)
}

// aligned tells whether functions can take a tensor there: the compiler was told
// that all are aligned so, and uses instructions that end the process where one is not.
func aligned(p unsafe.Pointer) bool { return uintptr(p)%tensor.Alignment == 0 }

// stage is memory of the instance for the tensor of a place.
func (i *instance) stage(place, bytes int) ([]byte, error) {
	if i.staged[place] == nil {
		b, err := alloc(int64(bytes), i.model.options.Pin)
		if err != nil {
			return nil, err
		}
		i.staged[place] = b
	}
	return i.staged[place].Bytes()[:bytes], nil
}

// longestReason is how much of what a function says is passed on.
const longestReason = 300

// failure says which node failed and why, as a sentence goes on.
func (i *instance) failure(call int) string {
	name := i.model.callName(call)
	reason := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '�' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(C.GoString(C.picket_tvm_message(i.executor)), " "))
	reason = strings.Join(strings.Fields(reason), " ")
	switch {
	case reason == "":
		return fmt.Sprintf("node %q failed and gave no reason", name)
	case len(reason) > longestReason:
		reason = strings.ToValidUTF8(reason[:longestReason], "") + "..."
	}
	return fmt.Sprintf("node %q failed: %s", name, strings.TrimRight(reason, "."))
}

// Close ends the threads and releases the memory.
func (i *instance) Close() error {
	i.release()
	return nil
}

// release gives back what there is.
func (i *instance) release() {
	if i.executor != nil {
		C.picket_tvm_free(i.executor)
		i.executor = nil
	}
	if i.program != nil {
		i.program.release()
	}
	for _, b := range i.staged {
		b.Release()
	}
	i.scratch.Release()
	i.program, i.staged, i.scratch = nil, nil, nil
}

// alloc gives a Buffer of n bytes, and of one where n is 0, in large pages as far as
// they are within it, locked in memory if pin is set.
func alloc(n int64, pin bool) (*tensor.Buffer, error) {
	b, err := tensor.Alloc(int(max(1, n)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	b.PreferLargePages()
	if pin {
		if err := b.Pin(); err != nil {
			b.Release()
			return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
		}
	}
	return b, nil
}
