package ensemble_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
)

// TestRandomEnsembles writes random models in every format and demands the same models back, to the last bit.
func TestRandomEnsembles(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := randomEnsemble(r, ensemble.XGBoost)
		doc := xgboostDocument(x)
		for format, data := range map[string][]byte{"json": appendJSON(nil, doc), "ubjson": appendUBJSON(nil, doc, false), "ubjson, plain": appendUBJSON(nil, doc, true)} {
			x.Format = format[:min(len(format), 6)]
			same(t, fmt.Sprintf("seed %d as %s", seed, format), data, x)
		}
		l := randomEnsemble(r, ensemble.LightGBM)
		same(t, fmt.Sprintf("seed %d as LightGBM text", seed), lightgbmText(l), l)
	}
}

func same(t *testing.T, what string, data []byte, want *ensemble.Ensemble) {
	t.Helper()
	got, err := ensemble.Parse(data, ensemble.Limits{})
	if err != nil {
		t.Fatalf("%s: %v\n%.2000s", what, err, data)
	}
	for i := range got.Trees {
		got.Trees[i].Depth = 0 // filled in by the readers alone
	}
	if len(want.Trees) == 0 {
		got.Trees, want.Trees = nil, nil
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: read\n%+v\nwant\n%+v", what, got, want)
	}
}

// TestRandomMargins compares Margin64 with a recursive evaluation that shares no code with it.
func TestRandomMargins(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1e-40, -1e-40, 1e-35, 1.1e-35, 1, -1, 3, 33, 1e9, -5, math.MaxFloat32, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN())}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		e := randomEnsemble(r, []ensemble.Library{ensemble.XGBoost, ensemble.LightGBM}[seed%2])
		row, got := make([]float32, e.NumFeature), make([]float64, e.Groups)
		for range 50 {
			for i := range row {
				row[i] = values[r.IntN(len(values))]
			}
			if err := e.Margin64(row, got); err != nil {
				t.Fatal(err)
			}
			for g := range got {
				if want := plainMargin(e, g, row); math.Float64bits(got[g]) != math.Float64bits(want) {
					t.Fatalf("seed %d, row %v, group %d: got %v, want %v", seed, row, g, got[g], want)
				}
			}
		}
	}
}

func plainMargin(e *ensemble.Ensemble, group int, row []float32) float64 {
	var descend func(t *ensemble.Tree, n ensemble.Node) float64
	descend = func(t *ensemble.Tree, n ensemble.Node) float64 {
		if n.Op == ensemble.Leaf {
			return n.Value
		}
		x := float64(row[n.Feature])
		nan := math.IsNaN(x)
		var left bool
		switch n.Op {
		case ensemble.Less:
			left = x < n.Value || nan && n.DefaultLeft
		case ensemble.SetRight:
			left = nan && n.DefaultLeft || !nan && (x < 0 || x >= 1<<24 || !t.InSet(n.Set, uint32(x)))
		case ensemble.SetLeft:
			left = !nan && math.Trunc(x) >= 0 && x < 1<<30 && t.InSet(n.Set, uint32(math.Trunc(x))) // -0.5 is category 0
		case ensemble.LessEqual:
			zero := math.Abs(x) <= float64(float32(1e-35))
			switch {
			case n.Missing == ensemble.MissingNaN && nan, n.Missing == ensemble.MissingZero && (nan || zero):
				left = n.DefaultLeft
			case nan:
				left = 0 <= n.Value
			default:
				left = x <= n.Value
			}
		}
		if left {
			return descend(t, t.Nodes[n.Left])
		}
		return descend(t, t.Nodes[n.Right])
	}
	sum64, sum32 := 0.0, e.BaseMargin[group]
	for i := range e.Trees {
		t := &e.Trees[i]
		if t.Group != group {
			continue
		}
		v := descend(t, t.Nodes[0])
		sum64 += v
		sum32 += float32(float32(v) * t.Scale) // the conversion keeps the two steps from being fused
	}
	if e.Library == ensemble.XGBoost {
		return float64(sum32)
	}
	return sum64
}
