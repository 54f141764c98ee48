package neo

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/tensor"
)

// Element is an element type as DLPack numbers it, and TVM with it.
type Element struct {
	Code, Bits uint8
}

// The type codes of DLPack.
const (
	codeInt, codeUint, codeFloat, codeBfloat, codeBool = 0, 1, 2, 4, 6
)

// elementNames are the types by the names that TVM gives them, without the bits.
var elementNames = []struct {
	name string
	code uint8
}{
	{"bfloat", codeBfloat}, {"float", codeFloat}, {"uint", codeUint}, {"int", codeInt},
}

// parseElement reads a type as TVM's graphs spell it, such as "float32".
func parseElement(s string) (Element, error) {
	if s == "bool" {
		return Element{codeUint, 1}, nil
	}
	for _, e := range elementNames {
		digits, found := strings.CutPrefix(s, e.name)
		if !found {
			continue
		}
		bits, err := strconv.ParseUint(digits, 10, 8)
		if err == nil && strconv.FormatUint(bits, 10) == digits {
			element := Element{e.code, uint8(bits)}
			return element, element.check()
		}
		break
	}
	return Element{}, fmt.Errorf("the type %q is unknown", trim(s))
}

// check refuses what is no type of a tensor in memory: several values to an
// element, or less than a byte but for truth values.
func (e Element) check() error {
	switch {
	case e.Code == codeUint && e.Bits == 1:
		return nil
	case e.Code == codeInt || e.Code == codeUint:
		if e.Bits == 8 || e.Bits == 16 || e.Bits == 32 || e.Bits == 64 {
			return nil
		}
	case e.Code == codeFloat:
		if e.Bits == 16 || e.Bits == 32 || e.Bits == 64 {
			return nil
		}
	case e.Code == codeBfloat && e.Bits == 16, e.Code == codeBool && e.Bits == 8:
		return nil
	}
	return fmt.Errorf("the type %s is unknown", e)
}

// Bytes is the size of an element.
func (e Element) Bytes() int64 { return (int64(e.Bits) + 7) / 8 }

// String is the type as TVM spells it.
func (e Element) String() string {
	switch {
	case e.Code == codeUint && e.Bits == 1, e.Code == codeBool:
		return "bool"
	}
	for _, n := range elementNames {
		if n.code == e.Code {
			return n.name + strconv.Itoa(int(e.Bits))
		}
	}
	return fmt.Sprintf("of code %d and %d bits", e.Code, e.Bits)
}

// DType is the type as clients know it; Invalid for none.
func (e Element) DType() tensor.DType {
	d, err := tensor.ParseDType(e.String())
	if err != nil {
		return tensor.Invalid
	}
	return d
}
