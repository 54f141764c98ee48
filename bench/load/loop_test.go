//go:build cgo && linux

package load

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	emptyserver "github.com/picket-ml/picket/bench/empty"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// scriptedLane serves a model of three columns on a lane and answers request n, counted from 1, with zeros, or the refusal, or not at all, as say tells.
// It gives a client whose requests are of two rows of eight, the last of which the reference answers with 1.
func scriptedLane(t *testing.T, say func(n int64) (refusal lane.Code, answers bool)) protocols.Client {
	t.Helper()
	ctx, end := context.WithCancel(context.Background())
	socket, served, zeros := filepath.Join(t.TempDir(), "lane.sock"), make(chan error, 1), make([]byte, lanewire.MaxMessage)
	var asked atomic.Int64
	answer := func(h *lanewire.Header) (lanewire.Header, []byte, bool) {
		reply := lanewire.Header{Kind: h.Kind + 1, ID: h.ID, Handle: 1, Rows: h.Rows}
		switch h.Kind {
		case lanewire.KindHello:
			return reply, lanewire.Welcome{Version: lanewire.Version, MaxMessage: lanewire.MaxMessage, MaxPayload: lanewire.MaxMessage}.Append(nil), true
		case lanewire.KindOpen:
			in := []lanewire.Spec{{Name: "in", DType: tensor.FP32, Dims: []int64{-1, 3}}}
			out := []lanewire.Spec{{Name: "out", DType: tensor.FP32, Dims: []int64{-1}}}
			signature, err := lanewire.AppendSignature(nil, in, out)
			return reply, signature, err == nil
		}
		code, answers := say(asked.Add(1))
		switch {
		case !answers:
			return lanewire.Header{}, nil, true
		case code != 0:
			reply.Kind = lanewire.KindError
			return reply, lanewire.Failure{Code: uint32(code), Sentence: "as the script says"}.Append(nil), true
		}
		return reply, zeros[:4*h.Rows], true
	}
	go func() { served <- emptyserver.Serve(ctx, socket, answer) }()
	data, err := tensor.New("data", tensor.FP32, tensor.MustShape(8, 3))
	if err != nil {
		t.Fatal(err)
	}
	c, err := protocols.Ask{Address: socket, Model: "any", Rows: &protocols.Rows{Data: data, Answers: []float32{7: 1}}, Count: 2}.Lane(1)()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		data.Buffer.Release()
		end()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

// enough has a load last longer until so many requests were answered: a machine that has much else to do answers few in a short time.
func enough(t *testing.T, least int64, plan func() Plan) *Measured {
	t.Helper()
	for d := 100 * time.Millisecond; ; d *= 4 {
		p := plan()
		p.Duration = d
		m, err := Run(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if m.Counts.Answered >= least || d > time.Minute {
			return m
		}
	}
}

// TestLoop has callers in C put closed loads on, and counts what became of their requests as of those of callers in Go.
func TestLoop(t *testing.T) {
	t.Parallel()
	script := map[int64]lane.Code{3: lane.ResourceExhausted, 5: lane.DeadlineExceeded, 7: lane.Internal}
	say := func(n int64) (lane.Code, bool) { return script[n], true }
	m := enough(t, 1000, func() Plan { return Plan{Clients: []protocols.Client{scriptedLane(t, say)}, Rows: 2} })
	c := m.Counts
	if c.Refused != 1 || c.Late != 1 || c.Failed != 1 || c.Sent != c.Answered+3 || c.Rows != 2*c.Answered || c.Checked < c.Rows || m.Latency.TotalCount() != c.Answered {
		t.Errorf("the requests are counted as %+v, with %d latencies", c, m.Latency.TotalCount())
	}
	// One in seven of the places where two rows lie together has the last row.
	if each := float64(c.Wrong) / float64(c.Checked); c.Answered < 1000 || math.Abs(each-1./7) > 0.1 {
		t.Errorf("of %d rows %d are wrong, want a seventh", c.Checked, c.Wrong)
	}
	if !errors.Is(m.Wrong, protocols.ErrWrong) || !strings.Contains(m.Wrong.Error(), "row 7 is answered with 0, the reference has 1") {
		t.Errorf("the first wrong answer is %v", m.Wrong)
	}
	if m.Failed == nil || !strings.Contains(m.Failed.Error(), "as the script says") {
		t.Errorf("the first failure is %v", m.Failed)
	}
	if at := m.Latency.Quantile(0.5); at <= 0 || at > m.Duration {
		t.Errorf("half of the requests took %v", at)
	}

	m = enough(t, 2000, func() Plan { return Plan{Clients: []protocols.Client{scriptedLane(t, say)}, Rows: 2, Every: 16} })
	// The gaps are uniform from 0 to 30: the mean of 125 of them and more is within 8 of its deviations of 0.8.
	if each := float64(m.Counts.Answered) / float64(m.Latency.TotalCount()); math.Abs(each-16) > 6.4 || m.Counts.Failed != 1 {
		t.Errorf("one in 16 is to be timed, and %d of %+v are", m.Latency.TotalCount(), m.Counts)
	}

	quiet := func(int64) (lane.Code, bool) { return 0, true }
	m = enough(t, 100, func() Plan {
		return Plan{Clients: []protocols.Client{scriptedLane(t, quiet), scriptedLane(t, quiet)}, Rows: 2, AskOnly: true}
	})
	if m.Counts.Answered < 100 || m.Counts.Checked != 2*m.Counts.Answered || m.Duration < 100*time.Millisecond {
		t.Errorf("without clocks, %+v in %v", m.Counts, m.Duration)
	}
}

// TestLoopEnds cancels a load whose request is never answered.
func TestLoopEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("nobody wants to know any more")
	c := scriptedLane(t, func(n int64) (lane.Code, bool) {
		if n == 10 {
			cancel(why)
		}
		return 0, n < 10
	})
	if _, err := Run(ctx, Plan{Clients: []protocols.Client{c}, Rows: 2, Duration: time.Minute}); !errors.Is(err, why) {
		t.Errorf("a load that was cancelled ends with %v", err)
	}
}
