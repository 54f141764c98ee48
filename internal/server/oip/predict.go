package oip

import (
	"context"
	"fmt"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/trace"
)

// maxNameBytes is the engine's limit. Longer names are refused before they get
// into a message or the log.
const maxNameBytes = 255

// prediction is an answered message: the outputs that it asked for are in the
// request, or in shared memory. Its owner releases it.
type prediction struct {
	message  *message
	model    *engine.Snapshot
	request  *engine.Request
	budget   *local.Budget
	reserved int64 // of the budget
}

func (p *prediction) release() {
	p.request.Release()
	p.model.Release()
	p.budget.Give(p.reserved)
}

// predict answers a message. Errors are the engine's kinds. span is nil where the
// message is not traced.
func (s *Server) predict(ctx context.Context, m *message, span *trace.Span) (prediction, error) {
	var who owner
	if m.shares() {
		who = callerOf(ctx)
	}
	model, err := s.acquire(string(m.model), string(m.version))
	if err != nil {
		span.Asked(string(m.model))
		return prediction{}, err
	}
	span.Model(model)
	var deadline time.Time
	if m.timeout > 0 {
		deadline = time.Now().Add(m.timeout)
	}
	request, reserved, err := s.newRequest(ctx, m, model, who, deadline)
	if err != nil {
		model.Refused(err)
		err = hinted(model, err)
		model.Release()
		return prediction{}, err
	}
	if len(m.id) > 0 && model.Tapped() {
		request.Identify(m.id)
	}
	p := prediction{m, model, request, s.budget, reserved}
	span.Request(request)
	if err := request.Predict(ctx); err != nil {
		err = hinted(model, err)
		p.release()
		return prediction{}, err
	}
	if err := s.share(p, who); err != nil {
		p.release()
		return prediction{}, err
	}
	return p, nil
}

// newRequest turns a message into a filled request, which the caller releases, and
// reserves what it takes beside the message, which the caller gives back: the
// inputs that come from shared memory, and the outputs. Shared memory is not read for
// a client that has left or whose deadline has passed. Errors are the engine's kinds,
// or wrap failure.ErrTooLarge.
func (s *Server) newRequest(ctx context.Context, m *message, model *engine.Snapshot, who owner, deadline time.Time) (_ *engine.Request, reserved int64, err error) {
	if err := m.bindOutputs(model.Signature()); err != nil {
		return nil, 0, err
	}
	var few [4]*input // most models have one input; these stay on the stack
	inputs, rows, err := m.bind(few[:0], model.Signature(), s.maxTensor)
	if err != nil {
		return nil, 0, err
	}
	explain := m.explains(model.Signature())
	reserved = local.OutputBytes(model.Signature(), rows, explain)
	for _, in := range inputs {
		if in.form == shared {
			// Memory that is not there must not make the daemon allocate.
			if err := s.regions.check(who, in.place); err != nil {
				return nil, 0, fmt.Errorf("%w: input %q: %w", engine.ErrInvalidInput, failure.Clip(in.name), err)
			}
			reserved += int64(in.place.size)
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
	request.Deadline, request.Explain = deadline, explain
	for i, in := range inputs {
		if in.form == shared {
			if err := request.Wanted(ctx); err != nil {
				request.Release()
				return nil, 0, err
			}
		}
		if err := in.fill(request.Inputs[i], s.regions, who); err != nil {
			request.Release()
			return nil, 0, fmt.Errorf("%w: input %q: %w", engine.ErrInvalidInput, failure.Clip(in.name), err)
		}
	}
	return request, reserved, nil
}

// share writes the outputs that go to shared memory.
func (s *Server) share(p prediction, who owner) error {
	for i := range p.message.outputs {
		out := &p.message.outputs[i]
		if out.place.region == nil {
			continue
		}
		t := p.request.Outputs[out.tensor]
		if out.place.sized && out.place.size < uint64(t.Size()) {
			return fmt.Errorf("%w: output %q has %d bytes, its shared_memory_byte_size is %d", engine.ErrInvalidInput, failure.Clip(out.name), t.Size(), out.place.size)
		}
		if err := s.regions.write(t.Bytes(), who, out.place); err != nil {
			return fmt.Errorf("%w: output %q: %w", engine.ErrInvalidInput, failure.Clip(out.name), err)
		}
	}
	return nil
}

// acquire is the model of that name, which the caller releases. Errors are the
// engine's kinds.
func (s *Server) acquire(name, version string) (*engine.Snapshot, error) {
	if len(name) > maxNameBytes {
		return nil, fmt.Errorf("%w: no model is loaded under a name of more than %d bytes", engine.ErrNotFound, maxNameBytes)
	}
	model, err := s.engine.Acquire(name)
	if err != nil {
		return nil, err
	}
	if version != "" && version != versionOf(model.Version()) {
		has := versionOf(model.Version())
		model.Release()
		return nil, fmt.Errorf("%w: model %q has no version %q, it has %q", engine.ErrNotFound, name, failure.Clip(version), has)
	}
	return model, nil
}

// versionOf is the version of a model as the protocol tells it. Clients of Triton
// expect one, and take "1" where there is no reason for another.
func versionOf(own string) string {
	if own == "" {
		return "1"
	}
	return failure.ValidText(own)
}
