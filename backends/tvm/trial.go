//go:build cgo && linux

package tvm

// #include "run.h"
import "C"

import (
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// trialSeconds is how long a trial may take.
const trialSeconds = 60

// maxGuards is how many tensors of a trial have a guard page behind them: each is
// two mappings of the 65530 that a process may have, and graphs plan a few dozen.
const maxGuards = 1000

// try runs the graph once in a process of its own, on zeros, so that what it does
// to that process is a sentence here:
//
//   - Code for another processor. Nothing in a library says which it was compiled
//     for; an instruction that this one lacks ends the process.
//   - A graph that is not the library's. Functions check types and numbers of
//     dimensions, and, as they are given strides here, all dimensions but the first.
//     Behind each tensor lies a page that nobody may touch, which is for the first.
//
// What passes is run here as well, for what functions say of their arguments.
func (m *model) try(doubt string) error {
	t, err := newTrial(m)
	if err != nil {
		return err
	}
	defer t.release()
	var at C.size_t
	ended := C.picket_tvm_try(t.executor, trialSeconds, &at)
	switch {
	case ended == C.PICKET_TVM_UNTRIED:
		// Without processes to spare the model is as good as one that libdlr would run.
		reason := "no process could be made for a trial run of the model"
		if doubt != "" {
			reason += ": " + doubt
		}
		slog.Default().Warn("the model may not run on this processor", "reason", reason)
	case ended != C.PICKET_TVM_RAN:
		return m.ended(syscall.Signal(ended), int(at))
	}
	if failed := C.picket_tvm_run(t.executor, 1); failed != 0 {
		if C.picket_tvm_needs_runtime(t.executor) != 0 {
			return fmt.Errorf("%w: %s", engine.ErrUnsupported, t.failure(int(failed)))
		}
		return fmt.Errorf("%w: %s and %s do not fit together: %s", engine.ErrArtifact, m.layout.Graph, m.layout.Library, t.failure(int(failed)))
	}
	return nil
}

// ended says what a signal in a trial means.
func (m *model) ended(signal syscall.Signal, call int) error {
	name := m.callName(call)
	switch signal {
	case unix.SIGILL:
		here := string(m.options.Host.CPU.Level)
		if here == "" {
			here = m.options.Host.CPU.Arch
		}
		return fmt.Errorf("%w: %s was compiled for another processor than this one, which is %s: node %q ended a trial run with an illegal instruction; compile the model for this host",
			engine.ErrHost, m.layout.Library, here, name)
	case unix.SIGALRM:
		return fmt.Errorf("%w: a trial run of the model was at node %q after %d s, and was ended", engine.ErrArtifact, name, trialSeconds)
	}
	return fmt.Errorf("%w: node %q ended a trial run with %s: %s is damaged, or not of one compilation with %s",
		engine.ErrArtifact, name, unix.SignalName(signal), m.layout.Library, m.layout.Graph)
}

// trial is an instance whose tensors have guard pages, and which has strides.
type trial struct {
	instance
	memory []byte
	where  map[*storage]unsafe.Pointer
}

// newTrial makes a trial. The caller releases it.
func newTrial(m *model) (*trial, error) {
	t := &trial{instance: instance{model: m}}
	if err := t.allocate(); err != nil {
		t.release()
		return nil, err
	}
	return t, nil
}

// allocate takes what a trial owns. After an error some of it is there.
func (t *trial) allocate() (err error) {
	p := t.model.plan
	if err := t.lay(); err != nil {
		return fmt.Errorf("%w: taking memory for a trial run: %w", engine.ErrMemory, err)
	}
	at := func(s *storage) unsafe.Pointer {
		if s.role == parameter {
			return t.model.parameter(s)
		}
		return t.where[s]
	}
	if t.program, err = newProgram(p, t.model.functions, at, true); err != nil {
		return err
	}
	for n, e := range p.inputs {
		t.program.places[n].data = at(&p.storages[p.graph.Entries[e].Storage])
	}
	for n, h := range p.graph.Heads {
		if place := t.program.outputPlace[n]; place >= 0 {
			t.program.places[place].data = at(&p.storages[p.graph.Entries[h].Storage])
		}
	}
	t.executor, err = newExecutor(t.program, 1)
	return err
}

// lay gives each storage its place, so that it ends where a page ends that is
// followed by one that may not be touched.
func (t *trial) lay() error {
	storages := t.model.plan.storages
	page := int64(os.Getpagesize())
	// size is what a storage takes, its guard page included.
	size := func(s *storage) int64 { return (max(1, s.bytes)+tensor.Alignment+page-1)&^(page-1) + page }
	total := int64(0)
	for i := range storages {
		if s := &storages[i]; len(s.entries) > 0 && s.role != parameter {
			total += size(s)
		}
	}
	var err error
	if t.memory, err = unix.Mmap(-1, 0, int(total), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE); err != nil {
		return err
	}
	t.where = make(map[*storage]unsafe.Pointer)
	at := int64(0)
	for i := range storages {
		s := &storages[i]
		if len(s.entries) == 0 || s.role == parameter {
			continue
		}
		at += size(s)
		guard := at - page
		t.where[s] = unsafe.Pointer(&t.memory[(guard-max(1, s.bytes))&^(tensor.Alignment-1)])
		if len(t.where) > maxGuards {
			continue
		}
		if err := unix.Mprotect(t.memory[guard:at], unix.PROT_NONE); err != nil {
			return err
		}
	}
	return nil
}

// release gives back what there is.
func (t *trial) release() {
	t.instance.release()
	if t.memory != nil {
		_ = unix.Munmap(t.memory) // it fails for no mapping
	}
}
