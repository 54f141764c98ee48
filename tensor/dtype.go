package tensor

import "fmt"

// DType is the type of a tensor's elements. Its names are those of the Open
// Inference Protocol.
type DType uint8

// The element types of the Open Inference Protocol, and BF16 as Triton adds it.
// The zero DType is invalid so that a forgotten one is noticed.
const (
	Invalid DType = iota
	Bool
	Uint8
	Uint16
	Uint32
	Uint64
	Int8
	Int16
	Int32
	Int64
	FP16
	FP32
	FP64
	BF16
	Bytes // elements of varying length; has no fixed size
)

var dtypes = [...]struct {
	name  string
	numpy string // as compiled.meta and numpy spell it
	size  int
}{
	Invalid: {"INVALID", "", 0},
	Bool:    {"BOOL", "bool", 1},
	Uint8:   {"UINT8", "uint8", 1},
	Uint16:  {"UINT16", "uint16", 2},
	Uint32:  {"UINT32", "uint32", 4},
	Uint64:  {"UINT64", "uint64", 8},
	Int8:    {"INT8", "int8", 1},
	Int16:   {"INT16", "int16", 2},
	Int32:   {"INT32", "int32", 4},
	Int64:   {"INT64", "int64", 8},
	FP16:    {"FP16", "float16", 2},
	FP32:    {"FP32", "float32", 4},
	FP64:    {"FP64", "float64", 8},
	BF16:    {"BF16", "bfloat16", 2},
	Bytes:   {"BYTES", "bytes", 0},
}

// Size is the number of bytes of one element, 0 for Bytes and Invalid.
func (d DType) Size() int {
	if int(d) >= len(dtypes) {
		return 0
	}
	return dtypes[d].size
}

// String is the name the Open Inference Protocol uses, such as "FP32".
func (d DType) String() string {
	if int(d) >= len(dtypes) {
		return fmt.Sprintf("DType(%d)", uint8(d))
	}
	return dtypes[d].name
}

// ParseDType reads a type as the Open Inference Protocol ("FP32") or as numpy
// and SageMaker Neo's compiled.meta spell it ("float32").
func ParseDType(s string) (DType, error) {
	for d := Bool; int(d) < len(dtypes); d++ {
		if s == dtypes[d].name || s == dtypes[d].numpy {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("unknown element type %q", s)
}
