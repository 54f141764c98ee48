package forest

import (
	"fmt"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/shap"
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
	bind                 func(func()) // what helpers run in, where the model is to keep to some cores; else nil
	spares               spares
	explainer            *shap.Explainer // nil unless it was asked for
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties says that the model runs on whatever thread asks, and names its kernels.
func (m *model) Properties() engine.Properties {
	return engine.Properties{Inline: true, BatchRows: m.program.batchRows(), Variant: m.program.Variant(), Version: m.version}
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

// direct tells whether margins can be written where the predictions will be: as many float32 as there are groups.
func (m *model) direct() bool {
	return !m.wide && m.head.Library == ensemble.XGBoost && m.outputs == m.groups
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
