package rows

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/picket-ml/picket/tensor"
)

// Style is how numbers without a decimal form are written.
type Style int

// Text writes nan, inf and -inf, which Reader reads again. JSON writes null for all three, because JSON has no other
// word for them.
const (
	Text Style = iota
	JSON
)

// Append appends the numbers that data holds, little-endian and of type d, separated by commas. Floating point is
// written with as few digits as bring back the same number.
func Append(dst []byte, data []byte, d tensor.DType, style Style) ([]byte, error) {
	size := d.Size()
	if !known(d) || len(data)%size != 0 {
		return dst, fmt.Errorf("%d bytes are not numbers of type %v", len(data), d)
	}
	for i := 0; i < len(data); i += size {
		if i > 0 {
			dst = append(dst, ',')
		}
		item := data[i : i+size]
		switch d {
		case tensor.Bool:
			dst = strconv.AppendBool(dst, item[0] != 0)
		case tensor.Uint8:
			dst = strconv.AppendUint(dst, uint64(item[0]), 10)
		case tensor.Uint16:
			dst = strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint16(item)), 10)
		case tensor.Uint32:
			dst = strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(item)), 10)
		case tensor.Uint64:
			dst = strconv.AppendUint(dst, binary.LittleEndian.Uint64(item), 10)
		case tensor.Int8:
			dst = strconv.AppendInt(dst, int64(int8(item[0])), 10)
		case tensor.Int16:
			dst = strconv.AppendInt(dst, int64(int16(binary.LittleEndian.Uint16(item))), 10)
		case tensor.Int32:
			dst = strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(item))), 10)
		case tensor.Int64:
			dst = strconv.AppendInt(dst, int64(binary.LittleEndian.Uint64(item)), 10)
		case tensor.FP16:
			dst = appendFloat(dst, float64(halfValue(binary.LittleEndian.Uint16(item))), 32, style)
		case tensor.BF16:
			dst = appendFloat(dst, float64(brainValue(binary.LittleEndian.Uint16(item))), 32, style)
		case tensor.FP32:
			dst = appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(item))), 32, style)
		case tensor.FP64:
			dst = appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(item)), 64, style)
		}
	}
	return dst, nil
}

func appendFloat(dst []byte, v float64, bits int, style Style) []byte {
	switch {
	case style == JSON && (math.IsNaN(v) || math.IsInf(v, 0)):
		return append(dst, "null"...)
	case math.IsNaN(v):
		return append(dst, "nan"...)
	case math.IsInf(v, 1):
		return append(dst, "inf"...)
	case math.IsInf(v, -1):
		return append(dst, "-inf"...)
	}
	form := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) { // where JavaScript, and so most JSON, changes over too
		form = 'e'
	}
	return strconv.AppendFloat(dst, v, form, -1, bits)
}
