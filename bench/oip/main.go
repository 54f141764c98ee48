// Command oip measures predictions over oip.sock against an empty grpc-go
// server: the same messages of the same sizes, a handler that returns a ready
// answer. Both are processes of their own on Unix sockets, and the clients take
// turns between them, all at once, so that neither server ever works while the
// other is measured. JSON goes to standard output.
//
// A client makes its next call when the last was answered (a closed loop): a
// server that stalls is asked less while it does, so the 99th percentiles leave out
// most of the waiting that callers with a schedule of their own would see (this is
// known as coordinated omission), and the rows per second are those of so many
// callers and no capacity. What is compared is what the two servers cost the same
// caller. The clients share the cores with the server, as local clients do.
package main

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

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/serving"
	api "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/tensor"
)

func main() {
	serving.Benchmark{Protocol: "oip", Models: serving.DemoAndLarge, Empty: serveEmpty, Measure: measure}.Main()
}

func measure(ctx context.Context, served []models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	large := served[1]
	var results []report.Serving
	for _, load := range serving.Loads(served) {
		measured, err := compare(ctx, load, sockets)
		if err != nil {
			return nil, fmt.Errorf("measuring model %s: %w", load.Model.Name, err)
		}
		results = append(results, measured...)
		name := fmt.Sprintf("rows/s of an empty server to those over oip.sock, %s, %d rows, %d outstanding (empty %.0f/s)", load.Model.Name, load.Rows, load.Outstanding, measured[0].RowsPerS)
		ratio := measured[0].RowsPerS / measured[1].RowsPerS
		if load.Model == large && load.Rows == 1 {
			out.Promise(name, ratio, "ratio", 1/0.85)
		} else {
			out.Tell(name, ratio, "ratio")
		}
	}
	return results, nil
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

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := grpc.NewServer()
	api.RegisterGRPCInferenceServiceServer(server, &empty{})
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// callers makes clients of one socket that send random rows of data.
func callers(load serving.Load, version string, data tensor.Tensor, socket string) func() (serving.Call, io.Closer, error) {
	return func() (serving.Call, io.Closer, error) {
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, nil, err
		}
		client := api.NewGRPCInferenceServiceClient(conn)
		return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
			first := random.IntN(models.TestRows - load.Rows + 1)
			request := &api.ModelInferRequest{
				ModelName: load.Model.Name, ModelVersion: version,
				Inputs:           []*api.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: []int64{int64(load.Rows), int64(load.Model.Features)}}},
				RawInputContents: [][]byte{data.Rows(first, first+load.Rows).Bytes()},
			}
			start := time.Now()
			answer, err := client.ModelInfer(ctx, request, grpc.WaitForReady(true))
			took := time.Since(start)
			if err != nil {
				return 0, 0, err
			}
			if got := len(answer.GetRawOutputContents()[0]); got != 4*load.Rows {
				return 0, 0, fmt.Errorf("an answer of %d bytes for %d rows", got, load.Rows)
			}
			return took, proto.Size(answer), nil
		}, conn, nil
	}
}

// compare measures one load on the two sockets.
func compare(ctx context.Context, load serving.Load, sockets [2]string) ([]report.Serving, error) {
	data, err := models.Rows(load.Model.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	version, err := versionOf(ctx, load.Model.Name, sockets[1])
	if err != nil {
		return nil, err
	}
	return serving.Comparison{
		Protocol: "oip", Load: load,
		Targets: [2]serving.Target{
			{Name: "empty grpc-go server", Connect: callers(load, version, data, sockets[0])},
			{Name: "picketd", Connect: callers(load, version, data, sockets[1])},
		},
	}.Measure(ctx)
}

// versionOf is the model's version as the daemon tells it: the empty server answers
// with what it is asked for, and both answers are to be of one size.
func versionOf(ctx context.Context, model, socket string) (string, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", fmt.Errorf("connecting to picketd: %w", err)
	}
	defer conn.Close()
	client := api.NewGRPCInferenceServiceClient(conn)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	metadata, err := client.ModelMetadata(ctx, &api.ModelMetadataRequest{Name: model}, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("asking picketd for the version: %w", err)
	}
	return metadata.GetVersions()[0], nil
}
