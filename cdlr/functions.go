package cdlr

import (
	"errors"
	"fmt"
)

// ErrUnavailable is wrapped by Open in a build that cannot load libdlr: one without cgo, or not for Linux.
var ErrUnavailable = errors.New("libdlr cannot be loaded")

// ErrClosed is wrapped by methods of a Library or Model that has been closed.
var ErrClosed = errors.New("already closed")

// A MissingFunctionError says that the opened libdlr lacks a function of the C API.
type MissingFunctionError struct {
	Library  string // path the library was opened with
	Function string // name of the C function
	Since    string // DLR version that introduced it
	// Optional is set for functions that only special builds of libdlr have.
	Optional bool
}

func (e *MissingFunctionError) Error() string {
	if e.Optional {
		return fmt.Sprintf("%s has no %s: it exists since DLR %s, in builds made for it", e.Library, e.Function, e.Since)
	}
	return fmt.Sprintf("%s has no %s: it needs DLR %s or later", e.Library, e.Function, e.Since)
}

// An Error is a failure that libdlr reported.
type Error struct {
	Function string // name of the C function that failed
	// Message is libdlr's reason, its first line; empty when it gave none.
	Message string
	// Detail is libdlr's whole text, often with a stack trace; for logs.
	Detail string
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Function + ": libdlr gives no reason here; it writes one to standard error"
	}
	return e.Function + ": " + e.Message
}

// A function is one entry of the C API.
type function struct {
	name  string
	since string
	// essential: a library without it is not libdlr.
	essential bool
	// optional: only special builds have it.
	optional bool
}

// functions is the whole C API, in the order of its history. The functions for TensorFlow 1 and TFLite that 1.1 to 1.5
// offered in special builds are left out: 1.6 removed them.
var functions = [...]function{
	{name: "CreateDLRModel", since: "1.0", essential: true},
	{name: "DeleteDLRModel", since: "1.0", essential: true},
	{name: "RunDLRModel", since: "1.0", essential: true},
	{name: "DLRGetLastError", since: "1.0", essential: true},
	{name: "GetDLRNumInputs", since: "1.0", essential: true},
	{name: "GetDLRNumOutputs", since: "1.0", essential: true},
	{name: "GetDLRInputName", since: "1.0"},
	{name: "SetDLRInput", since: "1.0"},
	{name: "GetDLROutputSizeDim", since: "1.0"},
	{name: "GetDLROutputShape", since: "1.0"},
	{name: "GetDLROutput", since: "1.0"},
	{name: "GetDLRBackend", since: "1.0"},
	{name: "GetDLRInput", since: "1.1"},
	{name: "GetDLRNumWeights", since: "1.1"},
	{name: "GetDLRWeightName", since: "1.1"},
	{name: "GetDLRVersion", since: "1.1"},
	{name: "SetDLRNumThreads", since: "1.1"},
	{name: "UseDLRCPUAffinity", since: "1.1"},
	{name: "CreateDLRModelFromHexagon", since: "1.2", optional: true},
	{name: "GetDLRHasMetadata", since: "1.2"},
	{name: "GetDLRInputType", since: "1.2"},
	{name: "GetDLROutputType", since: "1.2"},
	{name: "GetDLROutputName", since: "1.2"},
	{name: "GetDLROutputIndex", since: "1.2"},
	{name: "GetDLROutputByName", since: "1.2"},
	{name: "GetDLRDeviceType", since: "1.4"},
	{name: "GetDLRInputSizeDim", since: "1.4"},
	{name: "GetDLRInputShape", since: "1.4"},
	{name: "CreateDLRPipeline", since: "1.5"},
	{name: "GetDLROutputPtr", since: "1.5"},
	{name: "CreateDLRModelFromModelElem", since: "1.6"},
	{name: "SetDLRInputTensor", since: "1.6"},
	{name: "GetDLROutputTensor", since: "1.6"},
	{name: "GetDLROutputManagedTensorPtr", since: "1.6"},
	{name: "SetDLRCustomAllocatorMalloc", since: "1.6"},
	{name: "SetDLRCustomAllocatorFree", since: "1.6"},
	{name: "SetDLRCustomAllocatorMemalign", since: "1.6"},
	{name: "SetDLRInputTensorZeroCopy", since: "1.8"},
	{name: "CreateDLRModelFromTensorflow2", since: "1.10.1", optional: true},
}

func findFunction(name string) (function, bool) {
	for _, f := range functions {
		if f.name == name {
			return f, true
		}
	}
	return function{}, false
}
