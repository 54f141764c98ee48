package scoring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

const (
	// mostScoring is how many connections are kept: as many as a Guard lets ask at once by default.
	mostScoring = 256
	// longestScore bounds what is read of an answer.
	longestScore = 1 << 20
	// contributionsOutput is what Picket calls the contributions of the features.
	contributionsOutput = "contributions"
)

// overOIP asks by the Open Inference Protocol, over HTTP: the daemon, or another server that speaks it, such as the one that served the model before.
type overOIP struct {
	inUse[oipModel]
	client *http.Client
	prefix string // of the names of inferences, which are told apart from those of other clients
	asked  atomic.Uint64
	bodies sync.Pool // of *bytes.Buffer
}

type oipModel struct {
	path  string // where it answers
	input []byte // what it calls its input, in JSON
}

// OverOIP asks the server at an address: unix:/path, such as that of the daemon's oip.sock, or host:port. The caller closes it.
func OverOIP(address string) (Scorer, error) {
	network, target := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, target = "unix", path
	} else if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("preparing to ask for scores: %q is neither unix:/path nor host:port", address)
	}
	var dialer net.Dialer
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, target)
		},
		MaxIdleConns:        mostScoring,
		MaxIdleConnsPerHost: mostScoring,
		DisableCompression:  true,
	}
	return &overOIP{client: &http.Client{Transport: transport}, prefix: rand.Text() + "-", bodies: sync.Pool{New: func() any { return new(bytes.Buffer) }}}, nil
}

func (s *overOIP) Name() string { return "oip" }

func (s *overOIP) Use(ctx context.Context, m *Model) error {
	use := &used[oipModel]{model: m, by: oipModel{path: "/v2/models/" + m.Served() + "/infer", input: []byte(`"data"`)}}
	var said struct {
		Inputs []struct {
			Name     string `json:"name"`
			DataType string `json:"datatype"`
			Shape    []int  `json:"shape"`
		} `json:"inputs"`
	}
	if err := s.do(ctx, http.MethodGet, "/v2/models/"+m.Served(), nil, &said); err != nil {
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	switch len(said.Inputs) {
	case 0: // not every server knows what its models take
	case 1:
		one := said.Inputs[0]
		if one.DataType != "FP32" || len(one.Shape) != 2 || one.Shape[1] != features.Count {
			return fmt.Errorf("using version %s: it does not take %d numbers a row", m.Version, features.Count)
		}
		var err error
		if use.by.input, err = json.Marshal(one.Name); err != nil {
			return fmt.Errorf("using version %s: %w", m.Version, err)
		}
	default:
		return fmt.Errorf("using version %s: it has %d inputs instead of one", m.Version, len(said.Inputs))
	}
	nothing := make([]float32, features.Count)
	if _, err := s.ask(ctx, use, nothing, "", 1); err != nil {
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	_, err := s.ask(ctx, use, nothing, contributionsOutput, features.Count+1)
	var refused *statusError
	switch {
	case err == nil:
		use.explained = true
	case errors.As(err, &refused): // it was loaded without, or is a server that has none
	default:
		return fmt.Errorf("using version %s: %w", m.Version, err)
	}
	s.current.Store(use)
	return nil
}

func (s *overOIP) Score(ctx context.Context, profile []float32) (Score, error) {
	use := s.current.Load()
	if use == nil {
		return Score{}, errNoModel
	}
	answer, err := s.ask(ctx, use, profile, "", 1)
	if err != nil {
		return Score{}, err
	}
	score := Score{Probability: answer.numbers[0], Model: use.model, Inference: answer.id}
	if use.explained && use.model.Verdict(score.Probability) != api.Approve { // as over the lane
		if answer, score.Unexplained = s.ask(ctx, use, profile, contributionsOutput, features.Count+1); score.Unexplained == nil {
			score.Contributions = answer.numbers[:features.Count]
		}
	}
	return checked(score)
}

// oipScore is one output of an answer.
type oipScore struct {
	id      string
	numbers []float32
}

// ask asks about one row, for an output by its name, or for the first where that is empty, which must have so many numbers.
func (s *overOIP) ask(ctx context.Context, use *used[oipModel], profile []float32, output string, numbers int) (oipScore, error) {
	body := s.bodies.Get().(*bytes.Buffer)
	body.Reset()
	defer s.bodies.Put(body)
	compose(body, s.prefix, s.asked.Add(1), use.by.input, profile, output)
	var said struct {
		ID      string `json:"id"`
		Outputs []struct {
			Data []*float32 `json:"data"`
		} `json:"outputs"`
	}
	if err := s.do(ctx, http.MethodPost, use.by.path, body.Bytes(), &said); err != nil {
		return oipScore{}, err
	}
	if len(said.Outputs) == 0 || len(said.Outputs[0].Data) != numbers {
		return oipScore{}, fmt.Errorf("asking for a score: the answer of %s does not have %d numbers", use.model.Served(), numbers)
	}
	answer := oipScore{said.ID, make([]float32, numbers)}
	for i, v := range said.Outputs[0].Data {
		if v == nil { // what is not finite
			answer.numbers[i] = float32(math.NaN())
			continue
		}
		answer.numbers[i] = *v
	}
	return answer, nil
}

// compose writes a request. JSON has no word for a missing number but null.
func compose(into *bytes.Buffer, prefix string, number uint64, input []byte, profile []float32, output string) {
	b := into.AvailableBuffer()
	b = append(b, `{"id":"`...)
	b = append(b, prefix...)
	b = strconv.AppendUint(b, number, 10)
	b = append(b, `","inputs":[{"name":`...)
	b = append(b, input...)
	b = append(b, `,"datatype":"FP32","shape":[1,`...)
	b = strconv.AppendInt(b, int64(len(profile)), 10)
	b = append(b, `],"data":[`...)
	for i, v := range profile {
		if i > 0 {
			b = append(b, ',')
		}
		if v != v {
			b = append(b, "null"...)
			continue
		}
		b = strconv.AppendFloat(b, float64(v), 'g', -1, 32)
	}
	b = append(b, "]}]"...)
	if output != "" {
		b = append(b, `,"outputs":[{"name":"`...)
		b = append(b, output...)
		b = append(b, `"}]`...)
	}
	into.Write(append(b, '}'))
}

// statusError is an answer of a server that did not do what it was asked.
type statusError struct {
	status string
	said   []byte
}

func (e *statusError) Error() string {
	return fmt.Sprintf("asking for a score: the server answers with %s: %.200q", e.status, e.said)
}

func (s *overOIP) do(ctx context.Context, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://scores"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("asking for a score: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return fmt.Errorf("asking for a score: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, longestScore))
	if err != nil {
		return fmt.Errorf("asking for a score: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		return &statusError{answer.Status, text}
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("asking for a score: reading the answer: %w", err)
	}
	return nil
}

func (s *overOIP) Close() error {
	s.client.CloseIdleConnections()
	return nil
}
