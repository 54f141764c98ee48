package forest

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// TestFinish holds the transforms of every family against those of package ensemble, bit for bit, but for which NaN a NaN is.
func TestFinish(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	odd := []float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 88.7, -88.8, 104, -104, 709.9, -745.2, 1e-40, -1e-40, 1e30, -1e30}
	for _, host := range hosts(t) {
		for _, library := range []ensemble.Library{ensemble.XGBoost, ensemble.LightGBM, ensemble.ONNX} {
			for transform := ensemble.Identity; transform <= ensemble.LogOnePlusExp; transform++ {
				for _, groups := range []int{1, 3, 8} {
					e := &ensemble.Ensemble{
						Library: library, NumFeature: 1, Groups: groups, Targets: 1, ParallelTrees: 1, BaseScore: make([]float32, groups),
						BaseMargin: make([]float32, groups), Objective: ensemble.Objective{Transform: transform, SigmoidAlpha: 0.7},
					}
					if library == ensemble.XGBoost {
						e.Objective.SigmoidAlpha = 1
					}
					m, err := newModel(e, engine.Signature{}, engine.OpenOptions{Host: host, Threads: 1})
					if err != nil {
						t.Fatal(err)
					}
					w, err := newWorkspace(m)
					if err != nil {
						t.Fatal(err)
					}
					for _, n := range []int{1, 7, 9, mostRows} {
						margins := make([]float64, n*groups)
						for i := range margins {
							margins[i] = random.NormFloat64() * math.Pow(10, float64(random.IntN(4)-1))
							if random.IntN(20) == 0 {
								margins[i] = odd[random.IntN(len(odd))]
							}
							if !m.wide {
								margins[i] = float64(float32(margins[i]))
							}
						}
						got := finished(t, w, margins, n)
						for r := range n {
							row := margins[r*groups : (r+1)*groups]
							before := append([]float64(nil), row...)
							e.Transform(row, m.rounds)
							for o := range m.outputs {
								g, want := got[r*m.outputs+o], float32(row[o])
								if math.Float32bits(g) != math.Float32bits(want) && !(g != g && want != want) {
									t.Fatalf("%s, library %v, %v of %v: output %d is %v, want %v", familyOf(host).name, library, transform, before, o, g, want)
								}
							}
						}
					}
					w.Close()
					if err := m.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

// finished is what a workspace makes of n rows of margins.
func finished(t *testing.T, w *workspace, margins []float64, n int) []float32 {
	t.Helper()
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(int64(n), int64(w.model.outputs)))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Buffer.Release()
	at := tensor.Pointer(out)
	if w.margins != nil {
		at = unsafe.Pointer(unsafe.SliceData(w.margins.Bytes()))
	}
	for i, x := range margins {
		if w.model.wide {
			unsafe.Slice((*float64)(at), len(margins))[i] = x
		} else {
			unsafe.Slice((*float32)(at), len(margins))[i] = float32(x)
		}
	}
	w.finish(at, tensor.Pointer(out), n)
	values, err := tensor.View[float32](out)
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32(nil), values...)
}
