package rows

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

// Every half is exact in float64, so going there and back must change nothing.
func TestHalfRoundTrips(t *testing.T) {
	for bits := range 1 << 16 {
		v := halfValue(uint16(bits))
		got := halfOf(float64(v))
		if v != v {
			if bits&0x7fff <= 0x7c00 || got&0x7fff <= 0x7c00 {
				t.Fatalf("%#04x is NaN and comes back as %#04x", bits, got)
			}
			continue
		}
		if got != uint16(bits) {
			t.Fatalf("%#04x is %v and comes back as %#04x", bits, v, got)
		}
	}
}

// Between two neighbouring halves, the nearer one is taken, and the even one half way.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for bits := range 0x7bff {
		low, high := float64(halfValue(uint16(bits))), float64(halfValue(uint16(bits+1)))
		middle := (low + high) / 2
		even := uint16(bits + bits&1)
		for v, want := range map[float64]uint16{
			middle: even, math.Nextafter(middle, low): uint16(bits), math.Nextafter(middle, high): uint16(bits + 1),
		} {
			if got := halfOf(v); got != want {
				t.Fatalf("%v becomes %#04x, want %#04x", v, got, want)
			}
			if got := halfOf(-v); got != want|0x8000 {
				t.Fatalf("%v becomes %#04x, want %#04x", -v, got, want|0x8000)
			}
		}
	}
}

// The same of bfloat16.
func TestBrainRoundsToNearestEven(t *testing.T) {
	for bits := range 0x7f7f {
		low, high := float64(brainValue(uint16(bits))), float64(brainValue(uint16(bits+1)))
		middle := (low + high) / 2
		for v, want := range map[float64]uint16{
			low: uint16(bits), middle: uint16(bits + bits&1), math.Nextafter(middle, low): uint16(bits), math.Nextafter(middle, high): uint16(bits + 1),
		} {
			if got := brainOf(v); got != want {
				t.Fatalf("%v becomes %#04x, want %#04x", v, got, want)
			}
			if got := brainOf(-v); got != want|0x8000 {
				t.Fatalf("%v becomes %#04x, want %#04x", -v, got, want|0x8000)
			}
		}
	}
}

func TestAppendWritesWhatReaderReads(t *testing.T) {
	values := map[tensor.DType][]byte{
		tensor.Uint8:  {0, 1, 255},
		tensor.Int16:  {0, 0, 255, 255, 0, 128, 255, 127},
		tensor.Int32:  {0, 0, 0, 128, 255, 255, 255, 127, 1, 0, 0, 0},
		tensor.Bool:   {0, 1, 1},
		tensor.Int8:   {0, 128, 127, 255},
		tensor.Uint16: {0, 0, 255, 255},
		tensor.Uint32: {0, 0, 0, 0, 255, 255, 255, 255},
		tensor.Uint64: {0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
		tensor.Int64:  {0, 0, 0, 0, 0, 0, 0, 128, 255, 255, 255, 255, 255, 255, 255, 127},
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 1, -1.5, 0.1, 1e-7, 5.9604645e-08, 65504, math.Inf(1), math.Inf(-1), math.NaN()} {
		values[tensor.BF16] = binary.LittleEndian.AppendUint16(values[tensor.BF16], brainOf(v))
		values[tensor.FP16] = binary.LittleEndian.AppendUint16(values[tensor.FP16], halfOf(v))
	}
	for _, v := range []float32{0, 0.1, -1e-7, 1e-6, 1e20, 1e21, math.MaxFloat32, math.SmallestNonzeroFloat32, 16777216, 0.000294183672} {
		values[tensor.FP32] = binary.LittleEndian.AppendUint32(values[tensor.FP32], math.Float32bits(v))
	}
	for _, v := range []float64{0, 0.1, 1e300, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Pi, math.Inf(-1)} {
		values[tensor.FP64] = binary.LittleEndian.AppendUint64(values[tensor.FP64], math.Float64bits(v))
	}
	for d, data := range values {
		text, err := Append(nil, data, d, Text)
		if err != nil {
			t.Fatal(err)
		}
		back, n, err := readAll(t, bytes.NewReader(text), []Input{{"x", d, len(data) / d.Size()}})
		if err != nil || n != 1 || !bytes.Equal(back[0], data) {
			t.Errorf("%v: %s reads as %d rows %x (%v), want %x", d, text, n, back[0], err, data)
		}
	}
}

func TestAppendForms(t *testing.T) {
	var data []byte
	for _, v := range []float32{0.1, 1e6, 1e-7, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	for style, want := range map[Style]string{Text: "0.1,1000000,1e-07,nan,inf,-inf", JSON: "0.1,1000000,1e-07,null,null,null"} {
		got, err := Append([]byte(">"), data, tensor.FP32, style)
		if err != nil || string(got) != ">"+want {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
	}
	for _, d := range []tensor.DType{tensor.Bytes, tensor.Invalid, tensor.FP32} {
		if got, err := Append(nil, data[:3], d, Text); err == nil || got != nil {
			t.Errorf("%v: %s, %v", d, got, err)
		}
	}
}
