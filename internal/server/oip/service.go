package oip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/trace"
)

// serviceName is what health checks ask for.
const serviceName = "inference.GRPCInferenceService"

// protocol is what traces call the interface.
const protocol = "oip"

// service implements oipapi.GRPCInferenceServiceServer.
type service struct {
	oipapi.UnimplementedGRPCInferenceServiceServer
	s *Server
}

// serviceDesc is the generated description with the two calls that have messages
// of their own in place of the generated ones.
func serviceDesc() *grpc.ServiceDesc {
	desc := oipapi.GRPCInferenceService_ServiceDesc
	desc.Methods = slices.Clone(desc.Methods)
	for i := range desc.Methods {
		if desc.Methods[i].MethodName == "ModelInfer" {
			desc.Methods[i].Handler = modelInfer
		}
	}
	desc.Streams = []grpc.StreamDesc{{
		StreamName: "ModelStreamInfer", Handler: modelStreamInfer, ServerStreams: true, ClientStreams: true,
	}}
	return &desc
}

// modelInfer answers one prediction.
func modelInfer(srv any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) { //nolint:revive // gRPC's own order
	s := srv.(*service).s
	m := newMessage()
	defer m.release()
	if err := receive(m); err != nil {
		return nil, err
	}
	span := s.tracer.Predicting(ctx, protocol, oipapi.GRPCInferenceService_ModelInfer_FullMethodName)
	p, err := s.answer(ctx, m, span)
	if err != nil {
		span.Failed(err)
		err = s.status("predicting", string(m.model), err)
		span.EndCall(err)
		return nil, err
	}
	defer p.release()
	out := p.encode()
	span.EndCall(nil)
	return out, nil
}

// answer decodes and predicts what is in the message's wire.
func (s *Server) answer(ctx context.Context, m *message, span *trace.Span) (prediction, error) {
	if m.wire == nil {
		return prediction{}, errNotProtobuf
	}
	if err := m.decode(m.wire.ReadOnlyData()); err != nil {
		return prediction{}, err
	}
	return s.predict(ctx, m, span)
}

// modelStreamInfer answers predictions in the order of their requests. One that
// fails is answered in the stream, which goes on.
func modelStreamInfer(srv any, stream grpc.ServerStream) error {
	s := srv.(*service).s
	for {
		if err := s.streamOne(stream); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// streamOne answers the next request of a stream; io.EOF when there is none.
func (s *Server) streamOne(stream grpc.ServerStream) error {
	m := newMessage()
	defer m.release()
	if err := stream.RecvMsg(m); err != nil {
		return err
	}
	// The stream's parent is that of each of its requests.
	span := s.tracer.Predicting(stream.Context(), protocol, oipapi.GRPCInferenceService_ModelStreamInfer_FullMethodName)
	p, err := s.answer(stream.Context(), m, span)
	if err != nil {
		span.Failed(err)
		if ended := stream.Context().Err(); ended != nil {
			err = status.FromContextError(ended).Err()
			span.EndCall(err)
			return err
		}
		err = s.status("predicting", string(m.model), err)
		span.EndCall(err)
		return stream.SendMsg(encodeStreamError(m.id, status.Convert(err).Message()))
	}
	defer p.release()
	out := p.encodeStream()
	span.EndCall(nil)
	return stream.SendMsg(out)
}

// status turns an error into a gRPC status. What went wrong inside the daemon is
// for the log, not for the client.
func (s *Server) status(doing, model string, err error) error {
	code, sentence := s.explain(doing, model, err)
	var busy *busyError
	if errors.As(err, &busy) {
		return failure.Status(code, sentence, busy.retry)
	}
	return failure.Status(code, sentence, failure.RetryAfter(err, 0))
}

// busyError is an error of a model that knows when asking again has a chance.
type busyError struct {
	error
	retry time.Duration
}

func (e *busyError) Unwrap() error { return e.error }

// hinted adds to an error of a prediction when asking again has a chance, if it
// has.
func hinted(model *engine.Snapshot, err error) error {
	if retry := failure.RetryAfter(err, model.Backlog()); retry > 0 {
		return &busyError{err, retry}
	}
	return err
}

// explain is what a client is told of an error.
func (s *Server) explain(doing, model string, err error) (codes.Code, string) {
	var told *toldError
	if errors.As(err, &told) {
		return told.code, failure.Shorten(err.Error(), failure.MaxSentence)
	}
	code := failure.Code(err)
	if code == codes.Internal {
		s.log.Error("a call failed", "doing", doing, "model", model, "error", err)
		return code, doing + ": the model failed; the reason is in the daemon's log"
	}
	return code, failure.Shorten(err.Error(), failure.MaxSentence)
}

// toldError is an error with a code that none of the engine's kinds has.
type toldError struct {
	code codes.Code
	text string
}

func (e *toldError) Error() string { return e.text }

func unimplemented(format string, args ...any) error {
	return &toldError{codes.Unimplemented, fmt.Sprintf(format, args...)}
}

// Ready tells whether predictions are taken.
func (s *Server) Ready() bool { return !s.stopping.Load() }

// ServerLive implements oipapi.GRPCInferenceServiceServer.
func (v *service) ServerLive(context.Context, *oipapi.ServerLiveRequest) (*oipapi.ServerLiveResponse, error) {
	return &oipapi.ServerLiveResponse{Live: true}, nil
}

// ServerReady implements oipapi.GRPCInferenceServiceServer.
func (v *service) ServerReady(context.Context, *oipapi.ServerReadyRequest) (*oipapi.ServerReadyResponse, error) {
	return &oipapi.ServerReadyResponse{Ready: v.s.Ready()}, nil
}

// ModelReady implements oipapi.GRPCInferenceServiceServer.
func (v *service) ModelReady(_ context.Context, in *oipapi.ModelReadyRequest) (*oipapi.ModelReadyResponse, error) {
	ready, err := v.s.modelReady(in.GetName(), in.GetVersion())
	if err != nil {
		return nil, v.s.status("looking at a model", in.GetName(), err)
	}
	return &oipapi.ModelReadyResponse{Ready: ready}, nil
}

// modelReady tells whether the model takes predictions. One that is not there is
// not ready.
func (s *Server) modelReady(name, version string) (bool, error) {
	model, err := s.acquire(name, version)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	model.Release()
	return s.Ready(), nil
}

// ServerMetadata implements oipapi.GRPCInferenceServiceServer.
func (v *service) ServerMetadata(context.Context, *oipapi.ServerMetadataRequest) (*oipapi.ServerMetadataResponse, error) {
	return v.s.serverMetadata(), nil
}

// ModelMetadata implements oipapi.GRPCInferenceServiceServer.
func (v *service) ModelMetadata(_ context.Context, in *oipapi.ModelMetadataRequest) (*oipapi.ModelMetadataResponse, error) {
	return described(v, in.GetName(), in.GetVersion(), modelMetadata)
}

// ModelConfig implements oipapi.GRPCInferenceServiceServer.
func (v *service) ModelConfig(_ context.Context, in *oipapi.ModelConfigRequest) (*oipapi.ModelConfigResponse, error) {
	return described(v, in.GetName(), in.GetVersion(), func(m *engine.Snapshot) *oipapi.ModelConfigResponse {
		return &oipapi.ModelConfigResponse{Config: v.s.modelConfig(m)}
	})
}

// described is what describe says of a model.
func described[T any](v *service, name, version string, describe func(*engine.Snapshot) *T) (*T, error) {
	model, err := v.s.acquire(name, version)
	if err != nil {
		return nil, v.s.status("describing a model", name, err)
	}
	defer model.Release()
	return describe(model), nil
}

// ModelStatistics implements oipapi.GRPCInferenceServiceServer.
func (v *service) ModelStatistics(_ context.Context, in *oipapi.ModelStatisticsRequest) (*oipapi.ModelStatisticsResponse, error) {
	out, err := v.s.statistics(in.GetName(), in.GetVersion())
	if err != nil {
		return nil, v.s.status("counting", in.GetName(), err)
	}
	return out, nil
}

// RepositoryIndex implements oipapi.GRPCInferenceServiceServer.
func (v *service) RepositoryIndex(_ context.Context, in *oipapi.RepositoryIndexRequest) (*oipapi.RepositoryIndexResponse, error) {
	if in.GetRepositoryName() != "" {
		return nil, v.s.status("listing models", "", errOneRepository)
	}
	return v.s.index(in.GetReady()), nil
}

// RepositoryModelLoad implements oipapi.GRPCInferenceServiceServer.
func (v *service) RepositoryModelLoad(ctx context.Context, in *oipapi.RepositoryModelLoadRequest) (*oipapi.RepositoryModelLoadResponse, error) {
	ctx, span := v.s.tracer.Calling(ctx, protocol, oipapi.GRPCInferenceService_RepositoryModelLoad_FullMethodName)
	span.Asked(in.GetModelName())
	err := errOneRepository
	if in.GetRepositoryName() == "" {
		err = v.s.load(ctx, in.GetModelName(), in.GetParameters())
	}
	if err != nil {
		span.Failed(err)
		err = v.s.status("loading a model", in.GetModelName(), err)
	}
	span.EndCall(err)
	if err != nil {
		return nil, err
	}
	return &oipapi.RepositoryModelLoadResponse{}, nil
}

// RepositoryModelUnload implements oipapi.GRPCInferenceServiceServer.
func (v *service) RepositoryModelUnload(ctx context.Context, in *oipapi.RepositoryModelUnloadRequest) (*oipapi.RepositoryModelUnloadResponse, error) {
	ctx, span := v.s.tracer.Calling(ctx, protocol, oipapi.GRPCInferenceService_RepositoryModelUnload_FullMethodName)
	span.Asked(in.GetModelName())
	err := errOneRepository
	if in.GetRepositoryName() == "" {
		err = v.s.unload(ctx, in.GetModelName())
	}
	if err != nil {
		span.Failed(err)
		err = v.s.status("unloading a model", in.GetModelName(), err)
	}
	span.EndCall(err)
	if err != nil {
		return nil, err
	}
	return &oipapi.RepositoryModelUnloadResponse{}, nil
}

// SystemSharedMemoryStatus implements oipapi.GRPCInferenceServiceServer.
func (v *service) SystemSharedMemoryStatus(ctx context.Context, in *oipapi.SystemSharedMemoryStatusRequest) (*oipapi.SystemSharedMemoryStatusResponse, error) {
	out := &oipapi.SystemSharedMemoryStatusResponse{Regions: map[string]*oipapi.SystemSharedMemoryStatusResponse_RegionStatus{}}
	err := v.s.regions.list(callerOf(ctx), in.GetName(), func(name, key string, offset, size uint64) {
		out.Regions[name] = &oipapi.SystemSharedMemoryStatusResponse_RegionStatus{Name: name, Key: key, Offset: offset, ByteSize: size}
	})
	if err != nil {
		return nil, v.s.status("listing shared memory", "", err)
	}
	return out, nil
}

// SystemSharedMemoryRegister implements oipapi.GRPCInferenceServiceServer.
func (v *service) SystemSharedMemoryRegister(ctx context.Context, in *oipapi.SystemSharedMemoryRegisterRequest) (*oipapi.SystemSharedMemoryRegisterResponse, error) {
	if err := v.s.regions.register(callerOf(ctx), in.GetName(), in.GetKey(), in.GetOffset(), in.GetByteSize()); err != nil {
		return nil, v.s.status("registering shared memory", "", err)
	}
	return &oipapi.SystemSharedMemoryRegisterResponse{}, nil
}

// SystemSharedMemoryUnregister implements oipapi.GRPCInferenceServiceServer.
func (v *service) SystemSharedMemoryUnregister(ctx context.Context, in *oipapi.SystemSharedMemoryUnregisterRequest) (*oipapi.SystemSharedMemoryUnregisterResponse, error) {
	if err := v.s.regions.unregister(callerOf(ctx), in.GetName()); err != nil {
		return nil, v.s.status("unregistering shared memory", "", err)
	}
	return &oipapi.SystemSharedMemoryUnregisterResponse{}, nil
}

var (
	errCUDA     = unimplemented("memory of a GPU cannot be shared with this server: use system shared memory, or send the data in the request")
	errTrace    = unimplemented("this server has no trace settings that clients could change")
	errLogLevel = unimplemented("this server has no log settings that clients could change: set log.level in its configuration")
)

// CudaSharedMemoryStatus implements oipapi.GRPCInferenceServiceServer.
func (v *service) CudaSharedMemoryStatus(context.Context, *oipapi.CudaSharedMemoryStatusRequest) (*oipapi.CudaSharedMemoryStatusResponse, error) {
	return nil, v.s.status("listing shared memory", "", errCUDA)
}

// CudaSharedMemoryRegister implements oipapi.GRPCInferenceServiceServer.
func (v *service) CudaSharedMemoryRegister(context.Context, *oipapi.CudaSharedMemoryRegisterRequest) (*oipapi.CudaSharedMemoryRegisterResponse, error) {
	return nil, v.s.status("registering shared memory", "", errCUDA)
}

// CudaSharedMemoryUnregister implements oipapi.GRPCInferenceServiceServer.
func (v *service) CudaSharedMemoryUnregister(context.Context, *oipapi.CudaSharedMemoryUnregisterRequest) (*oipapi.CudaSharedMemoryUnregisterResponse, error) {
	return nil, v.s.status("unregistering shared memory", "", errCUDA)
}

// TraceSetting implements oipapi.GRPCInferenceServiceServer.
func (v *service) TraceSetting(context.Context, *oipapi.TraceSettingRequest) (*oipapi.TraceSettingResponse, error) {
	return nil, v.s.status("setting traces", "", errTrace)
}

// LogSettings implements oipapi.GRPCInferenceServiceServer.
func (v *service) LogSettings(context.Context, *oipapi.LogSettingsRequest) (*oipapi.LogSettingsResponse, error) {
	return nil, v.s.status("setting the log", "", errLogLevel)
}
