package forest

import (
	"fmt"
	"math"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// model is an opened model file. It owns its program; its instances only run it.
type model struct {
	program   *program
	signature engine.Signature
	// head is the model without its trees: what the transform of margins depends on.
	head                      ensemble.Ensemble
	typical                   typical
	features, groups, outputs int
	rounds                    int
	wide                      bool // margins are float64
	pin                       bool
	version                   string
	// A Run uses up to threads threads, on as many cores as the process has to spare of cores. part is how many rows a
	// thread takes at least; fewer take less time than waking a helper up is worth.
	threads, cores, part int
	spares               spares
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties says that the model runs on whatever thread asks, and names its kernels.
func (m *model) Properties() engine.Properties {
	return engine.Properties{Inline: true, Variant: m.program.Variant(), Version: m.version}
}

// NewInstance allocates the workspace of one executor.
func (m *model) NewInstance() (engine.Instance, error) {
	own, err := newWorkspace(m)
	if err != nil {
		return nil, err
	}
	i := &instance{model: m, own: own}
	if m.threads > 1 && m.cores > 1 {
		i.team = newTeam(m)
	}
	return i, nil
}

// direct tells whether margins can be written where the predictions will be: one float32 for one float32, each on
// its own.
func (m *model) direct() bool {
	t := m.head.Objective.Transform
	return m.head.Library == ensemble.XGBoost && (t == ensemble.Identity || t == ensemble.Sigmoid || t != ensemble.MaxIndex && m.groups == 1)
}

// transform turns float32 margins into predictions in place, each on its own, to the bits that ensemble.Transform gives.
func (m *model) transform(values []float32) {
	switch m.head.Objective.Transform {
	case ensemble.Identity:
	case ensemble.Sigmoid:
		for i, x := range values {
			values[i] = 1 / (float32(math.Exp(float64(min(-x, 88.7)))) + 1)
		}
	default:
		var one [1]float64
		for i, x := range values {
			one[0] = float64(x)
			m.head.Transform(one[:], m.rounds)
			values[i] = float32(one[0])
		}
	}
}

// Close releases the tables.
func (m *model) Close() error {
	m.spares.Close()
	m.program.Close()
	return nil
}

// alloc gives a Buffer of n bytes, locked in memory if pin is set.
func alloc(n int, pin bool) (*tensor.Buffer, error) {
	b, err := tensor.Alloc(n)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	if pin {
		if err := b.Pin(); err != nil {
			b.Release()
			return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
		}
	}
	return b, nil
}
