package forest

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestReferenceIsTheEnsemble holds the kernel in Go against the ensemble's own, slow answer.
func TestReferenceIsTheEnsemble(t *testing.T) {
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			e := randomForest(r, s)
			p := newPlan(e)
			const n = 300
			rows := randomRows(r, e, n)
			got, want := make([]float64, n*e.Groups), make([]float64, n*e.Groups)
			reference{p}.margins(rows, n, got, make([]float32, len(p.views)))
			for i := range n {
				if err := e.Margin64(rows[i*e.NumFeature:(i+1)*e.NumFeature], want[i*e.Groups:(i+1)*e.Groups]); err != nil {
					t.Fatal(err)
				}
			}
			compare(t, "reference", got, want)
		})
	}
}

func compare(t *testing.T, what string, got, want []float64) {
	t.Helper()
	for i := range want {
		if math.Float64bits(got[i]) != math.Float64bits(want[i]) {
			t.Fatalf("%s: margin %d of %d is %v, want %v", what, i, len(want), got[i], want[i])
		}
	}
}
