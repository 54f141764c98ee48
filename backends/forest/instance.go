package forest

import (
	"fmt"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cores"
	"github.com/picket-ml/picket/internal/shap"
	"github.com/picket-ml/picket/tensor"
)

// instance is one executor. It owns a workspace, and does not care which thread calls it.
type instance struct {
	model *model
	own   *workspace
	team  *team // nil where a Run may use one thread only
	// explaining is made for the first request that asks for it.
	explaining *shap.Workspace
}

// Run predicts the rows. See engine.Instance.
func (i *instance) Run(in, out []tensor.Tensor, rows int) error {
	m := i.model
	// The engine has seen to this; but what follows writes by address.
	if len(in) != 1 || len(out) != 1 || rows < 1 || in[0].Size() != 4*rows*m.features || out[0].Size() != 4*rows*m.outputs {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	from, to := tensor.Pointer(in[0]), tensor.Pointer(out[0])
	if rows < m.part {
		i.own.run(from, to, rows)
		return nil
	}
	cores.Enter()
	defer cores.Give(1) // all models share the count, so it has to be right even where this one panics
	if i.team == nil {
		i.own.run(from, to, rows)
	} else {
		i.team.run(i.own, from, to, rows)
	}
	return nil
}

// Close releases the workspace.
func (i *instance) Close() error {
	if i.team != nil {
		i.team.Close()
	}
	i.own.Close()
	return nil
}
