package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/trace"
)

const (
	// maxNameBytes is the engine's limit. Longer names are refused before they
	// get into a message or the log.
	maxNameBytes = 255
	// maxURLBytes is the kernel's limit for paths.
	maxURLBytes = 4096
)

// service implements agentapi.AgentServer.
type service struct {
	agentapi.UnimplementedAgentServer

	engine    *engine.Engine
	log       *slog.Logger
	strict    bool
	maxTensor uint64
	budget    *local.Budget
	tracer    *trace.Tracer // nil for no traces
	capture   capture.Keeper
}

// protocol is what traces call the interface.
const protocol = "agent"

// LoadModel implements agentapi.AgentServer.
func (s *service) LoadModel(ctx context.Context, in *agentapi.LoadModelRequest) (*agentapi.LoadModelResponse, error) {
	ctx, span := s.tracer.Calling(ctx, protocol, agentapi.Agent_LoadModel_FullMethodName)
	span.Asked(in.GetName())
	out, err := s.load(ctx, in)
	span.EndCall(err)
	return out, err
}

func (s *service) load(ctx context.Context, in *agentapi.LoadModelRequest) (*agentapi.LoadModelResponse, error) {
	if err := local.CheckControl(ctx); err != nil {
		return nil, loadStatus(err)
	}
	if err := engine.CheckName(in.GetName()); err != nil {
		return nil, loadStatus(err)
	}
	if len(in.GetUrl()) > maxURLBytes {
		return nil, status.Error(codes.NotFound, "nothing is at the url: it is longer than a path can be")
	}
	// Who asked is for the audit of what code the daemon was made to run.
	s.log.LogAttrs(ctx, slog.LevelInfo, "a client asks for a model to be loaded",
		slog.String("model", in.GetName()), slog.String("url", in.GetUrl()), callerAttr(ctx))
	d, err := s.engine.Load(ctx, in.GetName(), in.GetUrl(), engine.ModelOptions{})
	if err != nil {
		if errors.Is(err, engine.ErrNotFound) && strings.Contains(in.GetUrl(), "://") {
			err = fmt.Errorf("%w: the url must be the path of a local folder", engine.ErrNotFound)
		}
		return nil, loadStatus(err)
	}
	return &agentapi.LoadModelResponse{Model: describe(d)}, nil
}

// UnLoadModel implements agentapi.AgentServer.
func (s *service) UnLoadModel(ctx context.Context, in *agentapi.UnLoadModelRequest) (*agentapi.UnLoadModelResponse, error) {
	ctx, span := s.tracer.Calling(ctx, protocol, agentapi.Agent_UnLoadModel_FullMethodName)
	span.Asked(in.GetName())
	out, err := s.unload(ctx, in)
	span.EndCall(err)
	return out, err
}

func (s *service) unload(ctx context.Context, in *agentapi.UnLoadModelRequest) (*agentapi.UnLoadModelResponse, error) {
	if err := local.CheckControl(ctx); err != nil {
		return nil, s.status("unloading a model", in.GetName(), err, failure.RetryAfter(err, 0))
	}
	if len(in.GetName()) > maxNameBytes {
		return nil, errLongName
	}
	if err := s.engine.Unload(ctx, in.GetName()); err != nil {
		return nil, s.status("unloading a model", in.GetName(), err, failure.RetryAfter(err, 0))
	}
	s.log.LogAttrs(ctx, slog.LevelInfo, "a client had a model unloaded", slog.String("model", in.GetName()), callerAttr(ctx))
	return &agentapi.UnLoadModelResponse{}, nil
}

// ListModels implements agentapi.AgentServer. The models are sorted by name.
func (s *service) ListModels(context.Context, *agentapi.ListModelsRequest) (*agentapi.ListModelsResponse, error) {
	list := s.engine.List()
	out := &agentapi.ListModelsResponse{Models: make([]*agentapi.Model, len(list))}
	for i, d := range list {
		out.Models[i] = describe(d)
	}
	return out, nil
}

// DescribeModel implements agentapi.AgentServer.
func (s *service) DescribeModel(_ context.Context, in *agentapi.DescribeModelRequest) (*agentapi.DescribeModelResponse, error) {
	model, err := s.acquire("describing a model", in.GetName())
	if err != nil {
		return nil, err
	}
	defer model.Release()
	return &agentapi.DescribeModelResponse{Model: describe(model.Describe())}, nil
}

var errLongName = status.Errorf(codes.NotFound, "no model is loaded under a name of more than %d bytes", maxNameBytes)

// acquire is the model of that name, which the caller releases. The error is a
// gRPC status.
func (s *service) acquire(doing, name string) (*engine.Snapshot, error) {
	if len(name) > maxNameBytes {
		return nil, errLongName
	}
	model, err := s.engine.Acquire(name)
	if err != nil {
		return nil, s.status(doing, name, err, 0)
	}
	return model, nil
}

// callerAttr says in a log line who made the call.
func callerAttr(ctx context.Context) slog.Attr {
	who, err := local.CallerOf(ctx)
	if err != nil {
		return slog.String("caller", "unknown")
	}
	return slog.Group("caller", "uid", who.UID, "pid", who.PID)
}
