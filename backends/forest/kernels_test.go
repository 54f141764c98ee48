//go:build cgo && linux

package forest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
)

// TestKernels holds every kernel that this host can run against the kernel in Go, bit for bit.
func TestKernels(t *testing.T) {
	for _, host := range hosts(t) {
		t.Run(familyOf(host).name, func(t *testing.T) {
			for name, s := range shapes {
				t.Run(name, func(t *testing.T) {
					for seed := range uint64(2) {
						r := rand.New(rand.NewPCG(seed, 3))
						e := randomForest(r, s)
						tryKernels(t, host, e, randomRows(r, e, 700))
					}
				})
			}
		})
	}
}

func tryKernels(t *testing.T, host *hw.Host, e *ensemble.Ensemble, rows []float32) {
	t.Helper()
	p := newPlan(e)
	n := len(rows) / e.NumFeature
	want := make([]float64, n*e.Groups)
	reference{p}.margins(rows, n, want, make([]float32, len(p.views)))

	g, err := newProgram(p, host, false)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	calibrated := g.choice
	family := g.family.number
	choices := map[string]choice{"plain": {}, "calibrated": calibrated}
	if g.forest.row_registers != 0 {
		choices["row"] = rowOnly(family)
	}
	if g.forest.slice_width != 0 {
		choices["slice"] = sliceOnly(family, 8*g.family.width)
	}
	for name, c := range choices {
		g.choice = c
		for _, n := range []int{1, 2, 65, n} {
			compare(t, fmt.Sprintf("%s %s, %d rows", g.family.name, name, n), margins(t, g, p, rows, n), want[:n*e.Groups])
		}
	}
}
