package forest

import (
	"fmt"
	"slices"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/shap"
	"github.com/picket-ml/picket/tensor"
)

// contributionsName is what the tensor of contributions is called.
const contributionsName = "contributions"

// explainWith keeps what explanations take of e, its trees among them.
func (m *model) explainWith(e *ensemble.Ensemble) error {
	x, err := shap.New(e)
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrUnsupported, err)
	}
	dims := []int64{engine.Variable, int64(m.features) + 1}
	if m.groups > 1 {
		dims = slices.Insert(dims, 1, int64(m.groups))
	}
	m.explainer = x
	m.signature.Contributions = &engine.TensorSpec{Name: contributionsName, DType: tensor.FP32, Dims: dims}
	return nil
}

// Explain writes what the features of each row contribute to its margins. See engine.Explainer.
func (i *instance) Explain(in []tensor.Tensor, out tensor.Tensor, rows int) error {
	m := i.model
	if m.explainer == nil {
		return fmt.Errorf("%w: the model was opened without explanations", engine.ErrInvalidInput)
	}
	n := m.explainer.Size()
	from, err := tensor.View[float32](in[0])
	if err != nil {
		return err
	}
	to, err := tensor.View[float32](out)
	if err != nil {
		return err
	}
	if len(from) != rows*m.features || len(to) != rows*n {
		return fmt.Errorf("%w: the tensors do not hold %d rows of the model", engine.ErrInvalidInput, rows)
	}
	if i.explaining == nil {
		i.explaining = m.explainer.NewWorkspace()
	}
	for r := range rows {
		m.explainer.Row(i.explaining, from[r*m.features:(r+1)*m.features], to[r*n:(r+1)*n])
	}
	return nil
}
