package engine

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

// numbered is the DTypes of fixed size, and the bytes of -2 (of 2 where there is no sign) and of 1.
var numbered = []struct {
	d        tensor.DType
	two, one []byte
	want     float64
}{
	{tensor.Bool, []byte{0}, []byte{1}, 0},
	{tensor.Uint8, []byte{2}, []byte{1}, 2},
	{tensor.Uint16, []byte{2, 0}, []byte{1, 0}, 2},
	{tensor.Uint32, []byte{2, 0, 0, 0}, []byte{1, 0, 0, 0}, 2},
	{tensor.Uint64, []byte{2, 0, 0, 0, 0, 0, 0, 0}, []byte{1, 0, 0, 0, 0, 0, 0, 0}, 2},
	{tensor.Int8, []byte{0xfe}, []byte{1}, -2},
	{tensor.Int16, []byte{0xfe, 0xff}, []byte{1, 0}, -2},
	{tensor.Int32, []byte{0xfe, 0xff, 0xff, 0xff}, []byte{1, 0, 0, 0}, -2},
	{tensor.Int64, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{1, 0, 0, 0, 0, 0, 0, 0}, -2},
	{tensor.FP16, []byte{0, 0xc0}, []byte{0, 0x3c}, -2},
	{tensor.BF16, []byte{0, 0xc0}, []byte{0x80, 0x3f}, -2},
	{tensor.FP32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(-2)), binary.LittleEndian.AppendUint32(nil, math.Float32bits(1)), -2},
	{tensor.FP64, binary.LittleEndian.AppendUint64(nil, math.Float64bits(-2)), binary.LittleEndian.AppendUint64(nil, math.Float64bits(1)), -2},
}

// TestDifferenceOfEveryType: equal numbers agree and others do not, and the sentence has both.
func TestDifferenceOfEveryType(t *testing.T) {
	for _, c := range numbered {
		if got := number(c.d, c.two); got != c.want {
			t.Errorf("%s: %x is %v, want %v", c.d, c.two, got, c.want)
		}
		if got := number(c.d, c.one); got != 1 {
			t.Errorf("%s: %x is %v, want 1", c.d, c.one, got)
		}
		specs := []TensorSpec{{Name: "y", DType: c.d, Dims: []int64{Variable, 2}}}
		filled := func(rows ...[]byte) []tensor.Tensor {
			made, err := newTensors(specs, len(rows)/2)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { releaseAll(made) })
			at := made[0].Bytes()
			for _, r := range rows {
				at = at[copy(at, r):]
			}
			return made
		}
		x, y := filled(c.one, c.one, c.one, c.two), filled(c.one, c.one, c.one, c.one)
		if got := difference(x, x, specs, 2); got != "" {
			t.Errorf("%s: the same differs: %s", c.d, got)
		}
		if got := difference(x, y, specs, 1); got != "" {
			t.Errorf("%s: the first row differs: %s", c.d, got)
		}
		if got := difference(x, y, specs, 2); !strings.HasPrefix(got, `1 of 4 numbers of output "y", by up to `) || !strings.Contains(got, "against 1)") {
			t.Errorf("%s: %q", c.d, got)
		}
	}
}

func TestAgree(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		x, y float64
		want bool
	}{
		{0.5, 0.5, true}, {0.5, 0.500014, true}, {0.5, 0.50002, false}, {0, 9e-6, true}, {0, 2e-5, false},
		{1e6, 1e6 + 9, true}, {1e6, 1e6 + 11, false}, {-1e6, 1e6, false}, {0, math.Copysign(0, -1), true},
		{nan, nan, true}, {nan, 1, false}, {inf, inf, true}, {inf, -inf, false}, {inf, 1e300, false},
	} {
		if agree(c.x, c.y, tolerance(tensor.FP32), 1) != c.want || agree(c.y, c.x, tolerance(tensor.FP32), 1) != c.want {
			t.Errorf("%v and %v: want %v", c.x, c.y, c.want)
		}
	}
}

// TestTinyAnswers: a model whose answers are all close to zero agrees with its like and not with any other such model; one
// answer close to zero, among larger ones, may be any that is.
func TestTinyAnswers(t *testing.T) {
	specs := []TensorSpec{{Name: "y", DType: tensor.FP32, Dims: []int64{Variable, 1}}}
	filled := func(values ...float32) []tensor.Tensor {
		made, err := newTensors(specs, len(values))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { releaseAll(made) })
		for i, v := range values {
			binary.LittleEndian.PutUint32(made[0].Bytes()[4*i:], math.Float32bits(v))
		}
		return made
	}
	nan := float32(math.NaN())
	for _, c := range []struct {
		got, want []float32
		differ    bool
	}{
		{[]float32{1e-7, 2e-7}, []float32{1.00001e-7, 2e-7}, false},
		{[]float32{0, 0}, []float32{1e-7, 2e-7}, true},
		{[]float32{1e-7, 2e-7}, []float32{0, 0}, true},
		{[]float32{1.1e-7, 2e-7}, []float32{1e-7, nan}, true},
		{[]float32{1.1e-7, nan}, []float32{1e-7, nan}, true},
		{[]float32{1e-7, 0.5}, []float32{2e-7, 0.5}, false},
		{[]float32{1e-7, -8}, []float32{9e-6, -8}, false}, // the scale is 1 at most
		{[]float32{1e-7, -8}, []float32{2e-5, -8}, true},
	} {
		if got := difference(filled(c.got...), filled(c.want...), specs, len(c.got)); (got != "") != c.differ {
			t.Errorf("%v and %v: %q", c.got, c.want, got)
		}
	}
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float64{
		0x0000: 0, 0x0001: 0x1p-24, 0x03ff: 1023 * 0x1p-24, 0x0400: 0x1p-14, 0x3555: 0.333251953125, 0x7bff: 65504, 0xfc00: math.Inf(-1), 0x7c00: math.Inf(1),
	} {
		if got := half(bits); got != want {
			t.Errorf("%04x is %v, want %v", bits, got, want)
		}
	}
	if got := half(0x7e00); got == got {
		t.Errorf("7e00 is %v", got)
	}
}

// TestRandomRows: finite numbers of every type, whole ones 0 or 1, and not all the same.
func TestRandomRows(t *testing.T) {
	for _, c := range numbered {
		made, err := newTensors([]TensorSpec{{Name: "x", DType: c.d, Dims: []int64{Variable, 3}}}, 100)
		if err != nil {
			t.Fatal(err)
		}
		for i := range made[0].Bytes() {
			made[0].Bytes()[i] = 0xff
		}
		fillRandom(made[0], rand.New(rand.NewPCG(1, 2)))
		distinct := map[float64]bool{}
		for b := made[0].Bytes(); len(b) > 0; b = b[c.d.Size():] {
			v := number(c.d, b)
			distinct[v] = true
			if math.Abs(v) > 10 || v != v || !isFloat(c.d) && v != 0 && v != 1 {
				t.Errorf("%s: %v", c.d, v)
			}
		}
		if len(distinct) < 2 || isFloat(c.d) && len(distinct) < 100 {
			t.Errorf("%s: %d numbers", c.d, len(distinct))
		}
		releaseAll(made)
	}
}
