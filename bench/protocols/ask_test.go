package protocols

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestNumbers reads what servers write, flat and nested, whatever follows.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]float32{
		`{"outputs":[{"name":"output","shape":[2,1],"datatype":"FP32","data":[0.5,1e-3]}]}`:          {0.5, 1e-3},
		`{"outputs": [{"data": [ [0.5], [ -2 ] ], "name": "a", "shape": [2, 1]}], "parameters": {}}`: {0.5, -2},
		`{"data":[]}`: nil,
	} {
		got, err := numbers(nil, []byte(text))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("numbers(%s) = %v, %v, want %v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		`{"error":"no"}`:   "without data",
		`{"data":[1,2`:     "cut short",
		`{"data":[null]}`:  "number",
		`{"data":["0.5"]}`: "number",
	} {
		if got, err := numbers(nil, []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("numbers(%s) = %v, %v, want an error with %q", text, got, err, want)
		}
	}
}

// TestCheck takes no answer that differs from the trainer's.
func TestCheck(t *testing.T) {
	t.Parallel()
	r := &Rows{Answers: []float32{0.1, 0.2, 0.3}}
	if err := r.Check(1, 2, []float32{0.2, 0.3000005}); err != nil {
		t.Errorf("answers within the tolerance are refused: %v", err)
	}
	for _, wrong := range [][]float32{{0.2}, {0.2, 0.3, 0.4}, {0.2, 0.30001}, {0.3, 0.2}, {0.2, float32(math.NaN())}} {
		if r.Check(1, 2, wrong) == nil {
			t.Errorf("%v is taken for the answers to rows 1 and 2", wrong)
		}
	}
	unknown := &Rows{}
	if unknown.Check(0, 2, []float32{5, 6}) != nil || unknown.Check(0, 2, []float32{5}) == nil {
		t.Error("without answers their number is not what decides")
	}
}
