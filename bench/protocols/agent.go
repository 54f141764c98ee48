package protocols

import (
	"context"
	"math/rand/v2"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	api "github.com/picket-ml/picket/internal/api/agent"
)

// Agent connects a client of the Edge Manager agent's protocol.
func (a Ask) Agent() (Client, error) {
	conn, err := dial(a.Address)
	if err != nil {
		return nil, err
	}
	return &agentClient{Ask: a, ClientConn: conn, agent: api.NewAgentClient(conn), shape32: []int32{int32(a.Count), int32(a.Rows.Data.Shape.Dim(1))}}, nil
}

type agentClient struct {
	Ask
	*grpc.ClientConn
	agent   api.AgentClient
	shape32 []int32

	first   int
	request *api.PredictRequest
	answer  *api.PredictResponse
	values  []float32 // kept from answer to answer
}

func (c *agentClient) Prepare(random *rand.Rand) {
	c.first = c.choose(random)
	c.request = &api.PredictRequest{Name: c.Model, Tensors: []*api.Tensor{{
		TensorMetadata: &api.TensorMetadata{Name: []byte("data"), DataType: api.DataType_FLOAT32, Shape: c.shape32},
		Data:           &api.Tensor_ByteData{ByteData: c.raw(c.first)},
	}}}
}

func (c *agentClient) Do(ctx context.Context) (err error) {
	c.answer, err = c.agent.Predict(ctx, c.request, grpc.WaitForReady(true))
	return err
}

func (c *agentClient) Check() (int, error) {
	c.values = Floats(c.values[:0], c.answer.Tensors[0].GetByteData())
	return proto.Size(c.answer), c.Rows.Check(c.first, c.Count, c.values)
}
