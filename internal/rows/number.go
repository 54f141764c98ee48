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

// AppendNumber appends the number that text says as little-endian bytes of type d, rounded once, from the text to d. An
// error ends a sentence that starts with the text.
func AppendNumber(dst []byte, d tensor.DType, text string) ([]byte, error) {
	switch d {
	case tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64:
		return appendReal(dst, d, text)
	case tensor.Bool:
		switch text {
		case "true", "1":
			return append(dst, 1), nil
		case "false", "0":
			return append(dst, 0), nil
		}
		return dst, errors.New("is neither true nor false")
	case tensor.Uint64:
		if v, err := strconv.ParseUint(text, 10, 64); err == nil { // also what is beyond parseInteger's 63 bits
			return binary.LittleEndian.AppendUint64(dst, v), nil
		}
	}
	v, err := parseInteger(text)
	if err != nil {
		return dst, err
	}
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	switch d {
	case tensor.Uint8, tensor.Uint16, tensor.Uint32:
		low, high = 0, 1<<(8*d.Size())-1
	case tensor.Int8, tensor.Int16, tensor.Int32:
		low, high = -1<<(8*d.Size()-1), 1<<(8*d.Size()-1)-1
	case tensor.Uint64:
		low = 0
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

func appendReal(dst []byte, d tensor.DType, text string) ([]byte, error) {
	size := 64
	if d == tensor.FP32 {
		size = 32
	}
	v, err := strconv.ParseFloat(text, size)
	if errors.Is(err, strconv.ErrSyntax) {
		return dst, errNoNumber
	}
	tooLarge := err != nil
	switch d {
	case tensor.FP16:
		half := halfOf(v)
		tooLarge = tooLarge || isHalfInf(half) && !math.IsInf(v, 0)
		dst = binary.LittleEndian.AppendUint16(dst, half)
	case tensor.BF16:
		brain := brainOf(v)
		tooLarge = tooLarge || isBrainInf(brain) && !math.IsInf(v, 0)
		dst = binary.LittleEndian.AppendUint16(dst, brain)
	case tensor.FP32:
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(v)))
	default:
		dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(v))
	}
	if tooLarge {
		return dst[:len(dst)-d.Size()], fmt.Errorf("is too large for %v", d)
	}
	return dst, nil
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

// AppendMissing appends the mark of a missing value: NaN. An error ends a sentence.
func AppendMissing(dst []byte, d tensor.DType) ([]byte, error) {
	switch d {
	case tensor.FP16:
		return binary.LittleEndian.AppendUint16(dst, halfNaN), nil
	case tensor.BF16:
		return binary.LittleEndian.AppendUint16(dst, brainNaN), nil
	case tensor.FP32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(math.NaN()))), nil
	case tensor.FP64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(math.NaN())), nil
	}
	return dst, fmt.Errorf("is a missing value, for which %v has no room", d)
}
