package protocols

import (
	"context"
	"io"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/bench/versus"
	api "github.com/picket-ml/picket/internal/api/agent"
)

// Agent connects a client of the Edge Manager agent's protocol.
func (a Ask) Agent() (versus.Call, io.Closer, error) {
	conn, err := dial(a.Address)
	if err != nil {
		return nil, nil, err
	}
	client := api.NewAgentClient(conn)
	shape := []int32{int32(a.Count), int32(a.Rows.Data.Shape.Dim(1))}
	var values []float32
	return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
		first := a.choose(random)
		request := &api.PredictRequest{Name: a.Model, Tensors: []*api.Tensor{{
			TensorMetadata: &api.TensorMetadata{Name: []byte("data"), DataType: api.DataType_FLOAT32, Shape: shape},
			Data:           &api.Tensor_ByteData{ByteData: a.raw(first)},
		}}}
		start := time.Now()
		answer, err := client.Predict(ctx, request, grpc.WaitForReady(true))
		took := time.Since(start)
		if err != nil {
			return 0, 0, err
		}
		values = floats(values[:0], answer.Tensors[0].GetByteData())
		return took, proto.Size(answer), a.Rows.check(first, a.Count, values)
	}, conn, nil
}
