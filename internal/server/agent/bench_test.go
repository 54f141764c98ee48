package agent

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/tensor"
)

// empty is a server of the same interface that does nothing: what gRPC alone
// costs for messages of the same size.
type empty struct {
	agentapi.UnimplementedAgentServer
	answer *agentapi.PredictResponse
}

func (e empty) Predict(context.Context, *agentapi.PredictRequest) (*agentapi.PredictResponse, error) {
	return e.answer, nil
}

// BenchmarkPredict compares Predict with an empty call, in turns so that both
// see the same machine, and reports the medians in microseconds and their
// ratio. The model copies a few bytes, so what differs is the server.
func BenchmarkPredict(b *testing.B) {
	for _, size := range []struct{ rows, columns int }{{1, 30}, {64, 30}, {1024, 30}, {1, 150_528}} {
		b.Run(fmt.Sprintf("rows=%d,columns=%d", size.rows, size.columns), func(b *testing.B) {
			signature := engine.Signature{
				Inputs:  []engine.TensorSpec{spec("data", tensor.FP32, -1, int64(size.columns))},
				Outputs: []engine.TensorSpec{spec("score", tensor.FP32, -1, 4)},
			}
			f := start(b, Options{}, map[string]*copyModel{"fraud": {signature: signature, properties: engine.Properties{Inline: true}}})
			request := &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{
				tensorOf("data", f32, []int32{-1, int32(size.columns)}, pattern(4*size.rows*size.columns)),
			}}
			answer, err := f.Predict(b.Context(), request)
			if err != nil {
				b.Fatal(err)
			}
			path := filepath.Join(b.TempDir(), "empty.sock")
			l, err := net.Listen("unix", path)
			if err != nil {
				b.Fatal(err)
			}
			server := grpc.NewServer(grpc.MaxRecvMsgSize(80 << 20))
			agentapi.RegisterAgentServer(server, empty{answer: answer})
			go func() { _ = server.Serve(l) }()
			defer server.Stop()
			conn := dial(b, path)
			defer conn.Close()
			clients := [2]agentapi.AgentClient{agentapi.NewAgentClient(conn), f.AgentClient}
			var took [2][]time.Duration
			n := 0
			for b.Loop() {
				for i := range clients {
					i = (i + n) % 2
					begin := time.Now()
					if _, err := clients[i].Predict(b.Context(), request); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(begin))
				}
				n++
			}
			var median [2]float64
			for i := range took {
				slices.Sort(took[i])
				median[i] = float64(took[i][len(took[i])/2]) / 1e3
			}
			b.ReportMetric(median[0], "empty-p50-us")
			b.ReportMetric(median[1], "picket-p50-us")
			b.ReportMetric(median[1]/median[0], "ratio")
		})
	}
}
