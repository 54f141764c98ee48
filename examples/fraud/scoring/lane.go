package scoring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// overLane asks over Picket's binary protocol.
type overLane struct {
	inUse[*lane.Model]
	path    string
	options lane.Options
	rooms   sync.Pool // of *room

	connecting sync.Mutex
	client     atomic.Pointer[lane.Client] // nil until a Use has found the daemon
}

// room is the memory of an answer.
type room struct {
	score         [1]float32
	contributions []float32 // one for each feature, and the bias
	outputs       [1][]byte
	input         [1][]byte
}

func newRoom() *room {
	r := &room{contributions: make([]float32, features.Count+1)}
	r.outputs[0] = tensor.AsBytes(r.score[:])
	return r
}

// OverLane asks the daemon whose lane.sock is at path, in shared memory where ring is true and the daemon has room for it. The first Use connects. The caller closes it.
func OverLane(path string, ring bool) Scorer {
	return &overLane{path: path, options: lane.Options{Ring: ring}, rooms: sync.Pool{New: func() any { return newRoom() }}}
}

func (s *overLane) Name() string {
	if client := s.client.Load(); client != nil && client.HasRing() {
		return "ring"
	}
	return "lane"
}

// connected is the client, which connects again by itself once it has connected.
func (s *overLane) connected(ctx context.Context) (*lane.Client, error) {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if client := s.client.Load(); client != nil {
		return client, nil
	}
	client, err := lane.Dial(ctx, s.path, s.options)
	if err != nil {
		return nil, fmt.Errorf("connecting to Picket: %w", err)
	}
	s.client.Store(client)
	return client, nil
}

func (s *overLane) Use(ctx context.Context, m *Model) error {
	client, err := s.connected(ctx)
	if err != nil {
		return err
	}
	model, err := client.Model(ctx, m.Served())
	if err != nil {
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	use := &used[*lane.Model]{model: m, by: model}
	signature := model.Signature()
	if len(signature.Inputs) != 1 || signature.Inputs[0].RowBytes != 4*features.Count || signature.Inputs[0].DType != tensor.FP32 {
		return fmt.Errorf("using version %s: it does not take %d numbers a row", m.Version, features.Count)
	}
	if out := signature.Outputs; len(out) != 1 || out[0].RowBytes != 4 || out[0].DType != tensor.FP32 {
		return fmt.Errorf("using version %s: its output is not one score a row", m.Version)
	}
	r := newRoom()
	r.input[0] = tensor.AsBytes(make([]float32, features.Count))
	err = model.ExplainInto(ctx, 1, r.input[:], r.outputs[:], r.contributions)
	var said *lane.Error
	switch {
	case err == nil:
		use.explained = true
	case errors.As(err, &said) && said.Code == lane.InvalidArgument: // it was loaded without
	default:
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	s.current.Store(use)
	return nil
}

func (s *overLane) Score(ctx context.Context, profile []float32) (Score, error) {
	use := s.current.Load()
	if use == nil {
		return Score{}, errNoModel
	}
	r := s.rooms.Get().(*room)
	defer s.rooms.Put(r)
	r.input[0] = tensor.AsBytes(profile)
	name, err := use.by.PredictNamed(ctx, 1, r.input[:], r.outputs[:])
	if err != nil {
		return Score{}, err
	}
	score := Score{Probability: r.score[0], Model: use.model, Inference: name.String()}
	if use.explained && use.model.Verdict(score.Probability) != api.Approve {
		// Reasons take much longer than a score, and nobody asks why of what was approved.
		if score.Unexplained = use.by.ExplainInto(ctx, 1, r.input[:], r.outputs[:], r.contributions); score.Unexplained == nil {
			score.Contributions = append(score.Contributions, r.contributions[:features.Count]...)
		}
	}
	return checked(score)
}

func (s *overLane) Close() error {
	if client := s.client.Load(); client != nil {
		return client.Close()
	}
	return nil
}
