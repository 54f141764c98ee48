package forest

import (
	"fmt"

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
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties says that the model runs on whatever thread asks, and names its kernels.
func (m *model) Properties() engine.Properties {
	return engine.Properties{Inline: true, Variant: m.program.Variant(), Version: m.version}
}

// NewInstance allocates the scratch memory of one executor.
func (m *model) NewInstance() (engine.Instance, error) {
	scratch, err := m.program.newScratch(m.pin)
	if err != nil {
		return nil, err
	}
	i := &instance{model: m, scratch: scratch}
	if m.direct() {
		return i, nil
	}
	if i.margins, err = alloc(mostRows*m.groups*8, m.pin); err != nil {
		scratch.Release()
		return nil, err
	}
	i.row = make([]float64, m.groups)
	return i, nil
}

// direct tells whether margins can be written where the predictions will be: one float32 for one float32, each on
// its own.
func (m *model) direct() bool {
	t := m.head.Objective.Transform
	return m.head.Library == ensemble.XGBoost && (t == ensemble.Identity || t == ensemble.Sigmoid || t != ensemble.MaxIndex && m.groups == 1)
}

// Close releases the tables.
func (m *model) Close() error {
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
