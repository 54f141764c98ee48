package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/lane"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// scripted is a client whose requests end as a script says.
type scripted struct {
	do     func(n int) error
	wrong  func(n int) bool
	n      int
	closed atomic.Bool
}

func (s *scripted) Prepare(*rand.Rand) {}

func (s *scripted) Do(context.Context) error {
	s.n++
	return s.do(s.n)
}

func (s *scripted) Check() (int, error) {
	if s.wrong != nil && s.wrong(s.n) {
		return 4, fmt.Errorf("%w: of request %d", protocols.ErrWrong, s.n)
	}
	return 4, nil
}

func (s *scripted) Close() error { s.closed.Store(true); return nil }

// TestStall has a server stall once. Requests that were due meanwhile waited, although a client that asks only when it has its
// answer never sent them in that time: they are told of.
func TestStall(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	slow := func(n int) error {
		if n == 50 {
			time.Sleep(stall)
		}
		return nil
	}
	due := make(Arrivals, 500)
	for i := range due {
		due[i] = time.Duration(i) * time.Millisecond
	}
	open, err := Run(t.Context(), Plan{Clients: []protocols.Client{&scripted{do: slow}}, Rows: 1, Duration: 500 * time.Millisecond, Due: due})
	if err != nil {
		t.Fatal(err)
	}
	if open.Counts.Sent != 500 || open.Counts.Answered != 500 {
		t.Errorf("%d requests were sent and %d answered, 500 were due", open.Counts.Sent, open.Counts.Answered)
	}
	// The request that stalled was sent at 49 ms or later, so those that were due in the next 200 ms waited for 100 ms or more.
	if got := open.Latency.Quantile(0.61); got < 99*time.Millisecond {
		t.Errorf("the 61st percentile is %v, where 200 of 500 requests were due 100 ms before the stall's end", got)
	}
	if got := open.Service.Quantile(1); got < stall-stall/1000 {
		t.Errorf("the longest service took %v, one took at least %v", got, stall)
	}
	if open.SendLateP99 < 200*time.Millisecond {
		t.Errorf("the generator says that it was late by %v, 99 in 100, with its only client held up for %v", open.SendLateP99, stall)
	}
}

// TestMeasured computes from requests whose times are known.
func TestMeasured(t *testing.T) {
	t.Parallel()
	ms := func(f float64) int64 { return int64(f * 1e6) }
	p := Plan{Rows: 3, WarmUp: 100 * time.Millisecond, Duration: time.Second, Due: Arrivals{}}
	var w [2]worker
	// Warm-up: slow, and not counted.
	for i := range 100 {
		w[0].add(record{due: ms(float64(i)), back: ms(float64(i) + 500), fate: Answered})
	}
	// 1000 requests that take 1.001, 1.002, ..., 2 ms from when they are due, of which 0.5 ms is lateness.
	for i := range 1000 {
		at := ms(100 + float64(i))
		w[i%2].add(record{due: at, back: at + ms(1+float64(i+1)/1000), lateness: uint32(ms(0.5)), fate: Answered})
	}
	for _, r := range []record{
		{due: ms(200), back: ms(201), fate: Refused}, {due: ms(200), back: ms(900), fate: Late}, {due: ms(200), back: ms(201), fate: Failed},
		{due: ms(1100), back: ms(1101), fate: Answered}, // beyond the end
	} {
		w[1].add(r)
	}
	w[0].checked, w[1].wrong = 3000, 3
	m := p.measured(w[:])
	if c := m.Counts; c.Sent != 1003 || c.Answered != 1000 || c.Rows != 3000 || c.Refused != 1 || c.Late != 1 || c.Failed != 1 || c.Checked != 3000 || c.Wrong != 3 {
		t.Errorf("the requests are counted as %+v", c)
	}
	for q, want := range map[float64]float64{0.5: 1.5, 0.9: 1.9, 0.99: 1.99, 0.999: 1.999, 1: 2} {
		if got := float64(m.Latency.Quantile(q)) / 1e6; math.Abs(got-want) > 0.002 {
			t.Errorf("quantile %v of latencies is %v ms, want %v", q, got, want)
		}
		if got := float64(m.Service.Quantile(q)) / 1e6; math.Abs(got-want+0.5) > 0.002 {
			t.Errorf("quantile %v of service is %v ms, want %v", q, got, want-0.5)
		}
	}
	if m.SendLateP99 < 499*time.Microsecond || m.SendLateP99 > 501*time.Microsecond {
		t.Errorf("the generator was late by %v, want 500 us", m.SendLateP99)
	}
	if m.PerSecond() != 1000 {
		t.Errorf("%v requests a second, want 1000", m.PerSecond())
	}

	// A closed load counts what was answered in its time.
	p.Due = nil
	if c := p.measured(w[:]).Counts; c.Answered != 1099 {
		t.Errorf("%d requests of a closed load are counted, 1099 of the answers came between 100 and 1100 ms after the begin", c.Answered)
	}

	// With a warm-up that was too short, latencies say when it was over.
	p = Plan{Rows: 1, WarmUp: 20 * time.Millisecond, Duration: 1260 * time.Millisecond, Settle: true}
	slow := worker{}
	for i := range 1280 {
		took := 1.0
		if i < 200 {
			took = 5
		}
		slow.add(record{due: ms(float64(i)), back: ms(float64(i) + took), fate: Answered})
	}
	m = p.measured([]worker{slow})
	if m.WarmUp < 180*time.Millisecond || m.WarmUp > 240*time.Millisecond || !m.Steady || m.WarmUp+m.Duration != p.end() {
		t.Errorf("%v are cut off as warm-up, which lasted 200 ms; %v are left and steady is %t", m.WarmUp, m.Duration, m.Steady)
	}
	rising := worker{}
	for i := range 1280 {
		rising.add(record{due: ms(float64(i)), back: ms(float64(i) + 1 + float64(i)/100), fate: Answered})
	}
	if p.measured([]worker{rising}).Steady {
		t.Error("latencies that rise to the end are steady")
	}
}

// TestFates counts what becomes of requests by what their errors are, and wrong answers.
func TestFates(t *testing.T) {
	t.Parallel()
	ends := []error{
		nil, status.Error(codes.ResourceExhausted, "busy"), &lane.Error{Code: lane.ResourceExhausted}, &protocols.HTTPError{Status: 503}, &protocols.HTTPError{Status: 429}, fmt.Errorf("asking: %w", engine.ErrBusy),
		status.Error(codes.DeadlineExceeded, "late"), context.DeadlineExceeded, engine.ErrDeadline, &lane.Error{Code: lane.DeadlineExceeded},
		errors.New("broken"), status.Error(codes.Internal, "broken"), &protocols.HTTPError{Status: 500}, &lane.Error{Code: lane.NotFound},
	}
	due := make(Arrivals, len(ends))
	c := &scripted{do: func(n int) error { return ends[n-1] }, wrong: func(n int) bool { return n == 1 }}
	m, err := Run(t.Context(), Plan{Clients: []protocols.Client{c}, Rows: 2, Duration: time.Millisecond, Due: due})
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Counts; got.Sent != 14 || got.Answered != 1 || got.Refused != 5 || got.Late != 4 || got.Failed != 4 || got.Checked != 2 || got.Wrong != 2 {
		t.Errorf("the requests are counted as %+v", got)
	}
	if !errors.Is(m.Wrong, protocols.ErrWrong) || m.Failed == nil || m.Failed.Error() != "broken" {
		t.Errorf("the first wrong answer is %v, the first failure %v", m.Wrong, m.Failed)
	}
}

// TestEvery counts the requests between those that are timed, and looks at their answers.
func TestEvery(t *testing.T) {
	t.Parallel()
	// The load ends after so many requests and not at a time, so that a busy machine makes as many as any.
	const requests = 20_000
	p := Plan{Rows: 1, Duration: time.Hour, Every: 16}
	c := &scripted{wrong: func(n int) bool { return n == 3 }}
	c.do = func(n int) error {
		if n == requests {
			p.Duration = 0
		}
		return nil
	}
	w := worker{Plan: &p, client: c, random: rand.New(rand.NewPCG(1, 1)), start: time.Now()}
	if err := w.closed(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Duration = time.Hour
	m := p.measured([]worker{w})
	// The gaps are uniform from 0 to 30: the mean of 1250 of them is within 4 of its deviations of 0.25. Those after the last that is timed do not count.
	each := float64(m.Counts.Answered) / float64(m.Latency.TotalCount())
	if math.Abs(each-16) > 1 || m.Counts.Answered > int64(c.n) || m.Counts.Answered < requests-31 || m.Counts.Checked != int64(c.n) || m.Counts.Wrong != 1 {
		t.Errorf("one in 16 of %d is to be timed, and %d of %+v are", c.n, m.Latency.TotalCount(), m.Counts)
	}
	if _, err := Run(t.Context(), Plan{Clients: []protocols.Client{c}, Rows: 1, Duration: time.Millisecond, Every: MostEvery + 1}); err == nil {
		t.Error("one of more requests is timed than can be counted between two")
	}
	if m, err := Run(t.Context(), Plan{Clients: []protocols.Client{c}, Rows: 1, Duration: 5 * time.Millisecond, AskOnly: true}); err != nil || m.Counts.Answered < 1 || m.Latency != nil && m.Latency.TotalCount() != 0 {
		t.Errorf("without clocks, %+v, %v", m, err)
	}
}

// TestEnd leaves nothing behind where the caller gives up while a request hangs.
func TestEnd(t *testing.T) {
	t.Parallel()
	hangs := &scripted{}
	ctx, cancel := context.WithCancel(t.Context())
	hangs.do = func(int) error {
		cancel()
		for !hangs.closed.Load() {
			time.Sleep(time.Millisecond)
		}
		return errors.New("closed")
	}
	if _, err := Run(ctx, Plan{Clients: []protocols.Client{hangs}, Rows: 1, Duration: time.Hour}); !errors.Is(err, context.Canceled) {
		t.Errorf("a load that is given up ends with %v", err)
	}
	if _, err := Run(t.Context(), Plan{}); err == nil {
		t.Error("a load without clients runs")
	}
}

// TestArrivals compares the times between arrivals with the exponential distribution, and their number in parts of a second with
// Poisson's.
func TestArrivals(t *testing.T) {
	t.Parallel()
	const rate, seconds = 10_000, 10
	a := Poisson(rand.New(rand.NewPCG(1, 7)), rate, seconds*time.Second)
	if !slices.IsSorted(a) {
		t.Fatal("arrivals do not ascend")
	}
	gaps := make([]float64, len(a))
	last := time.Duration(0)
	for i, at := range a {
		gaps[i] = (at - last).Seconds()
		last = at
	}
	slices.Sort(gaps)
	distance := 0.0 // of Kolmogorov and Smirnov
	for i, g := range gaps {
		f := 1 - math.Exp(-rate*g)
		distance = max(distance, math.Abs(f-float64(i)/float64(len(gaps))), math.Abs(f-float64(i+1)/float64(len(gaps))))
	}
	// The critical value at 1%.
	if most := 1.63 / math.Sqrt(float64(len(gaps))); distance > most {
		t.Errorf("times between arrivals are %.5f from the exponential distribution, at most %.5f is chance", distance, most)
	}
	counts := make([]float64, 100*seconds)
	for _, at := range a {
		counts[at/(10*time.Millisecond)]++
	}
	mean, variance := 0.0, 0.0
	for _, c := range counts {
		mean += c / float64(len(counts))
	}
	for _, c := range counts {
		variance += (c - mean) * (c - mean) / float64(len(counts)-1)
	}
	// Of Poisson's distribution they are equal; the ratio's standard deviation is the square root of 2/n.
	if ratio := variance / mean; math.Abs(ratio-1) > 4*math.Sqrt(2/float64(len(counts))) {
		t.Errorf("the variance of arrivals in 10 ms is %.3f times their mean, want 1", ratio)
	}
	if math.Abs(mean-100) > 4*math.Sqrt(100/float64(len(counts))) {
		t.Errorf("%.2f arrivals in 10 ms, want 100", mean)
	}

	b := Bursts(rand.New(rand.NewPCG(1, 8)), rate, seconds*time.Second)
	for _, at := range b {
		if at%(2*BurstTime) >= BurstTime || at >= seconds*time.Second {
			t.Fatalf("an arrival at %v is in a silence", at)
		}
	}
	if n := float64(len(b)); math.Abs(n-rate*seconds) > 4*math.Sqrt(rate*seconds) {
		t.Errorf("%.0f arrivals in bursts, want about %d", n, rate*seconds)
	}
}
