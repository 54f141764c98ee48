package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
)

const (
	// batchRows is how many transactions a request has when they are scored together.
	batchRows = 64
	// How long each measurement takes.
	measureFor = time.Second
)

// service is the model as the payment service sees it: over the socket, through the agent's interface.
type service struct {
	agent  agentapi.AgentClient
	model  *agentapi.Model
	chosen []string // which backend runs it and why, in lines
}

// loadModel has the daemon load the artifact.
func loadModel(ctx context.Context, conn *grpc.ClientConn, artifact string) (*service, error) {
	s := &service{agent: agentapi.NewAgentClient(conn)}
	answer, err := s.agent.LoadModel(ctx, &agentapi.LoadModelRequest{Name: modelName, Url: artifact})
	if err != nil {
		return nil, fmt.Errorf("loading the model: %s", status.Convert(err).Message())
	}
	s.model = answer.GetModel()
	if len(s.model.GetInputTensorMetadatas()) != 1 || len(s.model.GetOutputTensorMetadatas()) != 1 {
		return nil, errors.New("loading the model: it does not have one input and one output; is the folder's model another one?")
	}
	explained, err := controlapi.NewControlClient(conn).Explain(ctx, &controlapi.ExplainRequest{Name: modelName})
	if err != nil {
		return nil, fmt.Errorf("asking what runs the model: %s", status.Convert(err).Message())
	}
	for _, c := range explained.GetCandidates() {
		name := c.GetBackend()
		if c.GetVariant() != "" {
			name += " (" + c.GetVariant() + ")"
		}
		us := ""
		if c.GetChosen() && c.UsPerRow != nil { // the others' reasons have theirs
			us = fmt.Sprintf(", %.2f us a row", c.GetUsPerRow())
		}
		s.chosen = append(s.chosen, fmt.Sprintf("%s%s: %s", name, us, c.GetReason()))
	}
	return s, nil
}

// describe is what the model takes and gives.
func (s *service) describe() string {
	one := func(m *agentapi.TensorMetadata) string {
		return fmt.Sprintf("%s %s%s", m.GetName(), m.GetDataType(), strings.ReplaceAll(fmt.Sprint(m.GetShape()), " ", ","))
	}
	return one(s.model.GetInputTensorMetadatas()[0]) + " to " + one(s.model.GetOutputTensorMetadatas()[0])
}

// request asks for the scores of transactions.
func (s *service) request(list []transaction) *agentapi.PredictRequest {
	in := s.model.GetInputTensorMetadatas()[0]
	data := make([]byte, 0, 4*len(list)*len(list[0].values))
	for _, t := range list {
		for _, v := range t.values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
	}
	return &agentapi.PredictRequest{Name: modelName, Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{
			Name: in.GetName(), DataType: in.GetDataType(), Shape: []int32{int32(len(list)), int32(len(list[0].values))},
		},
		Data: &agentapi.Tensor_ByteData{ByteData: data},
	}}}
}

// predict asks one request and returns its n scores.
func (s *service) predict(ctx context.Context, in *agentapi.PredictRequest, n int) ([]float32, error) {
	answer, err := s.agent.Predict(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("scoring: %s", status.Convert(err).Message())
	}
	if len(answer.GetTensors()) != 1 || len(answer.GetTensors()[0].GetByteData()) != 4*n {
		return nil, fmt.Errorf("scoring: the daemon's answer is not one number for each of %d transactions", n)
	}
	scores := make([]float32, n)
	for i := range scores {
		scores[i] = math.Float32frombits(binary.LittleEndian.Uint32(answer.GetTensors()[0].GetByteData()[4*i:]))
	}
	return scores, nil
}

// scoreAll asks for one score after the other.
func (s *service) scoreAll(ctx context.Context, list []transaction) error {
	for i := range list {
		scores, err := s.predict(ctx, s.request(list[i:i+1]), 1)
		if err != nil {
			return err
		}
		list[i].score = scores[0]
	}
	return nil
}

// measurement is how fast the answers came.
type measurement struct {
	requests         int
	p50, p90, p99    time.Duration
	batchedPerSecond int
}

// measure asks for all scores again and again, first one at a time, then in batches, with one request under way. Every
// answer must be the one of scoreAll, bit for bit. The requests are made before the clock runs: a payment service has
// its features from elsewhere.
func (s *service) measure(ctx context.Context, list []transaction) (measurement, error) {
	var took []time.Duration
	ask := func(size int) (rows int, err error) {
		took = took[:0]
		var parts [][]transaction
		var requests []*agentapi.PredictRequest
		for part := range slices.Chunk(list, size) {
			parts, requests = append(parts, part), append(requests, s.request(part))
		}
		for began := time.Now(); time.Since(began) < measureFor; {
			for i, part := range parts {
				start := time.Now()
				scores, err := s.predict(ctx, requests[i], len(part))
				took = append(took, time.Since(start))
				if err != nil {
					return 0, err
				}
				rows += len(part)
				for j, score := range scores {
					if math.Float32bits(score) != math.Float32bits(part[j].score) {
						return 0, fmt.Errorf("scoring %d at a time: transaction %d now gets %v, before it got %v", size, part[j].number, score, part[j].score)
					}
				}
			}
		}
		return rows, nil
	}
	if _, err := ask(1); err != nil {
		return measurement{}, err
	}
	slices.Sort(took)
	quantile := func(q float64) time.Duration { return took[min(len(took)-1, int(q*float64(len(took))))] }
	m := measurement{requests: len(took), p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99)}
	rows, err := ask(batchRows)
	if err != nil {
		return measurement{}, err
	}
	var total time.Duration
	for _, t := range took {
		total += t
	}
	m.batchedPerSecond = int(float64(rows) / total.Seconds())
	return m, nil
}
