package scoring

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/picket-ml/picket/examples/fraud/features"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// overAgent asks over the interface of the Edge Manager agent.
type overAgent struct {
	inUse[struct{}]
	conn   *grpc.ClientConn
	client agentapi.AgentClient
}

// OverAgent asks the daemon whose agent.sock is at path. The caller closes it.
func OverAgent(path string) (Scorer, error) {
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("preparing to connect to %s: %w", path, err)
	}
	return &overAgent{conn: conn, client: agentapi.NewAgentClient(conn)}, nil
}

func (s *overAgent) Name() string { return "agent" }

func (s *overAgent) Use(ctx context.Context, m *Model) error {
	s.conn.ResetConnectBackoff() // a daemon that is back should not wait for us
	answer, err := s.client.DescribeModel(ctx, &agentapi.DescribeModelRequest{Name: m.Served()}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	s.current.Store(&used[struct{}]{model: m, explained: len(answer.GetModel().GetOutputTensorMetadatas()) == 2})
	return nil
}

func (s *overAgent) Score(ctx context.Context, profile []float32) (Score, error) {
	m := s.Current()
	if m == nil {
		return Score{}, errNoModel
	}
	data := make([]byte, 0, 4*len(profile))
	for _, v := range profile {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	var header metadata.MD
	answer, err := s.client.Predict(ctx, &agentapi.PredictRequest{Name: m.Served(), Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{DataType: agentapi.DataType_FLOAT32, Shape: []int32{1, int32(len(profile))}},
		Data:           &agentapi.Tensor_ByteData{ByteData: data},
	}}}, grpc.Header(&header))
	if err != nil {
		return Score{}, err
	}
	score := Score{Model: m}
	if given := header.Get("picket-inference-id"); len(given) > 0 {
		score.Inference = given[0]
	}
	for i, t := range answer.GetTensors() {
		numbers := t.GetByteData()
		switch {
		case i == 0 && len(numbers) == 4:
			score.Probability = math.Float32frombits(binary.LittleEndian.Uint32(numbers))
		case i == 1 && contributions(len(numbers)/4):
			for j := range features.Count {
				score.Contributions = append(score.Contributions, math.Float32frombits(binary.LittleEndian.Uint32(numbers[4*j:])))
			}
		default:
			return Score{}, fmt.Errorf("asking for a score: output %d of %s has %d bytes, which is neither a score nor contributions", i, m.Served(), len(numbers))
		}
	}
	if len(answer.GetTensors()) == 0 {
		return Score{}, fmt.Errorf("asking for a score: %s answers without outputs", m.Served())
	}
	return checked(score)
}

func (s *overAgent) Close() error { return s.conn.Close() }
