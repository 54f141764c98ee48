// Package load sends simulated transactions to the fraud application and measures how long the answers take.
//
// In the closed loop, a number of clients send one transaction after the other: that finds how many a second there can be. In the open loop, transactions come at times that do
// not depend on the answers, as customers do: latency counts from when a transaction should have been sent, so one that had to wait for a slow answer before it is late in
// the figures too (what is known as coordinated omission does not happen).
package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/scoring"
)

// Options say what is sent.
type Options struct {
	// URL is the front-end's: https://127.0.0.1:8443.
	URL string
	// Key is the client's.
	Key string
	// TLS is how the front-end is trusted.
	TLS *tls.Config
	// Clients is how many transactions are under way at most.
	Clients int
	// Rate is how many transactions come a second, in the open loop; 0 is the closed loop.
	Rate float64
	// For is how long it is measured, after Warm during which it is not.
	For, Warm time.Duration
}

// Result is what came of it.
type Result struct {
	Answered  int64         `json:"answered"`
	PerSecond float64       `json:"per_second"`
	Latency   api.Quantiles `json:"latency_us"`
	// Application is how long the application server had the transactions, by its own clock, and Scoring how long it waited for the scores.
	Application api.Quantiles `json:"application_us"`
	Scoring     api.Quantiles `json:"scoring_us"`
	// ScoringShare is the part of the latency that was spent waiting for scores, of the transactions for which one was asked for: not those that the breaker or the queue kept from it. Nor are these in Scoring.
	ScoringShare float64 `json:"scoring_share"`
	// MeanLatency is the mean of all transactions, and MeanScoring of those of Scoring.
	MeanLatency float64 `json:"mean_latency_us"`
	MeanScoring float64 `json:"mean_scoring_us"`
	// Verdicts counts answers by verdict, and ByRules those of the fail-safe by cause.
	Verdicts map[string]int64 `json:"verdicts"`
	ByRules  map[string]int64 `json:"by_rules"`
	// Failed counts what was no decision: by status, or "connection".
	Failed map[string]int64 `json:"failed"`
	// Late is how many transactions of the open loop were never sent, because the application fell so far behind that the measurement was over.
	Late int64 `json:"late"`
}

// Body is a transaction as it is sent.
type Body struct {
	ID   string
	JSON []byte
}

// Bodies makes n transactions of a simulation, with ids that begin with prefix, before anything is measured.
func Bodies(s *generate.Simulation, prefix string, n int) ([]Body, error) {
	list := make([]Body, 0, n)
	for len(list) < n {
		today := s.Day()
		for i := range today {
			if len(list) == n {
				break
			}
			id := prefix + strconv.Itoa(len(list))
			text, err := json.Marshal(today[i].API(id))
			if err != nil {
				return nil, fmt.Errorf("writing a transaction: %w", err)
			}
			list = append(list, Body{id, text})
		}
	}
	return list, nil
}

// recorder is one client's measurements, so that clients do not meet at a lock.
type recorder struct {
	latency, application, scoring *hdrhistogram.Histogram
	latencyAll                    time.Duration // of all
	tookAll, scoredAll            time.Duration // of those for which a score was asked for
	answered, late                int64
	verdicts, byRules, failed     map[string]int64
}

// longest is the longest latency that is told apart, in microseconds.
const longest = 60_000_000

func newRecorder() *recorder {
	h := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest, 3) }
	return &recorder{latency: h(), application: h(), scoring: h(), verdicts: map[string]int64{}, byRules: map[string]int64{}, failed: map[string]int64{}}
}

// answer is the part of api.Decision that is looked at.
type answer struct {
	Verdict string `json:"verdict"`
	Source  string `json:"source"`
	Cause   string `json:"cause"`
	Took    int64  `json:"score_us"`
}

// Run sends the transactions, each once, until the time is over or none is left, which is an error.
func Run(ctx context.Context, o Options, list []Body) (*Result, error) {
	transport := &http.Transport{TLSClientConfig: o.TLS, MaxIdleConns: o.Clients, MaxIdleConnsPerHost: o.Clients, MaxConnsPerHost: o.Clients, DisableCompression: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	began := time.Now()
	from, until := began.Add(o.Warm), began.Add(o.Warm+o.For)
	schedule := arrivals(o.Rate, began, len(list))
	var next atomic.Int64
	var empty atomic.Bool
	recorders := make([]*recorder, o.Clients)
	var group sync.WaitGroup
	for i := range recorders {
		r := newRecorder()
		recorders[i] = r
		group.Go(func() {
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(list) {
					empty.Store(true)
					return
				}
				due := time.Now()
				if schedule != nil {
					due = schedule[n]
				}
				if !due.Before(until) {
					return
				}
				if schedule != nil {
					if time.Now().After(until.Add(time.Second)) {
						r.late++
						continue
					}
					time.Sleep(time.Until(due))
				}
				r.send(ctx, client, &o, list[n], due, !due.Before(from))
			}
		})
	}
	group.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if empty.Load() {
		return nil, fmt.Errorf("loading: %d transactions were not enough for the time", len(list))
	}
	return sum(recorders, o.For), nil
}

// arrivals are the times of a Poisson process, or nil for the closed loop.
func arrivals(rate float64, began time.Time, n int) []time.Time {
	if rate <= 0 {
		return nil
	}
	random := rand.New(rand.NewPCG(1, 2))
	list := make([]time.Time, n)
	at := 0.0
	for i := range list {
		at += random.ExpFloat64() / rate
		list[i] = began.Add(time.Duration(at * float64(time.Second)))
	}
	return list
}

// send sends one transaction and records what came of it.
func (r *recorder) send(ctx context.Context, client *http.Client, o *Options, one Body, due time.Time, counts bool) {
	status, header, text, err := Post(ctx, client, o.URL+api.PathTransactions, o.Key, one.JSON)
	took := time.Since(due)
	if !counts {
		return
	}
	if err != nil {
		r.failed["connection"]++
		return
	}
	var a answer
	if status != http.StatusOK || json.Unmarshal(text, &a) != nil {
		r.failed[strconv.Itoa(status)]++
		return
	}
	r.answered++
	r.verdicts[a.Verdict]++
	if a.Source == string(api.ByRules) {
		r.byRules[a.Cause]++
	}
	application, _ := strconv.ParseInt(header.Get(api.HeaderLatency), 10, 64) // 0 where it is not there
	r.latencyAll += took
	// Within the range, so that there is no error.
	_ = r.latency.RecordValue(within(took.Microseconds()))
	_ = r.application.RecordValue(within(application))
	if a.Cause == scoring.Open || a.Cause == scoring.Busy {
		return
	}
	r.tookAll += took
	r.scoredAll += time.Duration(a.Took) * time.Microsecond
	_ = r.scoring.RecordValue(within(a.Took))
}

func within(us int64) int64 { return min(max(1, us), longest) }

// Post sends one JSON body and reads all of the answer.
func Post(ctx context.Context, client *http.Client, url, key string, body []byte) (int, http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	reply, err := client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	err = errors.Join(err, reply.Body.Close())
	return reply.StatusCode, reply.Header, text, err
}

func sum(recorders []*recorder, length time.Duration) *Result {
	all := newRecorder()
	for _, r := range recorders {
		all.latency.Merge(r.latency)
		all.application.Merge(r.application)
		all.scoring.Merge(r.scoring)
		all.answered, all.late = all.answered+r.answered, all.late+r.late
		all.latencyAll += r.latencyAll
		all.tookAll, all.scoredAll = all.tookAll+r.tookAll, all.scoredAll+r.scoredAll
		for _, m := range [][2]map[string]int64{{all.verdicts, r.verdicts}, {all.byRules, r.byRules}, {all.failed, r.failed}} {
			for k, v := range m[1] {
				m[0][k] += v
			}
		}
	}
	q := func(h *hdrhistogram.Histogram) api.Quantiles {
		return api.Quantiles{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
	}
	result := &Result{
		Answered: all.answered, PerSecond: float64(all.answered) / length.Seconds(), Latency: q(all.latency), Application: q(all.application), Scoring: q(all.scoring),
		Verdicts: all.verdicts, ByRules: all.byRules, Failed: all.failed, Late: all.late,
	}
	if all.answered > 0 {
		result.MeanLatency = all.latencyAll.Seconds() * 1e6 / float64(all.answered)
	}
	if all.tookAll > 0 {
		result.ScoringShare = float64(all.scoredAll) / float64(all.tookAll)
		result.MeanScoring = all.scoredAll.Seconds() * 1e6 / float64(all.scoring.TotalCount())
	}
	return result
}
