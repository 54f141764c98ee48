package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/picket-ml/picket/tensor"
)

// errNoNumber ends a sentence that starts with the text in question.
var errNoNumber = errors.New("is not a number")

// appendNumber appends the number that text says as little-endian bytes of type d. The error ends a sentence that starts
// with the text.
func appendNumber(dst []byte, d tensor.DType, text string) ([]byte, error) {
	switch d {
	case tensor.FP16, tensor.FP32, tensor.FP64:
		size := 64
		if d == tensor.FP32 {
			size = 32
		}
		v, err := strconv.ParseFloat(text, size)
		if errors.Is(err, strconv.ErrSyntax) {
			return dst, errNoNumber
		}
		half := halfOf(v)
		if err != nil || d == tensor.FP16 && isHalfInf(half) && !math.IsInf(v, 0) {
			return dst, fmt.Errorf("is too large for %v", d)
		}
		switch d {
		case tensor.FP16:
			return binary.LittleEndian.AppendUint16(dst, half), nil
		case tensor.FP32:
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v))), nil
		}
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), nil
	}
	v, err := parseInteger(text)
	if err != nil {
		return dst, err
	}
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	switch d {
	case tensor.Uint8:
		low, high = 0, math.MaxUint8
	case tensor.Int16:
		low, high = math.MinInt16, math.MaxInt16
	case tensor.Int32:
		low, high = math.MinInt32, math.MaxInt32
	}
	if v < low || v > high {
		return dst, fmt.Errorf("does not fit %v, which holds %d to %d", d, low, high)
	}
	switch d.Size() {
	case 1:
		return append(dst, byte(v)), nil
	case 2:
		return binary.LittleEndian.AppendUint16(dst, uint16(v)), nil
	case 4:
		return binary.LittleEndian.AppendUint32(dst, uint32(v)), nil
	}
	return binary.LittleEndian.AppendUint64(dst, uint64(v)), nil
}

// parseInteger reads a whole number, also one written as 3.0 or 1e3, as programs do that keep everything as floating
// point.
func parseInteger(text string) (int64, error) {
	v, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		return v, nil
	}
	if errors.Is(err, strconv.ErrRange) {
		return 0, errors.New("does not fit 64 bits")
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return 0, errNoNumber
	case err != nil || f != math.Trunc(f) || math.IsNaN(f):
		return 0, errors.New("is not a whole number")
	case math.Abs(f) > 1<<53: // beyond, floating point cannot tell neighbours apart
		return 0, errors.New("is too large to be read from floating point; write all its digits")
	}
	return int64(f), nil
}

// appendMissing appends the mark of a missing value: NaN.
func appendMissing(dst []byte, d tensor.DType) ([]byte, error) {
	switch d {
	case tensor.FP16:
		return binary.LittleEndian.AppendUint16(dst, halfNaN), nil
	case tensor.FP32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(math.NaN()))), nil
	case tensor.FP64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(math.NaN())), nil
	}
	return dst, fmt.Errorf("is a missing value, for which %v has no room", d)
}
