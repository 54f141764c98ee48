package protocols

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

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
func (a Ask) OIP() (Client, error) {
	conn, err := dial(a.Address)
	if err != nil {
		return nil, err
	}
	return &oipClient{Ask: a, ClientConn: conn, service: api.NewGRPCInferenceServiceClient(conn)}, nil
}

type oipClient struct {
	Ask
	*grpc.ClientConn
	service api.GRPCInferenceServiceClient

	first   int
	request *api.ModelInferRequest
	answer  *api.ModelInferResponse
	values  []float32 // kept from answer to answer
}

func (c *oipClient) Prepare(random *rand.Rand) {
	c.first = c.choose(random)
	c.request = &api.ModelInferRequest{
		ModelName: c.Model, ModelVersion: c.Version,
		Inputs:           []*api.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: c.shape()}},
		RawInputContents: [][]byte{c.raw(c.first)},
	}
}

func (c *oipClient) Do(ctx context.Context) (err error) {
	c.answer, err = c.service.ModelInfer(ctx, c.request, grpc.WaitForReady(true))
	return err
}

func (c *oipClient) Check() (_ int, err error) {
	if c.values, err = oipValues(c.values[:0], c.answer); err != nil {
		return 0, err
	}
	return proto.Size(c.answer), c.Rows.Check(c.first, c.Count, c.values)
}

// oipValues appends the one output of an answer to values.
func oipValues(values []float32, answer *api.ModelInferResponse) ([]float32, error) {
	if len(answer.GetOutputs()) != 1 || answer.GetOutputs()[0].GetDatatype() != "FP32" {
		return nil, fmt.Errorf("an answer of %d outputs, where one of type FP32 is expected", len(answer.GetOutputs()))
	}
	if raw := answer.GetRawOutputContents(); len(raw) == 1 {
		return Floats(values, raw[0]), nil
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
