package main

import (
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

func TestAnswersOfSeveralOutputs(t *testing.T) {
	var floats []byte
	for _, v := range []float32{0.1, float32(math.NaN()), 1e-7, float32(math.Inf(-1))} {
		floats = binary.LittleEndian.AppendUint32(floats, math.Float32bits(v))
	}
	outputs := []answer{
		{"p", tensor.FP32, floats},
		{`the "class"`, tensor.Uint8, []byte{3, 255}},
	}
	for asJSON, want := range map[bool]string{
		false: "0.1,nan\t3\n1e-07,-inf\t255\n",
		true: `{"outputs":{"p":[0.1,null],"the \"class\"":[3]}}` + "\n" +
			`{"outputs":{"p":[1e-07,null],"the \"class\"":[255]}}` + "\n",
	} {
		var text strings.Builder
		if err := (&answerWriter{w: &text, asJSON: asJSON}).write(outputs, 2); err != nil || text.String() != want {
			t.Errorf("got %q (%v), want %q", text.String(), err, want)
		}
	}
}

func TestAnswersThatDoNotFitTheRows(t *testing.T) {
	for name, outputs := range map[string][]answer{
		"none":         nil,
		"odd bytes":    {{"p", tensor.FP32, make([]byte, 7)}},
		"odd rows":     {{"p", tensor.FP32, make([]byte, 12)}},
		"unknown type": {{"p", 99, make([]byte, 8)}},
	} {
		var text strings.Builder
		if err := (&answerWriter{w: &text}).write(outputs, 2); err == nil || text.Len() > 0 {
			t.Errorf("%s: %v, %q", name, err, text.String())
		}
	}
}

// A tensor without rows is a row by itself; large rows are sent in smaller batches.
func TestBatchSize(t *testing.T) {
	input := func(d tensor.DType, shape ...int64) []shaped { return []shaped{{"x", d, shape}} }
	for name, test := range map[string]struct {
		model          []shaped
		most, elements int
	}{
		"rows":       {input(tensor.FP32, -1, 30), 64, 30},
		"fixed":      {input(tensor.Uint8, 1, 3, 8, 8), 1, 192},
		"large rows": {input(tensor.FP32, -1, 1<<20), 4, 1 << 20},
		"huge rows":  {input(tensor.FP64, -1, 1<<24), 1, 1 << 24},
		"one each":   {input(tensor.FP32, -1), 64, 1},
		"scalar":     {input(tensor.FP32), 1, 1},
	} {
		b, err := newBatch(test.model, 64)
		if err != nil || b.most != test.most || b.inputs[0].Elements != test.elements {
			t.Errorf("%s: %+v, %v", name, b, err)
		}
	}
	for _, shape := range [][]int64{{-1, -1}, {-1, 0}, {2, -1}, {1 << 30, 1 << 30}, {-1, math.MaxInt32, math.MaxInt32, math.MaxInt32}} {
		if b, err := newBatch(input(tensor.FP32, shape...), 64); err == nil {
			t.Errorf("shape %v: %+v", shape, b)
		}
	}
}
