// Command drain measures what predictions notice when S3 is back after a long time. A spool holds what a daemon has captured while
// there was no way to S3; the daemon goes on answering and capturing at the same rate, and the store, a real versitygw, comes and
// goes: the same requests are measured while it is away and while the backlog leaves. JSON goes to standard output.
//
// Requests come over the lane at random times (Poisson), and each one's time counts from when it was due. The store is on this
// machine, which a region's is not: it takes what of the processors the daemon and the load leave. The p99 is judged by the median of
// what each coming and going says, with the interval that has it.
//
// What is captured in -hours at -rate and -captured would be the backlog; -records bounds it, since how fast it drains does not
// depend on how much there is: segments leave one after the other. -records 0 is all of it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/stats"
	"github.com/picket-ml/picket/bench/testrows"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit/s3"
	"github.com/picket-ml/picket/tensor"
)

// What is promised.
const (
	leastDrained = 10.0 // times the rate at which records are captured
	mostP99      = 1.2  // times that while nothing leaves
)

const bucket = "drain"

// segmentAge is the daemon's default; firstBatch is more than the first batch of a segment takes, and less than all of it.
const (
	segmentAge = 10 * time.Second
	firstBatch = 16 << 10
)

type settings struct {
	rate, captured, hours float64
	records               int
	phase                 time.Duration
	rounds                int
	bandwidth             string
}

// stores are where the store is in turn. That nothing happens between the first two says how far the machine's noise goes.
var stores = [...]string{away, still, back}

const (
	away  = "away"
	still = "still away"
	back  = "back"
)

// phase is one measurement.
type phase struct {
	Store   string  `json:"store"` // one of stores
	Seconds float64 `json:"seconds"`
	Asked   int     `json:"asked"`
	P50US   float64 `json:"p50_us"`
	P99US   float64 `json:"p99_us"`
	// Left is how many records left in it, and OnDisk how many waited at its end.
	Left   float64 `json:"records_left"`
	OnDisk float64 `json:"records_on_disk"`
	// CPU is the daemon's processors' time as a part of one processor.
	CPU float64 `json:"daemon_cpu"`

	took []time.Duration
}

func main() {
	var s settings
	flag.Float64Var(&s.rate, "rate", 2000, "requests a second")
	flag.Float64Var(&s.captured, "captured", 0.1, "the fraction of them that is captured")
	flag.Float64Var(&s.hours, "hours", 72, "how long S3 was away")
	flag.IntVar(&s.records, "records", 3_000_000, "the most records of the backlog; 0 is all of it")
	flag.DurationVar(&s.phase, "for", 4*time.Second, "how long each measurement takes")
	flag.IntVar(&s.rounds, "rounds", 3, "how often the store goes and comes")
	flag.StringVar(&s.bandwidth, "bandwidth", "", "capture.upload.bandwidth; empty is no limit")
	program.Main("bench-drain", s.run)
}

func (s *settings) run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	picketd, err := versus.BuildDaemon(ctx, dir)
	if err != nil {
		return err
	}
	store, err := newStore(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	m := models.Fixture()
	data, err := testrows.New(m.Features)
	if err != nil {
		return err
	}
	defer data.Buffer.Release()
	backlog, err := s.fill(filepath.Join(dir, "state", "capture"), m, data)
	if err != nil {
		return err
	}
	daemon, err := s.start(ctx, dir, picketd, m, store)
	if err != nil {
		return err
	}
	defer daemon.Stop()

	d := &drain{settings: s, dir: dir, daemon: daemon, store: store, metrics: metricsOf(filepath.Join(dir, "oip.sock"))}
	ask := protocols.Ask{Model: m.Name, Rows: &protocols.Rows{Data: data}, Count: 1, Address: filepath.Join(dir, "lane.sock")}
	call, closer, err := versus.Timed(ask.Lane(1))()
	if err != nil {
		return err
	}
	defer closer.Close()
	d.call = call
	phases, err := d.measure(ctx)
	if err != nil {
		return err
	}
	out := report.New()
	out.Results = struct {
		Backlog int     `json:"backlog_records"`
		Hours   float64 `json:"hours_of_outage"`
		Rate    float64 `json:"requests_per_s"`
		Arrival float64 `json:"captured_per_s"`
		Phases  []phase `json:"phases"`
	}{backlog, float64(backlog) / (s.rate * s.captured * 3600), s.rate, s.rate * s.captured, phases}
	s.figures(out, phases)
	return out.Write()
}

func (s *settings) figures(out *report.Report, phases []phase) {
	var all [3][]time.Duration
	var p50, p99 [3][]float64 // of each round
	var left, seconds, cpu [3]float64
	for _, p := range phases {
		i := slices.Index(stores[:], p.Store)
		all[i] = append(all[i], p.took...)
		p50[i], p99[i] = append(p50[i], p.P50US), append(p99[i], p.P99US)
		left[i] += p.Left
		seconds[i] += p.Seconds
		cpu[i] += p.CPU * p.Seconds
	}
	us := func(i int, q float64) float64 { return float64(interleave.Quantile(all[i], q).Nanoseconds()) / 1e3 }
	beside := func(what string, of [3][]float64, i int) (string, float64) {
		ratios := make([]float64, len(of[i]))
		for n := range ratios {
			ratios[n] = of[i][n] / of[0][n]
		}
		e := stats.Estimate(ratios)
		return fmt.Sprintf("%s (%.2f to %.2f with %.0f%% confidence, %d rounds)", what, e.Low, e.High, 100*e.Confidence, e.N), e.Value
	}
	arrival := s.rate * s.captured
	drained := left[2] / seconds[2]
	out.Reach(fmt.Sprintf("records that leave a second while predictions go on (%.0f), by those that are captured (%.0f)", drained, arrival), drained/arrival, leastDrained)
	name, value := beside(fmt.Sprintf("p99 of the lane while they leave (%.0f us of all rounds), by that while they do not (%.0f us), %.0f requests a second", us(2, 0.99), us(0, 0.99), s.rate), p99, 2)
	out.Promise(name, value, "ratio", mostP99)
	name, value = beside("p99 while they still do not, by that while they do not (noise)", p99, 1)
	out.Tell(name, value, "ratio")
	name, value = beside("p50 while they leave, by that while they do not", p50, 2)
	out.Tell(name, value, "ratio")
	out.Tell("hours that the whole backlog of the outage would take", s.hours*arrival/drained, "h")
	out.Tell("daemon's processors' time while they leave", cpu[2]/seconds[2], "processors")
	out.Tell("daemon's processors' time while they do not", cpu[0]/seconds[0], "processors")
	if out.Figures[1].Verdict == "missed" && s.bandwidth == "" {
		out.Notes = map[string]string{"drain": "no limit was set; with capture.upload.bandwidth the backlog leaves more slowly and takes less of the processors"}
	}
}

// newStore starts a store with a bucket, and has this process's environment, which the daemon inherits, say how it is reached.
func newStore(ctx context.Context, dir string) (*s3.Server, error) {
	binary, err := s3.Build()
	if err != nil {
		return nil, err
	}
	store, err := s3.Launch(binary, filepath.Join(dir, "s3"), s3.Settings{})
	if err != nil {
		return nil, fmt.Errorf("starting the store: %w", err)
	}
	client, err := store.Options().S3(ctx)
	if err == nil {
		_, err = client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: aws.String(bucket)})
	}
	for _, pair := range store.Env() {
		name, value, _ := strings.Cut(pair, "=")
		err = errors.Join(err, os.Setenv(name, value))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("preparing the store: %w", err), store.Close())
	}
	return store, nil
}

// fill makes a spool with the backlog, in entries of as many rows as the lane puts together, and returns how many records it has.
func (s *settings) fill(dir string, m models.Model, data tensor.Tensor) (records int, err error) {
	records = int(s.rate * s.captured * s.hours * 3600)
	if s.records > 0 {
		records = min(records, s.records)
	}
	began := time.Now().Add(-time.Duration(s.hours * float64(time.Hour)))
	every := time.Duration(float64(time.Second) / (s.rate * s.captured))
	// In segments as a daemon would have made them, by the clock of the outage: each of as many records as came in segmentAge.
	var clock atomic.Int64
	clock.Store(began.UnixNano())
	to, err := spool.Open(spool.Options{Dir: dir, MaxBytes: 1 << 40, SegmentBytes: firstBatch, FlushAfter: time.Minute, Now: func() time.Time { return time.Unix(0, clock.Load()) }})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	const together = 32
	parts := make([]capture.Part, together)
	outputs := make([]byte, 4*together)
	row := 4 * m.Features
	segment := max(together, int(segmentAge/every))
	for n, held := 0, 0; n < records; n += together {
		here := min(together, records-n)
		for i := range here {
			parts[i] = capture.Part{Number: uint64(n + i), Rows: 1}
		}
		at := row * (n % (models.TestRows - together))
		e := capture.Entry{Record: capture.Record{
			Time: began.Add(time.Duration(n) * every), Model: m.Name, Version: "1", Kind: capture.Sample, Why: capture.ByRate,
			Inputs:  []capture.Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{int64(here), int64(m.Features)}, Data: data.Bytes()[at : at+here*row]}},
			Outputs: []capture.Tensor{{Name: "output", DType: tensor.FP32, Shape: []int64{int64(here), 1}, Data: outputs[:4*here]}},
		}, Parts: parts[:here], Origin: [16]byte{1}, Numbered: true}
		clock.Store(e.Time.UnixNano())
		err = to.Put(&e)
		if held += here; err == nil && (held == here || held >= segment || n+here == records) { // the first of a segment, or the last
			err = to.Flush(context.Background())
		}
		if err != nil {
			return 0, fmt.Errorf("making the backlog: %w", err)
		}
		if held >= segment {
			held = 0
		}
	}
	return records, nil
}

func (s *settings) start(ctx context.Context, dir, picketd string, m models.Model, store *s3.Server) (*versus.Process, error) {
	text := fmt.Sprintf(`unsigned: true
state_dir: %s/state
models: [{name: %s, path: %s}]
model_defaults: {capture: {rate: %g}}
aws: {endpoint: "%s", path_style: true, region: %s}
capture:
  enabled: true
  max_bytes: 1024GiB
  max_age: 0s
  segment_age: %v
  destination: {bucket: %s}
  upload: {bandwidth: "%s"}
  residency:
    destinations: [{bucket: %s}]
    models: [{model: "*", samples: true, otherwise: allow, outputs: allow, ids: allow}]
`, dir, m.Name, m.Dir, s.captured, store.Endpoint, s3.Region, segmentAge, bucket, s.bandwidth, bucket)
	config := filepath.Join(dir, "picketd.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	if err := store.Stop(); err != nil {
		return nil, err
	}
	return versus.Start(ctx, dir, picketd, "--config", config, "--sockets", dir)
}

// drain is one daemon with a backlog.
type drain struct {
	*settings
	dir     string
	daemon  *versus.Process
	store   *s3.Server
	metrics func(ctx context.Context) (map[string]float64, error)
	call    versus.Call
}

const (
	uploaded = "picket_capture_uploaded_records_total"
	onDisk   = "picket_capture_on_disk_records"
)

// measure has the store go and come.
func (d *drain) measure(ctx context.Context) ([]phase, error) {
	var all []phase
	random := rand.New(rand.NewPCG(1, 2))
	if _, err := d.ask(ctx, random, time.Second); err != nil { // what is new to the daemon is not measured
		return nil, err
	}
	for range d.rounds {
		for _, where := range stores {
			if err := d.move(ctx, where, random); err != nil {
				return nil, err
			}
			p, err := d.phase(ctx, where, random)
			if err != nil {
				return nil, err
			}
			all = append(all, *p)
		}
	}
	return all, nil
}

// move stops the store, or starts it and waits until records leave: the daemon does not try at once.
func (d *drain) move(ctx context.Context, where string, random *rand.Rand) error {
	switch where {
	case away:
		return d.store.Stop()
	case still:
		return nil
	}
	before, err := d.metrics(ctx)
	if err != nil {
		return err
	}
	if err := d.store.Resume(); err != nil {
		return err
	}
	if err := hw.GiveWay(d.store.PID()); err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < time.Minute; {
		if _, err := d.ask(ctx, random, 200*time.Millisecond); err != nil {
			return err
		}
		now, err := d.metrics(ctx)
		if err != nil {
			return err
		}
		if now[uploaded] > before[uploaded] {
			return nil
		}
	}
	return errors.New("the store is back, and nothing leaves")
}

func (d *drain) phase(ctx context.Context, where string, random *rand.Rand) (*phase, error) {
	before, err := d.metrics(ctx)
	if err != nil {
		return nil, err
	}
	cpu, err := d.daemon.CPU()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	took, err := d.ask(ctx, random, d.settings.phase)
	if err != nil {
		return nil, err
	}
	seconds := time.Since(began).Seconds()
	spent, err := d.daemon.CPU()
	if err != nil {
		return nil, err
	}
	after, err := d.metrics(ctx)
	if err != nil {
		return nil, err
	}
	if where == back && after[onDisk] < 2*d.rate*d.captured {
		return nil, fmt.Errorf("all of the backlog has left after %.0f s: give -records more", seconds)
	}
	us := func(q float64) float64 { return float64(interleave.Quantile(took, q).Nanoseconds()) / 1e3 }
	return &phase{
		Store: where, Seconds: seconds, Asked: len(took), P50US: us(0.5), P99US: us(0.99), Left: after[uploaded] - before[uploaded],
		OnDisk: after[onDisk], CPU: (spent - cpu).Seconds() / seconds, took: took,
	}, nil
}

// ask asks for as long, at random times. Each time is counted from when the request was due.
func (d *drain) ask(ctx context.Context, random *rand.Rand, long time.Duration) ([]time.Duration, error) {
	clock, err := alarm.NewClock()
	if err != nil {
		return nil, err
	}
	defer clock.Close()
	var took []time.Duration
	began := time.Now()
	for due := time.Duration(0); due < long; due += time.Duration(random.ExpFloat64() / d.rate * float64(time.Second)) {
		if err := clock.Until(began.Add(due)); err != nil {
			return nil, err
		}
		late := max(0, time.Since(began)-due)
		answered, _, err := d.call(ctx, random)
		if err != nil {
			return nil, fmt.Errorf("predicting: %w", err)
		}
		took = append(took, late+answered)
	}
	return took, ctx.Err()
}

// metricsOf reads the daemon's metrics.
func metricsOf(socket string) func(ctx context.Context) (map[string]float64, error) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return func(ctx context.Context) (map[string]float64, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picket/metrics", nil)
		if err != nil {
			return nil, err
		}
		answer, err := client.Do(r)
		if err != nil {
			return nil, fmt.Errorf("reading the daemon's metrics: %w", err)
		}
		defer answer.Body.Close()
		all := map[string]float64{}
		for lines := bufio.NewScanner(io.LimitReader(answer.Body, 16<<20)); lines.Scan(); {
			name, value, ok := strings.Cut(lines.Text(), " ")
			if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
				all[name] = v
			}
		}
		if _, ok := all[uploaded]; !ok {
			return nil, errors.New("the daemon's metrics do not have what leaves")
		}
		return all, nil
	}
}
