//go:build cgo && linux

package forest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
)

// masks give hosts on which each family is the best one.
func masks() []string {
	if runtime.GOARCH == "amd64" {
		return []string{"", "avx512vbmi", "avx512f", "x86-64-v1"}
	}
	return []string{"", "neon"}
}

// maskedHost is this host without some of its features.
func maskedHost(t testing.TB, mask string) *hw.Host {
	t.Helper()
	h := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true, Mask: mask})
	if h.CPU.MaskReason != "" {
		t.Fatal(h.CPU.MaskReason)
	}
	return h
}

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

// TestKernels holds every kernel that this host can run against the kernel in Go, bit for bit.
func TestKernels(t *testing.T) {
	for _, mask := range masks() {
		host := maskedHost(t, mask)
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
			compare(t, fmt.Sprintf("%s %s, %d rows", g.family.name, name, n), runProgram(t, g, p, rows, n), want[:n*e.Groups])
		}
	}
}

// runProgram gives the margins of the first n rows.
func runProgram(t testing.TB, g *program, p *plan, rows []float32, n int) []float64 {
	t.Helper()
	scratch, err := g.newScratch(false)
	if err != nil {
		t.Fatal(err)
	}
	defer scratch.Release()
	in, err := alloc(4*n*p.features, false)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Release()
	out, err := alloc(8*n*p.groups, false)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Release()
	at := func(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }
	copy(unsafe.Slice((*float32)(at(in.Bytes())), n*p.features), rows)
	// What an earlier user left in scratch memory must not matter.
	for i := range scratch.Bytes() {
		scratch.Bytes()[i] = 0xa5
	}
	g.run(at(in.Bytes()), at(out.Bytes()), at(scratch.Bytes()), n)
	margins := make([]float64, n*p.groups)
	for i := range margins {
		if p.wide {
			margins[i] = unsafe.Slice((*float64)(at(out.Bytes())), len(margins))[i]
		} else {
			margins[i] = float64(unsafe.Slice((*float32)(at(out.Bytes())), len(margins))[i])
		}
	}
	return margins
}
