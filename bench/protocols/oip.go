package protocols

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/bench/versus"
	api "github.com/picket-ml/picket/internal/api/oip"
)

// dial prepares a connection over gRPC.
func dial(address string) (*grpc.ClientConn, error) {
	if address[0] == '/' {
		address = "unix://" + address
	}
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// OIP connects a client of the Open Inference Protocol over gRPC.
func (a Ask) OIP() (versus.Call, io.Closer, error) {
	conn, err := dial(a.Address)
	if err != nil {
		return nil, nil, err
	}
	client := api.NewGRPCInferenceServiceClient(conn)
	var values []float32
	return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
		first := a.choose(random)
		request := &api.ModelInferRequest{
			ModelName: a.Model, ModelVersion: a.Version,
			Inputs:           []*api.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: a.shape()}},
			RawInputContents: [][]byte{a.raw(first)},
		}
		start := time.Now()
		answer, err := client.ModelInfer(ctx, request, grpc.WaitForReady(true))
		took := time.Since(start)
		if err != nil {
			return 0, 0, err
		}
		if values, err = oipValues(values[:0], answer); err != nil {
			return 0, 0, err
		}
		return took, proto.Size(answer), a.Rows.check(first, a.Count, values)
	}, conn, nil
}

// oipValues appends the one output of an answer to values.
func oipValues(values []float32, answer *api.ModelInferResponse) ([]float32, error) {
	if len(answer.GetOutputs()) != 1 || answer.GetOutputs()[0].GetDatatype() != "FP32" {
		return nil, fmt.Errorf("an answer of %d outputs, where one of type FP32 is expected", len(answer.GetOutputs()))
	}
	if raw := answer.GetRawOutputContents(); len(raw) == 1 {
		return floats(values, raw[0]), nil
	}
	return append(values, answer.GetOutputs()[0].GetContents().GetFp32Contents()...), nil
}

// Version is the model's version as a server of the Open Inference Protocol tells it, which may still be starting: empty
// servers answer with what they are asked for, and answers are to be of one size.
func Version(ctx context.Context, address, model string) (string, error) {
	conn, err := dial(address)
	if err != nil {
		return "", fmt.Errorf("connecting to %s: %w", address, err)
	}
	defer conn.Close()
	client := api.NewGRPCInferenceServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	metadata, err := client.ModelMetadata(ctx, &api.ModelMetadataRequest{Name: model}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("asking for the version of model %s: %w", model, err)
	}
	if len(metadata.GetVersions()) == 0 {
		return "", fmt.Errorf("model %s has no version", model)
	}
	return metadata.GetVersions()[0], nil
}

// empty answers every ModelInfer with the same score for each row.
type empty struct {
	api.UnimplementedGRPCInferenceServiceServer
	answers sync.Map // by question
}

// question is what an answer of the empty server depends on.
type question struct {
	model string
	rows  int64
}

// ModelInfer returns a ready answer of the size a real one would have.
func (e *empty) ModelInfer(_ context.Context, r *api.ModelInferRequest) (*api.ModelInferResponse, error) {
	rows := r.Inputs[0].Shape[0]
	asked := question{r.ModelName, rows}
	if answer, ok := e.answers.Load(asked); ok {
		return answer.(*api.ModelInferResponse), nil
	}
	answer := &api.ModelInferResponse{
		ModelName: r.ModelName, ModelVersion: r.ModelVersion,
		Outputs:           []*api.ModelInferResponse_InferOutputTensor{{Name: "output", Datatype: "FP32", Shape: []int64{rows, 1}}},
		RawOutputContents: [][]byte{make([]byte, 4*rows)},
	}
	e.answers.Store(asked, answer)
	return answer, nil
}

// ServeEmptyOIP is an empty grpc-go server of the Open Inference Protocol, on all listeners until ctx ends.
func ServeEmptyOIP(ctx context.Context, listeners ...net.Listener) error {
	server := grpc.NewServer()
	api.RegisterGRPCInferenceServiceServer(server, &empty{})
	context.AfterFunc(ctx, server.Stop)
	ended := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { ended <- server.Serve(l) }()
	}
	var all error
	for range listeners {
		if err := <-ended; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			all = errors.Join(all, fmt.Errorf("serving: %w", err))
			server.Stop()
		}
	}
	return all
}
