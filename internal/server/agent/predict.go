package agent

import (
	"context"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/trace"
)

// Predict implements agentapi.AgentServer. Any number of calls run at once.
func (s *service) Predict(ctx context.Context, in *agentapi.PredictRequest) (*agentapi.PredictResponse, error) {
	span := s.tracer.Predicting(ctx, protocol, agentapi.Agent_Predict_FullMethodName)
	out, err := s.predict(ctx, in, span)
	span.EndCall(err)
	return out, err
}

// predict is Predict with the span to fill in, which may be nil.
func (s *service) predict(ctx context.Context, in *agentapi.PredictRequest, span *trace.Span) (*agentapi.PredictResponse, error) {
	const doing = "predicting"
	model, err := s.acquire(doing, in.GetName())
	if err != nil {
		span.Asked(in.GetName())
		return nil, err
	}
	defer model.Release()
	span.Model(model)

	request, err := s.newRequest(ctx, model, in.GetTensors())
	if err != nil {
		model.Refused(err)
		span.Failed(err)
		return nil, s.status(doing, in.GetName(), err)
	}
	defer request.Release()
	span.Request(request)
	if err := request.Predict(ctx); err != nil {
		span.Failed(err)
		return nil, s.status(doing, in.GetName(), err)
	}
	out := &agentapi.PredictResponse{Tensors: make([]*agentapi.Tensor, len(request.Outputs))}
	for i, t := range request.Outputs {
		out.Tensors[i] = answer(t)
	}
	return out, nil
}

// newRequest turns what a client sent into a filled request, which the caller
// releases. Errors wrap engine.ErrInvalidInput or engine.ErrMemory.
func (s *service) newRequest(ctx context.Context, model *engine.Snapshot, tensors []*agentapi.Tensor) (*engine.Request, error) {
	var few [4]input // most models have one input; these stay on the stack
	inputs, err := s.bind(few[:0], model.Signature(), tensors)
	if err != nil {
		return nil, err
	}
	rows, err := s.measure(ctx, inputs)
	if err != nil {
		return nil, err
	}
	request, err := model.NewRequest(rows)
	if err != nil {
		return nil, err
	}
	for i := range inputs {
		if err := inputs[i].fill(request.Inputs[i].Bytes()); err != nil {
			request.Release()
			return nil, err
		}
	}
	return request, nil
}
