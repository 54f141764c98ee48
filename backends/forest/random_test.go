package forest

import (
	"math"
	"math/rand/v2"

	"github.com/picket-ml/picket/internal/ensemble"
)

// shape is what kind of random forest to make.
type shape struct {
	library                        ensemble.Library
	features, groups, trees        int
	depth                          int     // at most
	leafChance                     float64 // that a node above depth is a leaf
	leaves                         int     // of a tree, at most; 0: as many as come
	thresholds                     int     // distinct thresholds per feature, about
	missing                        []ensemble.Missing
	sets, baseLast, dart, extremes bool
	double                         bool // of ONNX: float64
}

// randomShape is a shape such as the list below does not think of.
func randomShape(r *rand.Rand) shape {
	s := shape{
		library: []ensemble.Library{ensemble.XGBoost, ensemble.LightGBM, ensemble.ONNX}[r.IntN(3)], features: upTo(r, 300), groups: upTo(r, 7),
		depth: r.IntN(31), leafChance: []float64{0, 0.05, 0.3}[r.IntN(3)], leaves: upTo(r, 300), thresholds: upTo(r, 2000),
		missing: nanOnly, baseLast: r.IntN(4) == 0, extremes: r.IntN(2) == 0,
	}
	s.trees = r.IntN(2 + 40_000/(s.leaves*16))
	switch s.library {
	case ensemble.XGBoost:
		s.dart, s.sets = r.IntN(4) == 0, r.IntN(8) == 0
	case ensemble.LightGBM:
		s.missing, s.sets, s.baseLast = [][]ensemble.Missing{nanOnly, allKinds}[r.IntN(2)], r.IntN(8) == 0, false
	case ensemble.ONNX:
		s.double = r.IntN(2) == 0
		s.baseLast = !s.double
	}
	return s
}

// upTo is a number from 1 to n: as likely below the square root as above it, for the small ones have their own code.
func upTo(r *rand.Rand, n int) int { return min(n, int(math.Exp(r.Float64()*math.Log(float64(n+1))))) }

// randomForest makes a forest of that shape.
func randomForest(r *rand.Rand, s shape) *ensemble.Ensemble {
	e := &ensemble.Ensemble{
		Library: s.library, NumFeature: s.features, Groups: s.groups, Targets: 1, ParallelTrees: 1, BaseLast: s.baseLast,
		Objective: ensemble.Objective{SigmoidAlpha: 1}, BaseScore: make([]float32, s.groups), BaseMargin: make([]float32, s.groups), Double: s.double,
	}
	if s.library == ensemble.XGBoost || s.baseLast {
		for g := range e.BaseMargin {
			e.BaseMargin[g] = float32(r.NormFloat64())
		}
	}
	thresholds := make([][]float64, s.features)
	missing := make([]ensemble.Missing, s.features)
	for f := range thresholds {
		missing[f] = s.missing[r.IntN(len(s.missing))]
		for range 1 + r.IntN(s.thresholds) {
			v := r.NormFloat64()
			if s.extremes && r.IntN(4) == 0 {
				odd := []float64{0, math.Copysign(0, -1), 1e-40, -1e-40, 1e-35, -1e-35, math.MaxFloat32, -math.MaxFloat32, math.Inf(1), math.Inf(-1), 1.5e-45}
				if e.Wide() {
					odd = append(odd, 1e300, -1e300, 1e-300, math.Nextafter(1, 2), math.Nextafter(1, 0))
				}
				v = odd[r.IntN(len(odd))]
			}
			if !e.Wide() || s.library == ensemble.ONNX { // a reader rounds the thresholds of Less up
				v = float64(float32(v))
			}
			thresholds[f] = append(thresholds[f], v)
		}
	}
	for i := range s.trees {
		t := ensemble.Tree{Group: i % s.groups, Scale: 1}
		if s.dart {
			t.Scale = r.Float32()
		}
		var grow func(depth, leaves int) int32
		grow = func(depth, leaves int) int32 {
			at := int32(len(t.Nodes))
			t.Nodes = append(t.Nodes, ensemble.Node{Left: -1, Right: -1, Set: -1, Value: r.NormFloat64() / 8})
			t.Depth = max(t.Depth, depth)
			if !e.Wide() {
				t.Nodes[at].Value = float64(float32(t.Nodes[at].Value))
			}
			if depth == s.depth || leaves == 1 || r.Float64() < s.leafChance {
				return at
			}
			f := r.IntN(s.features)
			n := ensemble.Node{Feature: int32(f), Set: -1, Missing: missing[f], DefaultLeft: r.IntN(2) == 0, Op: ensemble.Less}
			if s.library == ensemble.LightGBM || s.library == ensemble.ONNX && r.IntN(2) == 0 {
				n.Op = ensemble.LessEqual
			}
			n.Value = thresholds[f][r.IntN(len(thresholds[f]))]
			if s.sets && r.IntN(3) == 0 {
				n.Op, n.Missing = ensemble.SetRight, ensemble.MissingNaN
				if s.library == ensemble.LightGBM {
					n.Op = ensemble.SetLeft
				}
				n.Set = int32(len(t.Categories))
				words := make([]uint32, 1+r.IntN(3))
				for w := range words {
					words[w] = r.Uint32()
				}
				t.Categories = append(t.Categories, words)
			}
			left, right := 0, 0 // any number
			if leaves > 0 {
				left = 1 + r.IntN(leaves-1)
				right = leaves - left
			}
			n.Left = grow(depth+1, left)
			n.Right = grow(depth+1, right)
			t.Nodes[at] = n
			return at
		}
		grow(0, s.leaves)
		e.Trees = append(e.Trees, t)
	}
	return e
}

// randomRows makes rows of plain values, the model's thresholds, their neighbours, and everything odd. In half of the
// parts of 64 rows nothing is missing.
func randomRows(r *rand.Rand, e *ensemble.Ensemble, n int) []float32 {
	known := make([][]float32, e.NumFeature)
	for i := range e.Trees {
		for _, n := range e.Trees[i].Nodes {
			if n.Op == ensemble.Less || n.Op == ensemble.LessEqual {
				v := float32(n.Value)
				known[n.Feature] = append(known[n.Feature], v, math.Nextafter32(v, float32(math.Inf(1))), math.Nextafter32(v, float32(math.Inf(-1))))
			}
		}
	}
	odd := []uint32{0, 0x80000000, 0x7f800000, 0xff800000, 1, 0x80000001, 0x007fffff, 0x7f7fffff, 0xff7fffff, 0x00800000, 0x000116c2}
	nans := []uint32{0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff}
	rows := make([]float32, n*e.NumFeature)
	for i := range rows {
		k := known[i%e.NumFeature]
		missing := i/e.NumFeature/64%2 == 0
		switch c := r.IntN(20); {
		case c == 0 && missing:
			rows[i] = math.Float32frombits(nans[r.IntN(len(nans))])
		case c == 1:
			rows[i] = math.Float32frombits(odd[r.IntN(len(odd))])
		case c < 10 && len(k) > 0:
			rows[i] = k[r.IntN(len(k))]
		case c == 11:
			rows[i] = float32(r.IntN(100))
		default:
			rows[i] = float32(r.NormFloat64())
		}
		if rows[i] != rows[i] && !missing { // a neighbour of infinity
			rows[i] = 1
		}
	}
	return rows
}

var (
	nanOnly  = []ensemble.Missing{ensemble.MissingNaN}
	allKinds = []ensemble.Missing{ensemble.MissingNaN, ensemble.MissingNone, ensemble.MissingZero}
)

// shapes are the forests that every kernel is tried on.
var shapes = map[string]shape{
	"one leaf":            {library: ensemble.XGBoost, features: 1, groups: 1, trees: 1, depth: 0, thresholds: 1, missing: nanOnly},
	"stump":               {library: ensemble.XGBoost, features: 1, groups: 1, trees: 1, depth: 1, thresholds: 1, missing: nanOnly, extremes: true},
	"no tree":             {library: ensemble.XGBoost, features: 3, groups: 2, trees: 0, depth: 1, thresholds: 1, missing: nanOnly},
	"depth 2":             {library: ensemble.XGBoost, features: 5, groups: 1, trees: 9, depth: 2, thresholds: 20, missing: nanOnly, extremes: true},
	"depth 3":             {library: ensemble.XGBoost, features: 12, groups: 1, trees: 70, depth: 3, thresholds: 20, missing: nanOnly},
	"depth 6":             {library: ensemble.XGBoost, features: 30, groups: 1, trees: 130, depth: 6, leafChance: 0.02, thresholds: 250, missing: nanOnly},
	"depth 6, base last":  {library: ensemble.XGBoost, features: 30, groups: 1, trees: 64, depth: 6, leafChance: 0.3, thresholds: 9, missing: nanOnly, baseLast: true, dart: true},
	"depth 5, wide":       {library: ensemble.XGBoost, features: 60, groups: 1, trees: 65, depth: 5, thresholds: 100, missing: nanOnly, extremes: true},
	"depth 8, 100":        {library: ensemble.XGBoost, features: 100, groups: 1, trees: 40, depth: 8, leafChance: 0.05, thresholds: 200, missing: nanOnly},
	"depth 7, full":       {library: ensemble.XGBoost, features: 30, groups: 2, trees: 10, depth: 7, leafChance: 0.02, thresholds: 100, missing: nanOnly, extremes: true},
	"leaf-wise, full":     {library: ensemble.LightGBM, features: 30, groups: 1, trees: 4, depth: 10, leafChance: 0.02, thresholds: 200, missing: allKinds},
	"deep":                {library: ensemble.XGBoost, features: 20, groups: 1, trees: 20, depth: 14, leafChance: 0.2, thresholds: 100, missing: nanOnly, extremes: true},
	"classes":             {library: ensemble.XGBoost, features: 12, groups: 4, trees: 80, depth: 6, leafChance: 0.05, thresholds: 40, missing: nanOnly},
	"many thresholds":     {library: ensemble.XGBoost, features: 3, groups: 1, trees: 100, depth: 6, thresholds: 5000, missing: nanOnly},
	"hundreds of columns": {library: ensemble.XGBoost, features: 500, groups: 1, trees: 50, depth: 6, thresholds: 20, missing: nanOnly},
	"a hundred columns":   {library: ensemble.XGBoost, features: 110, groups: 1, trees: 300, depth: 8, leafChance: 0.02, thresholds: 600, missing: nanOnly, extremes: true},
	"one large tree":      {library: ensemble.XGBoost, features: 20, groups: 1, trees: 1, depth: 14, thresholds: 100, missing: nanOnly},
	"sets":                {library: ensemble.XGBoost, features: 10, groups: 2, trees: 30, depth: 6, leafChance: 0.1, thresholds: 20, missing: nanOnly, sets: true},
	"leaf-wise":           {library: ensemble.LightGBM, features: 30, groups: 1, trees: 60, depth: 12, leafChance: 0.25, thresholds: 200, missing: allKinds, extremes: true},
	"leaf-wise, NaN":      {library: ensemble.LightGBM, features: 20, groups: 1, trees: 70, depth: 9, leafChance: 0.1, thresholds: 100, missing: nanOnly},
	"leaf-wise, shallow":  {library: ensemble.LightGBM, features: 20, groups: 3, trees: 66, depth: 5, thresholds: 100, missing: allKinds},
	"leaf-wise, stumps":   {library: ensemble.LightGBM, features: 4, groups: 1, trees: 66, depth: 2, leafChance: 0.1, thresholds: 10, missing: allKinds, extremes: true},
	"leaf-wise, sets":     {library: ensemble.LightGBM, features: 10, groups: 1, trees: 30, depth: 8, leafChance: 0.1, thresholds: 20, missing: allKinds, sets: true},
	"leaf-wise, lopsided": {library: ensemble.LightGBM, features: 10, groups: 1, trees: 10, depth: 200, leafChance: 0.48, thresholds: 50, missing: allKinds},
}
