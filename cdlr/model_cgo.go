//go:build cgo && linux

package cdlr

/*
#include <stdlib.h>
#include <string.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"unsafe"
)

// maxDim bounds the dimensions of a shape; TVM itself knows none above a handful.
const maxDim = 32

// A Model is a DLRModelHandle. It serves one call at a time; see the package comment. All methods but Close wrap
// [ErrClosed] after Close.
type Model struct {
	library *Library
	cleanup runtime.Cleanup
	handle  unsafe.Pointer // nil once closed
	// numOutputs guards the functions that libdlr lets index past its outputs. The number never changes.
	numOutputs int
}

// newModel takes over a handle that libdlr made. On failure the handle is deleted. l.mu is held by the caller.
func newModel(l *Library, handle unsafe.Pointer) (*Model, error) {
	n := C.picket_dlr_num_outputs(l.c, handle)
	if n.problem != nil {
		err := newError("GetDLRNumOutputs", n.problem)
		return nil, errors.Join(err, optionalError("DeleteDLRModel", C.picket_dlr_delete(l.c, handle)))
	}
	m := &Model{library: l, handle: handle, numOutputs: int(n.value)}
	l.open.Add(1)
	models.Add(1)
	m.cleanup = runtime.AddCleanup(m, func(path string) {
		slog.Default().Error("a model of libdlr was dropped without Close", "library", path)
	}, l.path)
	return m, nil
}

// Close is DeleteDLRModel (since 1.0): it frees the model, all its memory and what its methods returned pointers to. The
// second and further calls do nothing and return nil. It must not run while another method does.
func (m *Model) Close() error {
	if m.handle == nil {
		return nil
	}
	m.cleanup.Stop()
	handle := m.handle
	m.handle = nil
	problem := C.picket_dlr_delete(m.library.c, handle)
	m.library.open.Add(-1)
	models.Add(-1)
	return optionalError("DeleteDLRModel", problem)
}

// Library returns the library the model belongs to, which stays its owner's.
func (m *Model) Library() *Library { return m.library }

// ready is the first line of every method: the model is open, and the library has the function.
func (m *Model) ready(name string, present bool) error {
	if m.handle == nil {
		return fmt.Errorf("%s: model: %w", name, ErrClosed)
	}
	if !present {
		return m.library.missing(name)
	}
	return nil
}

// noFunctions is the function table of a closed model, whose library may be closed too. It stays empty.
var noFunctions C.picket_dlr

// c returns the function table. An open model keeps its library open, so no lock is needed; a closed one must not look.
func (m *Model) c() *C.picket_dlr {
	if m.handle == nil {
		return &noFunctions
	}
	return m.library.c
}

// checkOutput guards the functions that do not check the index themselves.
func (m *Model) checkOutput(name string, index int) error {
	if index < 0 || index >= m.numOutputs {
		return &Error{Function: name, Message: fmt.Sprintf("output index %d is out of range, the model has %d", index, m.numOutputs)}
	}
	return nil
}

// Run is RunDLRModel (since 1.0): it computes the outputs from the inputs set before. A tree model without input is
// an error; a TVM model computes with whatever its inputs hold. What [Model.OutputPtr] returned before is invalid after.
func (m *Model) Run() error {
	const name = "RunDLRModel"
	if err := m.ready(name, true); err != nil {
		return err
	}
	return optionalError(name, C.picket_dlr_run(m.c(), m.handle))
}

// HasMetadata is GetDLRHasMetadata (since 1.2): whether the model came with a compiled.meta that is JSON.
func (m *Model) HasMetadata() (bool, error) {
	const name = "GetDLRHasMetadata"
	if err := m.ready(name, m.c().GetDLRHasMetadata != nil); err != nil {
		return false, err
	}
	r := C.picket_dlr_has_metadata(m.c(), m.handle)
	if r.problem != nil {
		return false, newError(name, r.problem)
	}
	return r.value != 0, nil
}

// Backend is GetDLRBackend (since 1.0): "tvm", "treelite", "relayvm", "pipeline", "hexagon" or "tensorflow".
func (m *Model) Backend() (string, error) {
	const name = "GetDLRBackend"
	if err := m.ready(name, m.c().GetDLRBackend != nil); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_backend(m.c(), m.handle))
}

// NumWeights is GetDLRNumWeights (since 1.1): the number of parameters of a TVM model; 0 for tree models.
func (m *Model) NumWeights() (int, error) {
	const name = "GetDLRNumWeights"
	if err := m.ready(name, m.c().GetDLRNumWeights != nil); err != nil {
		return 0, err
	}
	return goInt(name, C.picket_dlr_num_weights(m.c(), m.handle))
}

// WeightName is GetDLRWeightName (since 1.1). Only TVM models have names of weights.
func (m *Model) WeightName(index int) (string, error) {
	const name = "GetDLRWeightName"
	if err := m.ready(name, m.c().GetDLRWeightName != nil); err != nil {
		return "", err
	}
	return goText(name, C.picket_dlr_weight_name(m.c(), m.handle, C.int(index)))
}

// SetNumThreads is SetDLRNumThreads (since 1.1): it sets TVM_NUM_THREADS in the environment of the process, which TVM reads
// when it starts a pool; 0 and less do nothing. It is no setting of this model. Tree models refuse it.
//
// The environment is not locked: no other thread may read or write it meanwhile, which in a server means never.
func (m *Model) SetNumThreads(threads int) error {
	const name = "SetDLRNumThreads"
	if err := m.ready(name, m.c().SetDLRNumThreads != nil); err != nil {
		return err
	}
	return optionalError(name, C.picket_dlr_set_num_threads(m.c(), m.handle, C.int(threads)))
}

// UseCPUAffinity is UseDLRCPUAffinity (since 1.1): it sets TVM_BIND_THREADS in the environment of the process. What is said
// of [Model.SetNumThreads] holds here.
func (m *Model) UseCPUAffinity(use bool) error {
	const name = "UseDLRCPUAffinity"
	if err := m.ready(name, m.c().UseDLRCPUAffinity != nil); err != nil {
		return err
	}
	var flag C.int
	if use {
		flag = 1
	}
	return optionalError(name, C.picket_dlr_use_cpu_affinity(m.c(), m.handle, flag))
}

func goInt(name string, r C.picket_int) (int, error) {
	if r.problem != nil {
		return 0, newError(name, r.problem)
	}
	return int(r.value), nil
}

func goText(name string, r C.picket_text) (string, error) {
	if r.problem != nil {
		return "", newError(name, r.problem)
	}
	return C.GoString(r.value), nil
}

func goSize(name string, r C.picket_size) (size int64, dim int, err error) {
	if r.problem != nil {
		return 0, 0, newError(name, r.problem)
	}
	if r.dim < 0 || r.dim > maxDim {
		return 0, 0, &Error{Function: name, Message: fmt.Sprintf("it reports %d dimensions", int(r.dim))}
	}
	return int64(r.size), int(r.dim), nil
}

// cText gives C the bytes of a Go string, with their number, for one call.
func cText(s string) (*C.char, C.size_t) {
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s))), C.size_t(len(s))
}

// cShape gives C the dimensions for one call.
func cShape(shape []int64) *C.int64_t { return (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(shape))) }

// checkShape refuses what libdlr would compute a wild length from.
func checkShape(name string, shape []int64) error {
	if len(shape) == 0 || len(shape) > maxDim {
		return &Error{Function: name, Message: fmt.Sprintf("a shape has 1 to %d dimensions, not %d", maxDim, len(shape))}
	}
	for _, d := range shape {
		if d <= 0 {
			return &Error{Function: name, Message: fmt.Sprintf("shape %v has a dimension below 1", shape)}
		}
	}
	return nil
}

func cTensor(t Tensor) C.picket_tensor {
	return C.picket_tensor{
		data: t.Data, device_type: C.int32_t(t.DeviceType), device_id: C.int32_t(t.DeviceID), ndim: C.int32_t(len(t.Shape)),
		code: C.uint8_t(t.Code), bits: C.uint8_t(t.Bits), lanes: C.uint16_t(t.Lanes), byte_offset: C.uint64_t(t.ByteOffset),
	}
}
