package forest

import (
	"math/rand/v2"

	"github.com/picket-ml/picket/tensor"
)

// typical makes rows as the model may be asked: values at its thresholds, so that splits go both ways, and one in 20
// missing. The same model gives the same rows.
type typical struct {
	// thresholds are those of each column, or some of them, evenly strewn. Columns without any are zero.
	thresholds [][]float32
}

// typicalThresholds is how many thresholds of a column a model keeps for the rows that the engine asks for.
const typicalThresholds = 64

// newTypical keeps at most that many thresholds of each column.
func newTypical(p *plan, most int) typical {
	t := typical{make([][]float32, p.features)}
	for _, u := range p.units {
		c := p.views[u.view].column
		t.thresholds[c] = append(t.thresholds[c], u.thresholds...)
	}
	for c, all := range t.thresholds {
		if len(all) <= most {
			continue
		}
		some := make([]float32, most)
		for i := range some {
			some[i] = all[i*len(all)/most]
		}
		t.thresholds[c] = some
	}
	return t
}

// fill fills rows, one after the other.
func (t typical) fill(rows []float32) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range rows {
		of := t.thresholds[i%len(t.thresholds)]
		switch {
		case random.IntN(20) == 0:
			rows[i] = nan32
		case len(of) > 0:
			rows[i] = of[random.IntN(len(of))]
		default:
			rows[i] = 0
		}
	}
}

// Sample makes the rows that backends are timed on; see engine.Sampler.
func (m *model) Sample(in []tensor.Tensor, _ int) {
	values, err := tensor.View[float32](in[0])
	if err != nil {
		panic("BUG: " + err.Error()) // the engine goes by the Signature
	}
	m.typical.fill(values)
}
