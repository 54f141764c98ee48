package forest

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
)

// reference is the slow and simple kernel that all others are held against.
type reference struct{ *plan }

// margins writes the sums of each row to out, before any transform. row holds len(views) values of scratch.
func (p reference) margins(in []float32, rows int, out []float64, row []float32) {
	for r := range rows {
		from := in[r*p.features : (r+1)*p.features]
		for i, v := range p.views {
			row[i] = v.of(from)
		}
		for g := range p.groups {
			out[r*p.groups+g] = p.sum(g, row)
		}
	}
}

func (p reference) sum(g int, row []float32) float64 {
	trees := p.trees[p.groupFirst[g]:p.groupFirst[g+1]]
	if p.wide {
		sum := p.base[g]
		for i := range trees {
			sum += p.leaves[trees[i].walk(p.plan, row)]
		}
		return sum
	}
	sum := float32(p.base[g])
	if p.baseLast {
		sum = 0
	}
	for i := range trees {
		sum += float32(p.leaves[trees[i].walk(p.plan, row)])
	}
	if p.baseLast {
		sum += float32(p.base[g])
	}
	return float64(sum)
}

// walk is the number of the leaf where a row of views ends.
func (t *tree) walk(p *plan, row []float32) int32 {
	i := int32(0)
	for {
		n := &t.nodes[i]
		if n.leaf >= 0 {
			return n.leaf
		}
		i = n.left
		if n.goesRight(p, row[n.view]) {
			i++
		}
	}
}

func (n *node) goesRight(p *plan, x float32) bool {
	switch n.op {
	case ensemble.SetLeft:
		return !(x > -1 && x < math.MaxInt32 && inSet(p.categories[n.set], uint32(x)))
	case ensemble.SetRight:
		if x != x {
			return n.right
		}
		return x >= 0 && x < 1<<24 && inSet(p.categories[n.set], uint32(x))
	}
	if x != x {
		return n.right
	}
	return x >= n.threshold
}

// TestReferenceIsTheEnsemble holds the reference and the kernel in Go against the ensemble's own, slow answer.
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
			w := newWalker(p)
			w.margins(rows, n, got, make([]int32, 2*len(p.views)))
			compare(t, "the kernel in Go", got, want)
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
