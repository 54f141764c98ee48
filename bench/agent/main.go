// Command agent measures predictions over agent.sock against an empty grpc-go
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
	"net"
	"sync"

	"google.golang.org/grpc"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
	api "github.com/picket-ml/picket/internal/api/agent"
)

func main() {
	versus.Benchmark{Protocol: "agent", Models: versus.DemoAndLarge, Empty: serveEmpty, Measure: measure}.Main()
}

func measure(ctx context.Context, served []models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error) {
	demo := served[0]
	var results []report.Serving
	for _, load := range versus.Loads(served) {
		measured, err := compare(ctx, load, sockets)
		if err != nil {
			return nil, fmt.Errorf("measuring model %s: %w", load.Model.Name, err)
		}
		results = append(results, measured...)
		name := fmt.Sprintf("p50 over agent.sock to an empty server, %s, %d rows, %d outstanding (empty %.0f us)", load.Model.Name, load.Rows, load.Outstanding, measured[0].P50US)
		ratio := measured[1].P50US / measured[0].P50US
		if load.Model == demo && load.Rows == 1 && load.Outstanding == 1 {
			out.Promise(name, ratio, "ratio", 1.25)
		} else {
			out.Tell(name, ratio, "ratio")
		}
	}
	return results, nil
}

// empty answers every Predict with the same score for each row.
type empty struct {
	api.UnimplementedAgentServer
	answers sync.Map // by number of rows
}

// Predict returns a ready answer of the size a real one would have.
func (e *empty) Predict(_ context.Context, r *api.PredictRequest) (*api.PredictResponse, error) {
	rows := r.Tensors[0].TensorMetadata.Shape[0]
	if answer, ok := e.answers.Load(rows); ok {
		return answer.(*api.PredictResponse), nil
	}
	answer := &api.PredictResponse{Tensors: []*api.Tensor{{
		TensorMetadata: &api.TensorMetadata{Name: []byte("output"), DataType: api.DataType_FLOAT32, Shape: []int32{rows, 1}},
		Data:           &api.Tensor_ByteData{ByteData: make([]byte, 4*rows)},
	}}}
	e.answers.Store(rows, answer)
	return answer, nil
}

func serveEmpty(ctx context.Context, socket string) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := grpc.NewServer()
	api.RegisterAgentServer(server, &empty{})
	context.AfterFunc(ctx, server.Stop)
	if err := server.Serve(listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// compare measures one load on the two sockets.
func compare(ctx context.Context, load versus.Load, sockets [2]string) ([]report.Serving, error) {
	data, err := testrows.New(load.Model.Features)
	if err != nil {
		return nil, err
	}
	defer data.Buffer.Release()
	ask := protocols.Ask{Model: load.Model.Name, Rows: &protocols.Rows{Data: data}, Count: load.Rows}
	empty, picketd := ask, ask
	empty.Address, picketd.Address = sockets[0], sockets[1]
	return versus.Comparison{
		Protocol: "agent", Load: load,
		Targets: []versus.Target{
			{Name: "empty grpc-go server", Connect: versus.Timed(empty.Agent)},
			{Name: "picketd", Connect: versus.Timed(picketd.Agent)},
		},
	}.Measure(ctx)
}
