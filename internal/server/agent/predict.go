package agent

import (
	"context"
	"crypto/rand"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
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

	request, reserved, err := s.newRequest(ctx, model, in.GetTensors())
	if err != nil {
		model.Refused(err)
		span.Failed(err)
		return nil, s.predictStatus(model, err)
	}
	defer s.budget.Give(reserved)
	defer request.Release()
	if model.Tapped() {
		if err := identify(ctx, request); err != nil {
			model.Refused(err)
			span.Failed(err)
			return nil, s.predictStatus(model, err)
		}
	}
	span.Request(request)
	if err := request.Predict(ctx); err != nil {
		span.Failed(err)
		return nil, s.predictStatus(model, err)
	}
	out := &agentapi.PredictResponse{Tensors: make([]*agentapi.Tensor, len(request.Outputs))}
	for i, t := range request.Outputs {
		out.Tensors[i] = answer(t)
	}
	return out, nil
}

// inferenceID is the metadata that names a prediction of a model that is captured, both ways: the caller's own id, and in the answer
// that, or one that was made for it.
const inferenceID = "picket-inference-id"

// identify gives the request its name, and the caller too.
func identify(ctx context.Context, request *engine.Request) error {
	id := ""
	if given := metadata.ValueFromIncomingContext(ctx, inferenceID); len(given) > 0 {
		id = given[0]
	}
	switch {
	case id == "":
		id = rand.Text()
	case len(id) > capture.MaxInference:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are allowed", engine.ErrInvalidInput, inferenceID, len(id), capture.MaxInference)
	}
	request.Identify([]byte(id))
	// It fails only for a caller who has left.
	_ = grpc.SetHeader(ctx, metadata.Pairs(inferenceID, id))
	return nil
}

// predictStatus is the gRPC status of an error of a prediction.
func (s *service) predictStatus(model *engine.Snapshot, err error) error {
	return s.status("predicting", model.Name(), err, failure.RetryAfter(err, model.Backlog()))
}

// newRequest turns what a client sent into a filled request, which the caller
// releases, and reserves what it takes beside the message, which the caller gives
// back: the inputs that come from shared memory, and the outputs. Shared memory is
// not copied for a client that has left or whose deadline has passed. Errors are the
// engine's kinds, or wrap failure.ErrTooLarge.
func (s *service) newRequest(ctx context.Context, model *engine.Snapshot, tensors []*agentapi.Tensor) (_ *engine.Request, reserved int64, err error) {
	var few [4]input // most models have one input; these stay on the stack
	inputs, err := s.bind(few[:0], model.Signature(), tensors)
	if err != nil {
		return nil, 0, err
	}
	rows, err := s.measure(ctx, inputs)
	if err != nil {
		return nil, 0, err
	}
	reserved = local.OutputBytes(model.Signature(), rows, false)
	for i := range inputs {
		if inputs[i].shared {
			reserved += int64(inputs[i].size)
		}
	}
	if err := s.budget.Take(reserved); err != nil {
		return nil, 0, err
	}
	taken := reserved
	defer func() {
		if err != nil {
			s.budget.Give(taken)
		}
	}()
	request, err := model.NewRequest(rows)
	if err != nil {
		return nil, 0, err
	}
	for i := range inputs {
		if inputs[i].shared {
			if err := request.Wanted(ctx); err != nil {
				request.Release()
				return nil, 0, err
			}
		}
		if err := inputs[i].fill(request.Inputs[i].Bytes()); err != nil {
			request.Release()
			return nil, 0, err
		}
	}
	return request, reserved, nil
}
