package agent

import (
	"context"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// Predict implements agentapi.AgentServer. Any number of calls run at once.
func (s *service) Predict(ctx context.Context, in *agentapi.PredictRequest) (*agentapi.PredictResponse, error) {
	const doing = "predicting"
	model, err := s.acquire(doing, in.GetName())
	if err != nil {
		return nil, err
	}
	defer model.Release()

	var few [4]input // most models have one input; these stay on the stack
	inputs, err := s.bind(few[:0], model.Signature(), in.GetTensors())
	if err != nil {
		return nil, s.status(doing, in.GetName(), err)
	}
	rows, err := s.measure(ctx, inputs)
	if err != nil {
		return nil, s.status(doing, in.GetName(), err)
	}
	request, err := model.NewRequest(rows)
	if err != nil {
		return nil, s.status(doing, in.GetName(), err)
	}
	defer request.Release()
	for i := range inputs {
		if err := inputs[i].fill(request.Inputs[i].Bytes()); err != nil {
			return nil, s.status(doing, in.GetName(), err)
		}
	}
	if err := request.Predict(ctx); err != nil {
		return nil, s.status(doing, in.GetName(), err)
	}
	out := &agentapi.PredictResponse{Tensors: make([]*agentapi.Tensor, len(request.Outputs))}
	for i, t := range request.Outputs {
		out.Tensors[i] = answer(t)
	}
	return out, nil
}
