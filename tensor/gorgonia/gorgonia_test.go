package gorgonia_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/tensor"
	"github.com/picket-ml/picket/tensor/gorgonia"
	theirs "gorgonia.org/tensor"
)

func TestDenseSharesMemory(t *testing.T) {
	ours, err := tensor.New("x", tensor.FP32, tensor.MustShape(2, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Buffer.Release()
	v, err := tensor.View[float32](ours)
	if err != nil {
		t.Fatal(err)
	}
	for i := range v {
		v[i] = float32(i)
	}
	dense, err := gorgonia.Dense(ours)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := theirs.Sum(dense, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := sum.Data().([]float32); got[0] != 3 || got[1] != 12 {
		t.Errorf("sums of the rows are %v, want [3 12]", got)
	}
	if err := dense.SetAt(float32(42), 1, 2); err != nil {
		t.Fatal(err)
	}
	if v[5] != 42 {
		t.Errorf("a write through gorgonia was not seen: element 5 is %v", v[5])
	}
}

func TestFromDenseSharesMemory(t *testing.T) {
	backing := []float64{1, 2, 3, 4}
	dense := theirs.New(theirs.WithShape(2, 2), theirs.WithBacking(backing))
	ours, err := gorgonia.FromDense("y", dense)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Buffer.Release()
	backing[3] = 9
	runtime.GC()
	v, err := tensor.View[float64](ours)
	if err != nil {
		t.Fatal(err)
	}
	if v[3] != 9 || ours.Shape != tensor.MustShape(2, 2) {
		t.Errorf("got %v of shape %s", v, ours.Shape)
	}
}

func TestEveryCommonTypeRoundTrips(t *testing.T) {
	for d := tensor.Bool; d <= tensor.Bytes; d++ {
		if d == tensor.Bytes {
			break
		}
		ours, err := tensor.New("x", d, tensor.MustShape(4))
		if err != nil {
			t.Fatal(err)
		}
		dense, err := gorgonia.Dense(ours)
		if d == tensor.FP16 || d == tensor.BF16 {
			if err == nil || !strings.Contains(err.Error(), d.String()) {
				t.Errorf("%s: error %v does not name the type", d, err)
			}
			ours.Buffer.Release()
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		back, err := gorgonia.FromDense("x", dense)
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		if back.DType != d || tensor.Pointer(back) != tensor.Pointer(ours) {
			t.Errorf("%s came back as %s or at another address", d, back.DType)
		}
		back.Buffer.Release()
		ours.Buffer.Release()
	}
}

func TestFromDenseRefusesSlices(t *testing.T) {
	dense := theirs.New(theirs.WithShape(4, 4), theirs.Of(theirs.Float32))
	column, err := dense.Slice(nil, theirs.S(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gorgonia.FromDense("column", column.(*theirs.Dense)); err == nil {
		t.Error("a strided view was taken for contiguous memory")
	}
}
