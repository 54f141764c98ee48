package scoring

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// overLane asks over Picket's binary protocol.
type overLane struct {
	client  *lane.Client
	current atomic.Pointer[laneModel]
	rooms   sync.Pool // of *room
}

type laneModel struct {
	model         *Model
	lane          *lane.Model
	contributions int // numbers of the second output, 0 without one
}

// room is the memory of an answer.
type room struct {
	numbers []float32
	outputs [][]byte
	input   [1][]byte
}

// OverLane asks the daemon whose lane.sock is at path. The caller closes it.
func OverLane(ctx context.Context, path string) (Scorer, error) {
	client, err := lane.Dial(ctx, path, lane.Options{})
	if err != nil {
		return nil, fmt.Errorf("connecting to Picket: %w", err)
	}
	return &overLane{client: client, rooms: sync.Pool{New: func() any { return new(room) }}}, nil
}

func (s *overLane) Name() string { return "lane" }

func (s *overLane) Use(ctx context.Context, m *Model) error {
	model, err := s.client.Model(ctx, m.Served())
	if err != nil {
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	use := &laneModel{model: m, lane: model}
	signature := model.Signature()
	if len(signature.Inputs) != 1 || signature.Inputs[0].RowBytes != 4*features.Count || signature.Inputs[0].DType != tensor.FP32 {
		return fmt.Errorf("using version %s: it does not take %d numbers a row", m.Version, features.Count)
	}
	for i, out := range signature.Outputs {
		switch n := out.RowBytes / 4; {
		case i == 0 && n == 1 && out.DType == tensor.FP32:
		case i == 1 && contributions(n) && out.DType == tensor.FP32:
			use.contributions = n
		default:
			return fmt.Errorf("using version %s: its output %s is neither a score nor the contributions of %d features", m.Version, out.Name, features.Count)
		}
	}
	s.current.Store(use)
	return nil
}

func (s *overLane) Current() *Model {
	if use := s.current.Load(); use != nil {
		return use.model
	}
	return nil
}

func (s *overLane) Explained() bool {
	use := s.current.Load()
	return use != nil && use.contributions > 0
}

func (s *overLane) Score(ctx context.Context, profile []float32) (Score, error) {
	use := s.current.Load()
	if use == nil {
		return Score{}, errNoModel
	}
	r := s.rooms.Get().(*room)
	defer s.rooms.Put(r)
	if len(r.numbers) != 1+use.contributions {
		r.numbers = make([]float32, 1+use.contributions)
		r.outputs = [][]byte{tensor.AsBytes(r.numbers[:1])}
		if use.contributions > 0 {
			r.outputs = append(r.outputs, tensor.AsBytes(r.numbers[1:]))
		}
	}
	r.input[0] = tensor.AsBytes(profile)
	if err := use.lane.PredictInto(ctx, 1, r.input[:], r.outputs); err != nil {
		return Score{}, err
	}
	score := Score{Probability: r.numbers[0], Model: use.model}
	if use.contributions > 0 {
		score.Contributions = append(score.Contributions, r.numbers[1:1+features.Count]...)
	}
	return checked(score)
}

func (s *overLane) Close() error { return s.client.Close() }
