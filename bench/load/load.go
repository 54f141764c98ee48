package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/lane"
)

// Plan is one repetition of a load.
type Plan struct {
	// Clients each have one request outstanding at most. They are connected, and stay the caller's; a load that fails may have
	// closed them.
	Clients []protocols.Client
	// Rows is how many each request is about.
	Rows int
	// WarmUp is passed over in any case, and Duration comes after it.
	WarmUp, Duration time.Duration
	// Due is when requests are due, from the beginning of the warm-up on; nil for a closed load. A request that is due while
	// all clients wait for answers is sent by the first that has one.
	Due Arrivals
	// Deadline is what each request allows itself from when it is due; 0 for any time.
	Deadline time.Duration
	// Settle cuts off more than the warm-up where latencies have not settled by then.
	Settle bool
	// Every says that in a closed load one of so many requests is timed, at random, so that the clock stays a small part of the
	// fastest; all are counted, and all answers looked at. 0 is 1, and MostEvery the most.
	Every int
	// Clock is what reading the clock adds to a time; see ClockCost.
	Clock time.Duration
	Seed  uint64
	// AskOnly leaves out all clocks and records: what measuring costs is found out so. Only the counts are told.
	AskOnly bool
}

// Measured is what came of a load.
type Measured struct {
	Duration, WarmUp time.Duration
	Steady           bool
	Counts           report.Counts
	// Latency is of answered requests, from when they were due; Service from when they were sent.
	Latency, Service *report.Histogram
	SendLateP99      time.Duration
	// Wrong is the first answer that was not the reference's, Failed the first request that was neither answered nor refused.
	Wrong, Failed error
}

// PerSecond is how many requests were answered a second.
func (m *Measured) PerSecond() float64 {
	if m.Duration == 0 {
		return 0
	}
	return float64(m.Counts.Answered) / m.Duration.Seconds()
}

// Fate is what became of a request.
type Fate uint8

// The fates.
const (
	Unanswered Fate = iota
	Unsent          // its sender was so late that the deadline had passed
	Answered
	Refused // RESOURCE_EXHAUSTED
	Late    // DEADLINE_EXCEEDED
	Failed  // any other error
)

// record is one request: when it was due and when its answer was there, from the beginning, and how late it was sent.
type record struct {
	due, back int64
	lateness  uint32 // nanoseconds, at most 4 s
	others    uint16 // requests before it that were answered and not timed
	fate      Fate
}

// chunk is memory for records. It is used again, so that a load does not wait for new pages.
type chunk [1 << 12]record

var chunks = sync.Pool{New: func() any { return new(chunk) }}

// add adds a record.
func (w *worker) add(r record) {
	if n := len(w.records); n == 0 || w.last == len(chunk{}) {
		w.records, w.last = append(w.records, chunks.Get().(*chunk)), 0
	}
	w.records[len(w.records)-1][w.last] = r
	w.last++
	w.made++
}

// each calls do for every record.
func (w *worker) each(do func(r *record)) {
	for i, c := range w.records {
		n := len(c)
		if i == len(w.records)-1 {
			n = w.last
		}
		for k := range n {
			do(&c[k])
		}
	}
}

// done gives the memory back.
func (w *worker) done() {
	for _, c := range w.records {
		chunks.Put(c)
	}
	w.records, w.last = nil, 0
}

// windows is into how many parts a load is divided to see whether it has settled.
const windows = 64

// patience is how long the last answers of a load may take.
const patience = 30 * time.Second

// tooMany ends a load early: a record takes 24 bytes, and a client makes no more in a minute.
const tooMany = 50_000_000

// ClockCost is what reading the clock adds to the time of a request that takes none.
func ClockCost() time.Duration {
	costs := make([]float64, 20_000)
	start := time.Now()
	for i := range costs {
		before := time.Since(start)
		costs[i] = float64(time.Since(start) - before)
	}
	return time.Duration(stats.Median(costs))
}

// Run puts the load on. It fails where a client breaks in a way that is no answer to a request, and where ctx ends. Wrong answers
// and failed requests are counted.
func Run(ctx context.Context, p Plan) (*Measured, error) {
	if len(p.Clients) == 0 {
		return nil, errors.New("a load needs a client")
	}
	if p.Every > MostEvery {
		return nil, fmt.Errorf("of %d requests one would be timed, at least one of %d has to be", p.Every, MostEvery)
	}
	loops, err := p.loops()
	if err != nil {
		return nil, err
	}
	ctx, enough := context.WithTimeoutCause(ctx, p.end()+patience, fmt.Errorf("a request had no answer %v after the end of the load", patience))
	defer enough()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Not every client looks at the context.
	ended := context.AfterFunc(ctx, func() {
		for _, c := range p.Clients {
			_ = c.Close() // the cause is told
		}
	})
	defer ended()
	workers := make([]worker, len(p.Clients))
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now().Add(2 * time.Millisecond) // for all to have begun
	for i := range workers {
		w := &workers[i]
		if loops != nil {
			w.looper = loops[i]
		}
		w.Plan, w.client, w.random, w.start = &p, p.Clients[i], rand.New(rand.NewPCG(p.Seed, uint64(i))), start
		wg.Go(func() {
			if err := w.work(ctx, &next); err != nil {
				cancel(err) // the first is the cause
			}
		})
	}
	wg.Wait()
	if ended(); ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	m := p.measured(workers)
	for i := range workers {
		workers[i].done()
	}
	return m, nil
}

// mostInC is how many callers may be in C, each on a thread of its own.
const mostInC = 8

// loops are the clients of a closed load, connected, where they are few and can all put it on by themselves: a caller in Go is put on a processor later
// than one in C would be, and all that is measured then has that added. Elsewhere there are none. Callers of open loads, who are many, wait in Go's poller.
func (p *Plan) loops() ([]protocols.Looper, error) {
	if p.Due != nil || p.Deadline != 0 || len(p.Clients) > mostInC {
		return nil, nil
	}
	loops := make([]protocols.Looper, len(p.Clients))
	for i, c := range p.Clients {
		l, ok := c.(protocols.Looper)
		if !ok {
			return nil, nil
		}
		loops[i] = l
	}
	for i, l := range loops {
		if err := l.OpenLoop(rand.New(rand.NewPCG(p.Seed, uint64(i))).Uint64()); err != nil {
			return nil, err
		}
	}
	return loops, nil
}

// worker is one client's part.
type worker struct {
	*Plan
	client  protocols.Client
	looper  protocols.Looper // which is the client, where that puts the load on by itself
	random  *rand.Rand
	start   time.Time
	records []*chunk
	last    int // records in the last chunk
	made    int // in all
	// Where nothing is recorded, how many requests there were, and in what time.
	asked int64
	took  time.Duration

	checked, wrong int64 // rows
	wrongWhy       error
	failedWhy      error
}

// end is when the load ends, from its beginning.
func (p *Plan) end() time.Duration { return p.WarmUp + p.Duration }

// work does the worker's part, from the load's beginning on.
func (w *worker) work(ctx context.Context, next *atomic.Int64) (err error) {
	clock, err := alarm.NewClock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clock.Close()) }()
	if err := clock.Until(w.start); err != nil {
		return err
	}
	switch {
	case w.looper != nil:
		return w.loop(ctx)
	case w.AskOnly:
		return w.askOnly(ctx)
	case w.Due != nil:
		return w.open(ctx, clock, next)
	}
	return w.closed(ctx)
}

// closed asks again and again.
func (w *worker) closed(ctx context.Context) error {
	for w.made < tooMany {
		others, err := w.untimed(ctx)
		if err != nil {
			if err := w.record(ctx, record{due: int64(time.Since(w.start)), back: int64(time.Since(w.start)), others: others}, err); err != nil {
				return err
			}
			continue
		}
		w.client.Prepare(w.random)
		sent := time.Since(w.start)
		if sent >= w.end() {
			return nil
		}
		err = w.do(ctx, sent)
		back := time.Since(w.start)
		if err := w.record(ctx, record{due: int64(sent), back: int64(back), others: others}, err); err != nil {
			return err
		}
	}
	return errTooMany
}

// loop has the client do what closed or askOnly do.
func (w *worker) loop(ctx context.Context) error {
	l := native.Load{Start: w.start, End: w.end(), Every: max(1, w.Every)}
	if w.AskOnly {
		l.Every = 0
	}
	timed := make([]native.Timed, len(chunk{}))
	for w.made < tooMany {
		n, wrong, err := w.looper.Loop(&l, timed)
		w.asked, w.took = l.Asked, l.Took
		w.wrong, w.wrongWhy = l.Wrong*int64(w.Rows), wrong
		if err != nil && w.AskOnly {
			return err
		}
		for i := range timed[:n] {
			t := &timed[i]
			r := record{due: t.Sent, back: t.Back, others: uint16(t.Others), fate: Answered}
			w.checked += int64(t.Others) * int64(w.Rows)
			if err != nil && i == n-1 {
				if err := w.failed(ctx, r, err); err != nil {
					return err
				}
				break
			}
			w.checked += int64(w.Rows)
			w.add(r)
		}
		if err == nil && n < len(timed) {
			w.checked += w.asked * int64(w.Rows)
			return nil
		}
	}
	return errTooMany
}

// errTooMany ends a load of which nobody could keep the records.
var errTooMany = fmt.Errorf("a client made more than %d requests in one repetition; make it shorter", tooMany)

// untimed makes the requests between two that are timed, up to one that fails: a random number of them, so that nothing that
// comes round in a target, a slot of a ring or a collection of garbage, falls into step with what is timed.
func (w *worker) untimed(ctx context.Context) (answered uint16, err error) {
	if w.Every <= 1 {
		return 0, nil
	}
	for range w.random.IntN(2*w.Every - 1) {
		w.client.Prepare(w.random)
		if err := w.do(ctx, 0); err != nil {
			return answered, err
		}
		w.look()
		answered++
	}
	return answered, nil
}

// look looks at an answer.
func (w *worker) look() {
	w.checked += int64(w.Rows)
	if _, wrong := w.client.Check(); wrong != nil {
		w.wrong += int64(w.Rows)
		if w.wrongWhy == nil {
			w.wrongWhy = wrong
		}
	}
}

// MostEvery bounds how many requests go untimed between two that are timed.
const MostEvery = 1 << 12

// askOnly is closed without a clock for each request: it looks at one after 1, 2, 4 and more of them, up to 64.
func (w *worker) askOnly(ctx context.Context) error {
	for n := 1; ; n = min(2*n, 64) {
		for range n {
			w.client.Prepare(w.random)
			if err := w.client.Do(ctx); err != nil {
				return err
			}
			if _, err := w.client.Check(); err != nil {
				return err
			}
			w.asked++
		}
		if w.took = time.Since(w.start); w.took >= w.end() {
			return nil
		}
	}
}

// open takes one request after the other that is due next.
func (w *worker) open(ctx context.Context, clock *alarm.Clock, next *atomic.Int64) error {
	for w.made < tooMany {
		n := int(next.Add(1)) - 1
		if n >= len(w.Due) {
			return nil
		}
		due := w.Due[n]
		w.client.Prepare(w.random)
		if err := clock.Until(w.start.Add(due)); err != nil {
			return err
		}
		sent := time.Since(w.start)
		r := record{due: int64(due), lateness: uint32(min(sent-due, 4*time.Second))}
		err := w.do(ctx, due)
		r.back = int64(time.Since(w.start))
		if err := w.record(ctx, r, err); err != nil {
			return err
		}
	}
	return errTooMany
}

// do asks, within the deadline that counts from due.
func (w *worker) do(ctx context.Context, due time.Duration) error {
	if w.Deadline == 0 {
		return w.client.Do(ctx)
	}
	ctx, cancel := context.WithDeadline(ctx, w.start.Add(due+w.Deadline))
	defer cancel()
	return w.client.Do(ctx)
}

// record keeps what became of a request, and looks at its answer.
func (w *worker) record(ctx context.Context, r record, err error) error {
	if err != nil {
		return w.failed(ctx, r, err)
	}
	r.fate = Answered
	w.look()
	w.add(r)
	return nil
}

// failed keeps what became of a request that has no answer.
func (w *worker) failed(ctx context.Context, r record, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if r.fate = fateOf(err); r.fate == Failed {
		if w.failedWhy == nil {
			w.failedWhy = err
		}
		// One that fails at once, again and again, would fail a million times a second.
		time.Sleep(time.Millisecond)
	}
	w.add(r)
	return nil
}

// fateOf tells from an error what became of a request.
func fateOf(err error) Fate {
	var overLane *lane.Error
	var overHTTP *protocols.HTTPError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, engine.ErrDeadline):
		return Late
	case errors.Is(err, engine.ErrBusy):
		return Refused
	case errors.As(err, &overLane):
		return fateOfCode(codes.Code(overLane.Code))
	case errors.As(err, &overHTTP):
		switch overHTTP.Status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return Refused
		case http.StatusGatewayTimeout, http.StatusRequestTimeout:
			return Late
		}
		return Failed
	}
	return fateOfCode(status.Code(err))
}

func fateOfCode(c codes.Code) Fate {
	switch c {
	case codes.ResourceExhausted:
		return Refused
	case codes.DeadlineExceeded:
		return Late
	}
	return Failed
}

// measured puts the workers' records together.
func (p *Plan) measured(workers []worker) *Measured {
	m := &Measured{WarmUp: p.WarmUp, Duration: p.Duration, Steady: true, Latency: report.NewHistogram()}
	for i := range workers {
		w := &workers[i]
		m.Counts.Checked += w.checked
		m.Counts.Wrong += w.wrong
		m.Wrong, m.Failed = first(m.Wrong, w.wrongWhy), first(m.Failed, w.failedWhy)
		m.Counts.Answered += w.asked
	}
	if p.AskOnly {
		for i := range workers {
			m.Duration = max(m.Duration, workers[i].took)
		}
		m.Counts.Sent, m.Counts.Rows = m.Counts.Answered, m.Counts.Answered*int64(p.Rows)
		return m
	}
	if p.Settle {
		if at, steady := p.settled(workers); at > p.WarmUp {
			m.WarmUp, m.Duration, m.Steady = at, p.end()-at, steady
		} else {
			m.Steady = steady
		}
	}
	lateness := report.NewHistogram()
	if p.Due != nil {
		m.Service = report.NewHistogram()
	}
	for i := range workers {
		workers[i].each(func(r *record) {
			// A closed load counts what is answered in time: then answers a second are those of a steady load. An open one counts
			// what is due, however long it takes.
			at := time.Duration(r.due)
			if p.Due == nil {
				at = time.Duration(r.back)
			}
			if at < m.WarmUp || at >= p.end() {
				return
			}
			m.Counts.Sent += 1 + int64(r.others)
			m.Counts.Answered += int64(r.others)
			m.Counts.Rows += int64(r.others) * int64(p.Rows)
			lateness.Record(time.Duration(r.lateness))
			switch r.fate {
			case Refused:
				m.Counts.Refused++
			case Late:
				m.Counts.Late++
			case Failed:
				m.Counts.Failed++
			case Answered:
				m.Counts.Answered++
				m.Counts.Rows += int64(p.Rows)
				m.Latency.Record(time.Duration(r.back-r.due) - p.Clock)
				if m.Service != nil {
					m.Service.Record(time.Duration(r.back-r.due-int64(r.lateness)) - p.Clock)
				}
			}
		})
	}
	if p.Due != nil {
		m.SendLateP99 = lateness.Quantile(0.99)
	}
	return m
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// settled is from when on latencies were as they stayed: by windows of the load's time, of which the medians are looked at.
func (p *Plan) settled(workers []worker) (time.Duration, bool) {
	width := max(p.end()/windows, 1)
	times := make([][]float64, windows)
	for i := range workers {
		workers[i].each(func(r *record) {
			if n := time.Duration(r.due) / width; n < windows && r.fate == Answered {
				times[n] = append(times[n], float64(r.back-r.due))
			}
		})
	}
	var series []float64
	var begins []time.Duration
	for n, t := range times {
		if begin := time.Duration(n) * width; begin >= p.WarmUp-width && len(t) > 0 {
			series, begins = append(series, stats.Median(t)), append(begins, begin)
		}
	}
	if len(series) == 0 {
		return 0, false
	}
	cut, steady := stats.WarmUp(series)
	return begins[cut], steady
}
