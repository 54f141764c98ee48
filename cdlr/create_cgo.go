//go:build cgo && linux

package cdlr

/*
#include <stdlib.h>
#include <string.h>
#include "shim.h"
*/
import "C"

import (
	"fmt"
	"unsafe"
)

// CreateModel is CreateDLRModel (since 1.0): it loads the model in a folder. The path may also be a list of folders, or of
// files, separated by colons; a folder whose name contains a colon cannot be given. The device is [CPU], 0 for ordinary
// models; a compiled.meta that names another device is an error. Loading runs code of the model's library.
//
// The caller owns the Model. Paths are not needed any more after the call.
func (l *Library) CreateModel(path string, deviceType, deviceID int) (*Model, error) {
	if err := checkText("path", path); err != nil {
		return nil, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	return l.create("CreateDLRModel", func() (bool, C.picket_pointer) {
		return true, C.picket_dlr_create(l.c, cpath, C.int(deviceType), C.int(deviceID))
	})
}

// CreateModelFromElems is CreateDLRModelFromModelElem (since 1.6): a TVM or Relay VM model from its parts. A TVM model
// needs TVMGraph, TVMParams and TVMLib; NeoMetadata is optional. A Relay VM model needs RelayExec, TVMLib and
// NeoMetadata. Tree models cannot be made this way.
//
// The caller owns the Model. elems and what they hold are borrowed for the call.
func (l *Library) CreateModelFromElems(elems []Elem, deviceType, deviceID int) (*Model, error) {
	if len(elems) == 0 {
		return nil, fmt.Errorf("cdlr: a model needs elements")
	}
	// The array is C's, for it holds pointers, and every part with it.
	const size = C.sizeof_picket_elem
	array := C.calloc(C.size_t(len(elems)), size)
	if array == nil {
		return nil, fmt.Errorf("cdlr: out of memory")
	}
	parts := unsafe.Slice((*C.picket_elem)(array), len(elems))
	defer func() {
		for i := range parts {
			C.free(unsafe.Pointer(parts[i].path))
			C.free(parts[i].data)
		}
		C.free(array)
	}()
	for i, e := range elems {
		if (e.Path == "") == (e.Data == nil) {
			return nil, fmt.Errorf("cdlr: element %d needs a path or data, and not both", i)
		}
		parts[i]._type = C.int(e.Type)
		if e.Path != "" {
			if err := checkText("path", e.Path); err != nil {
				return nil, err
			}
			parts[i].path = C.CString(e.Path)
			continue
		}
		data := C.malloc(C.size_t(len(e.Data)) + 1)
		copied := unsafe.Slice((*byte)(data), len(e.Data)+1)
		copied[copy(copied, e.Data)] = 0
		parts[i].data = data
		parts[i].size = C.size_t(len(e.Data))
	}
	return l.create("CreateDLRModelFromModelElem", func() (bool, C.picket_pointer) {
		if l.c.CreateDLRModelFromModelElem == nil {
			return false, C.picket_pointer{}
		}
		return true, C.picket_dlr_create_elems(l.c, (*C.picket_elem)(array), C.size_t(len(elems)), C.int(deviceType), C.int(deviceID))
	})
}

// CreatePipeline is CreateDLRPipeline (since 1.5): models in a row, the outputs of one being the inputs of the next, as one
// Model. Each path is as in [Library.CreateModel]. The caller owns the Model.
func (l *Library) CreatePipeline(paths []string, deviceType, deviceID int) (*Model, error) {
	array := C.calloc(C.size_t(len(paths)+1), C.size_t(unsafe.Sizeof(uintptr(0))))
	if array == nil {
		return nil, fmt.Errorf("cdlr: out of memory")
	}
	cpaths := unsafe.Slice((**C.char)(array), len(paths)+1)
	defer func() {
		for _, p := range cpaths {
			C.free(unsafe.Pointer(p))
		}
		C.free(array)
	}()
	for i, path := range paths {
		if err := checkText("path", path); err != nil {
			return nil, err
		}
		cpaths[i] = C.CString(path)
	}
	return l.create("CreateDLRPipeline", func() (bool, C.picket_pointer) {
		if l.c.CreateDLRPipeline == nil {
			return false, C.picket_pointer{}
		}
		return true, C.picket_dlr_create_pipeline(l.c, C.int(len(paths)), (**C.char)(array), C.int(deviceType), C.int(deviceID))
	})
}

// CreateModelFromHexagon is CreateDLRModelFromHexagon (since 1.2, only in builds for Qualcomm's Hexagon). The path is that of
// a _hexagon_model.so or its folder; debugLevel goes from 0 to 100. The caller owns the Model.
func (l *Library) CreateModelFromHexagon(path string, debugLevel int) (*Model, error) {
	if err := checkText("path", path); err != nil {
		return nil, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	return l.create("CreateDLRModelFromHexagon", func() (bool, C.picket_pointer) {
		if l.c.CreateDLRModelFromHexagon == nil {
			return false, C.picket_pointer{}
		}
		return true, C.picket_dlr_create_hexagon(l.c, cpath, C.int(debugLevel))
	})
}

// CreateModelFromTensorflow2 is CreateDLRModelFromTensorflow2 (since 1.10.1, only in builds with TensorFlow). The path is
// that of a saved model's folder. The caller owns the Model.
func (l *Library) CreateModelFromTensorflow2(path string, config Tensorflow2Config) (*Model, error) {
	if err := checkText("path", path); err != nil {
		return nil, err
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var c C.picket_tensorflow2
	c.intra_op_threads, c.inter_op_threads = C.int(config.IntraOpThreads), C.int(config.InterOpThreads)
	if config.GPUAllowGrowth {
		c.gpu.allow_growth = 1
	}
	c.gpu.memory_fraction = C.double(config.GPUMemoryFraction)
	return l.create("CreateDLRModelFromTensorflow2", func() (bool, C.picket_pointer) {
		if l.c.CreateDLRModelFromTensorflow2 == nil {
			return false, C.picket_pointer{}
		}
		return true, C.picket_dlr_create_tensorflow2(l.c, cpath, c)
	})
}

// create runs one of the creating functions, which answers false if the library lacks it, and wraps what it made.
func (l *Library) create(name string, call func() (bool, C.picket_pointer)) (*Model, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.c == nil {
		return nil, l.closed()
	}
	ok, r := call()
	if !ok {
		return nil, l.missing(name)
	}
	if r.problem != nil {
		return nil, newError(name, r.problem)
	}
	if r.value == nil {
		return nil, &Error{Function: name, Message: "it succeeded without making a model"}
	}
	return newModel(l, r.value)
}
