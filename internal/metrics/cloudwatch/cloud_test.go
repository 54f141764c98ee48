package cloudwatch

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cloudwatchapi "github.com/aws/aws-sdk-go-v2/service/cloudwatch"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/metrics"
	"github.com/picket-ml/picket/internal/testkit/moto"
	"github.com/picket-ml/picket/tensor"
)

// motoServer is the program; make test-cloud installs it and names it.
var motoServer = flag.String("cloud.moto", "", "the program moto_server: run the tests against it")

func startMoto(t *testing.T) *moto.Server {
	t.Helper()
	if *motoServer == "" {
		t.Skip("make test-cloud runs it: it needs moto, a Python program")
	}
	return moto.Start(t, *motoServer)
}

func clientOf(endpoint string) *cloudwatchapi.Client {
	return cloudwatchapi.New(cloudwatchapi.Options{
		Region: moto.Region, BaseEndpoint: aws.String(endpoint), RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
}

// clock is one that a test moves, and on which nobody waits for long.
type clock struct {
	mu   sync.Mutex
	time time.Time
	wait []waiter
}

// waiter waits for a time.
type waiter struct {
	due time.Time
	ch  chan time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) after(_ context.Context, d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.wait = append(c.wait, waiter{c.time.Add(d), ch})
	return ch
}

// advance moves the clock by a minute, once somebody waits for just that, and wakes
// whoever has waited long enough.
func (c *clock) advance(t *testing.T) {
	t.Helper()
	next := c.now().Add(time.Minute)
	eventually(t, "the next sample is awaited", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return slices.ContainsFunc(c.wait, func(w waiter) bool { return w.due.Equal(next) })
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = next
	c.wait = slices.DeleteFunc(c.wait, func(w waiter) bool {
		if w.due.After(next) {
			return false
		}
		w.ch <- next
		return true
	})
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// source gives what a test says.
type source struct {
	mu       sync.Mutex
	readings []metrics.Reading
}

func (s *source) Sample(time.Time) []metrics.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readings
}

func optionsOf(e *engine.Engine, endpoint string, c *clock, dir string, sources ...metrics.Source) Options {
	return Options{
		Client: clientOf(endpoint), Namespace: "Picket", Fleet: "bank", Device: "host-1", Period: time.Minute,
		Timeout: 2 * time.Minute, // moto takes seconds for a thousand metrics
		Dir:     dir, Limit: 16 << 20, Sampler: metrics.NewSampler(e, sources...), Log: quiet, now: c.now, after: c.after,
	}
}

// What the daemon measures is what CloudWatch says, for the fleet and for the host.
func TestCloudHasWhatWasMeasured(t *testing.T) {
	m := startMoto(t)
	e := enginetest.NewEngine(t, enginetest.Script{}, engine.Options{})
	if _, err := e.Load(t.Context(), "fraud", "fraud", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	model, err := e.Acquire("fraud")
	if err != nil {
		t.Fatal(err)
	}
	const requests = 25
	for range requests {
		r, err := model.NewRequest(2)
		if err != nil {
			t.Fatal(err)
		}
		copy(r.Inputs[0].Bytes(), tensor.AsBytes([]float32{1, 2, 3, 4, 5, 6}))
		if err := r.Predict(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Release()
	}
	model.Release()
	begun := time.Now().Truncate(time.Minute)
	c := &clock{time: begun}
	label := metrics.Labels{Model: "fraud", Version: model.Version(), Feature: "amount"}
	p := New(optionsOf(e, m.Endpoint, c, t.TempDir(), &source{readings: []metrics.Reading{
		metrics.One(metrics.DriftPSI, label, 0.25),
		{Metric: metrics.Score, Labels: label, Values: []float64{0.1, 0.9}, Counts: []float64{30, 10}},
	}}))
	p.Start()
	c.advance(t)
	eventually(t, "the sample is sent", func() bool { return p.Stats().Sent > 0 && p.Stats().Batches == 0 })
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	from, to := begun.Add(-time.Minute), begun.Add(5*time.Minute)
	// moto, unlike CloudWatch, answers with all sets of which the dimensions are a part:
	// that of the host is asked for by itself, and with that of the fleet all is there
	// twice.
	host := [][2]string{{"Fleet", "bank"}, {"Device", "host-1"}, {"Model", "fraud"}}
	for _, want := range []struct {
		metric             string
		dimensions         [][2]string
		count, sum, lo, hi float64
	}{
		{"Requests", host, 2, requests, 0, requests},
		{"Requests", [][2]string{{"Fleet", "bank"}, {"Model", "fraud"}}, 4, 2 * requests, 0, requests},
		{"Rows", host, 2, 2 * requests, 0, 2 * requests},
		{"DriftPSI", [][2]string{{"Fleet", "bank"}, {"Model", "fraud"}, {"Feature", "amount"}}, 2, 0.5, 0.25, 0.25},
		{"Score", host, 80, 24, 0.1, 0.9},
		{"BatchRows", host, requests, 2 * requests, 2, 2},
		{"Up", [][2]string{{"Fleet", "bank"}, {"Device", "host-1"}}, 2, 2, 1, 1},
		{"Latency", host, requests, -1, -1, -1},
	} {
		points := m.Statistics(t, "Picket", want.metric, want.dimensions, from, to)
		var count, sum float64
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, d := range points {
			count, sum = count+d.SampleCount, sum+d.Sum
			lo, hi = min(lo, d.Minimum), max(hi, d.Maximum)
		}
		if count != want.count || want.sum >= 0 && (math.Abs(sum-want.sum) > 1e-6 || lo != want.lo || hi != want.hi) {
			t.Errorf("%s: %v values, a sum of %v, from %v to %v; want %+v", want.metric, count, sum, lo, hi, want)
		}
		if want.metric == "Latency" && (lo <= 0 || hi >= 60e6) {
			t.Errorf("latencies are from %v to %v µs", lo, hi)
		}
	}
}

// An outage of hours loses nothing, also when the daemon is restarted meanwhile: each
// value arrives once, at the time at which it was measured, the newest first.
func TestCloudOutage(t *testing.T) {
	m := startMoto(t)
	e := enginetest.NewEngine(t, enginetest.Script{}, engine.Options{})
	begun := time.Now().Add(-6 * time.Hour).Truncate(time.Minute)
	c := &clock{time: begun}
	dir := t.TempDir()
	s := &source{readings: []metrics.Reading{metrics.One(metrics.Requests, metrics.Labels{Model: "fraud"}, 3)}}
	m.Disconnect()
	const periods = 40
	for range 2 {
		p := New(optionsOf(e, m.Endpoint, c, dir, s))
		p.Start()
		for range periods / 2 {
			before, _ := p.backlog.waiting()
			c.advance(t)
			eventually(t, "the sample is kept", func() bool { n, _ := p.backlog.waiting(); return n > before })
		}
		eventually(t, "a request fails", func() bool { return p.Stats().Failures > 0 })
		if s := p.Stats(); s.Sent != 0 {
			t.Errorf("while nobody answers: %+v", s)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel() // there is no time to send anything
		if err := p.Shutdown(ended); err != nil {
			t.Fatal(err)
		}
		c.wait = nil // nobody waits any more
	}
	files, _ := filepath.Glob(filepath.Join(dir, dirName, "*.gz"))
	if want := periods + 2; len(files) != want { // and the last of each
		t.Errorf("%d batches are on disk, want %d", len(files), want)
	}
	m.Connect()
	p := New(optionsOf(e, m.Endpoint, c, dir))
	p.Start()
	eventually(t, "all is sent", func() bool { return p.Stats().Batches == 0 && p.Stats().Sent > 0 })
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if lost := p.Stats().Lost; lost[lostOld]+lost[lostFull]+lost[lostRefused]+lost[lostDamaged]+lost[lostAhead] != 0 {
		t.Errorf("lost are %v", lost)
	}
	points := m.Statistics(t, "Picket", "Requests", [][2]string{{"Fleet", "bank"}, {"Device", "host-1"}, {"Model", "fraud"}}, begun, begun.Add(2*time.Hour))
	at := map[time.Time]float64{}
	for _, d := range points {
		at[d.Timestamp.UTC()] += d.Sum
	}
	for i := 1; i <= periods; i++ {
		want := 3.0
		if i == periods/2 || i == periods { // and the last sample of a process, of no time at all
			want = 6
		}
		if got := at[begun.Add(time.Duration(i)*time.Minute).UTC()]; got != want {
			t.Errorf("minute %d has the value %v, want %v", i, got, want)
		}
	}
}

// Large batches are compressed, and keep to the limits of a request.
func TestCloudLimits(t *testing.T) {
	m := startMoto(t)
	e := enginetest.NewEngine(t, enginetest.Script{}, engine.Options{})
	c := &clock{time: time.Now().Truncate(time.Minute)}
	s := &source{}
	for i := range 1500 {
		s.readings = append(s.readings, metrics.One(metrics.DriftPSI, metrics.Labels{Model: "fraud", Feature: fmt.Sprint("feature-", i)}, float64(i)))
	}
	p := New(optionsOf(e, m.Endpoint, c, t.TempDir(), s))
	p.Start()
	if err := p.Shutdown(t.Context()); err != nil { // which takes a sample
		t.Fatal(err)
	}
	total := 0
	for _, r := range m.Requests("PutMetricData") {
		total += r.Data
		if r.Data > 1000 || r.Unpacked > 1_000_000 || !r.Compressed && r.Unpacked > 20_000 {
			t.Errorf("a request: %+v", r)
		}
	}
	if total < 1500 || p.Stats().Batches != 0 {
		t.Errorf("%d metrics came, and %d batches wait", total, p.Stats().Batches)
	}
	for _, i := range []int{0, 999, 1000, 1499} {
		points := m.Statistics(t, "Picket", "DriftPSI", [][2]string{{"Fleet", "bank"}, {"Model", "fraud"}, {"Feature", fmt.Sprint("feature-", i)}}, c.now().Add(-time.Minute), c.now().Add(5*time.Minute))
		if len(points) != 1 || points[0].Sum != float64(i) {
			t.Errorf("feature %d has %+v", i, points)
		}
	}
}

// Of a batch of which CloudWatch refuses one metric, the others arrive.
func TestCloudRefusal(t *testing.T) {
	m := startMoto(t)
	e := enginetest.NewEngine(t, enginetest.Script{}, engine.Options{})
	c := &clock{time: time.Now().Truncate(time.Minute)}
	var log strings.Builder
	o := optionsOf(e, m.Endpoint, c, t.TempDir())
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	p := New(o)
	var data []datum
	for i := range 7 {
		data = append(data, datum{Name: fmt.Sprint("M", i), Unit: metrics.Count, Dimensions: [][2]string{{"Fleet", "bank"}}, Values: []float64{float64(i)}})
	}
	data[4].Values[0] = math.NaN() // which expand would have left out
	refused, err := p.put(t.Context(), c.now(), data)
	if err != nil || refused != 1 || !strings.Contains(log.String(), "metric=M4") {
		t.Errorf("%d metrics were refused, and the error is %v, want one refused\n%s", refused, err, log.String())
	}
	for i := range data {
		points := m.Statistics(t, "Picket", data[i].Name, data[i].Dimensions, c.now().Add(-time.Minute), c.now().Add(time.Minute))
		if i == 4 && len(points) != 0 || i != 4 && (len(points) == 0 || points[0].Maximum != float64(i)) {
			t.Errorf("%s has %+v", data[i].Name, points)
		}
	}
}

// Without a network, and without CloudWatch, lines are written all the same.
func TestLinesWithoutCloud(t *testing.T) {
	c := &clock{time: time.Now()}
	path := filepath.Join(t.TempDir(), "emf.log")
	p := New(Options{EMF: path, Namespace: "Picket", Fleet: "f", Device: "d", Period: time.Minute, Sampler: metrics.NewSampler(enginetest.NewEngine(t, enginetest.Script{}, engine.Options{})), Log: quiet, now: c.now, after: c.after})
	p.Start()
	if err := p.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"Up":1`) {
		t.Errorf("the lines are %q: %v", text, err)
	}
	if s := p.Stats(); s.Batches != 0 {
		t.Errorf("%d batches wait for nobody", s.Batches)
	}
}
