package drift

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/metrics"
	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/tensor"
)

// packaged is a Source of a model with a baseline.
type packaged struct {
	enginetest.Source
	statistics []byte
}

func (p packaged) Open(ctx context.Context, url string) (*engine.Artifact, error) {
	a, err := p.Source.Open(ctx, url)
	if err == nil {
		a.Package = &engine.Package{Version: "3", Statistics: p.statistics}
	}
	return a, err
}

// normal are rows of three numbers around 0, the first of them shifted.
func normal(seed uint64, rows int, shift float64) []float32 {
	random := rand.New(rand.NewPCG(seed, 1))
	values := make([]float32, 0, 3*rows)
	for range rows {
		values = append(values, float32(random.NormFloat64()+shift), float32(random.NormFloat64()), float32(random.NormFloat64()))
	}
	return values
}

// statisticsOf is the baseline of such rows, with their sums as scores.
func statisticsOf(t testing.TB, values []float32, columns string) []byte {
	var text strings.Builder
	fmt.Fprintln(&text, columns)
	wide := strings.Count(columns, ",") + 1
	for i := 0; i < len(values); i += 3 {
		row := []float32{values[i], values[i+1], values[i+2], values[i] + values[i+1] + values[i+2]}
		for j := range wide {
			if j > 0 {
				text.WriteByte(',')
			}
			fmt.Fprint(&text, row[j])
		}
		text.WriteByte('\n')
	}
	rows, err := monitor.NewCSV(strings.NewReader(text.String()), true)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := monitor.Baseline(context.Background(), rows, monitor.BaselineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newWatched is an engine with a model "sum" that is watched.
func newWatched(t testing.TB, o Options, statistics []byte) (*Watch, *engine.Engine) {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	w := New(o)
	e := enginetest.NewEngine(t, enginetest.Script{Properties: engine.Properties{Inline: true}}, engine.Options{
		Source: packaged{enginetest.Source{Dir: t.TempDir()}, statistics}, Log: o.Log, Tap: w,
	})
	if _, err := e.Load(t.Context(), "sum", "sum", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	return w, e
}

// predict asks for the sums of rows, so many in a request.
func predict(t testing.TB, e *engine.Engine, values []float32, together int) {
	t.Helper()
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	for len(values) > 0 {
		n := min(together, len(values)/3)
		r, err := m.NewRequest(n)
		if err != nil {
			t.Fatal(err)
		}
		copy(r.Inputs[0].Bytes(), tensor.AsBytes(values[:3*n]))
		if err := r.Predict(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Release()
		values = values[3*n:]
	}
}

func onlyResult(t testing.TB, w *Watch, e *engine.Engine) Result {
	t.Helper()
	all := w.Results(e.List())
	if len(all) != 1 {
		t.Fatalf("there are %d results, want one", len(all))
	}
	return all[0]
}

// A shift of one feature is seen in that feature and in the score, and nowhere else.
func TestDriftIsSeen(t *testing.T) {
	statistics := statisticsOf(t, normal(1, 20_000, 0), "a,b,c,score")
	o := Options{Sample: 1, Window: time.Hour, MinRows: 1000}
	w, e := newWatched(t, o, statistics)
	predict(t, e, normal(2, 999, 0), 1)
	if r := onlyResult(t, w, e); r.Features != nil || r.Rows != 999 {
		t.Errorf("of too few rows the result is %+v", r)
	}
	predict(t, e, normal(3, 2001, 0), 7)
	r := onlyResult(t, w, e)
	if r.Rows != 3000 || r.Model != "sum" || r.Version != "3" {
		t.Errorf("%d rows of %s %s were looked at, want 3000 of sum 3", r.Rows, r.Model, r.Version)
	}
	for _, f := range append(r.Features, r.Scores...) {
		if math.IsNaN(f.PSI) || f.PSI > 0.02 || f.Missing != 0 {
			t.Errorf("%s has not changed, its index is %v and %v are missing", f.Name, f.PSI, f.Missing)
		}
	}

	w, e = newWatched(t, o, statistics)
	shifted := normal(4, 3000, 1)
	for i := 2; i < len(shifted); i += 12 { // a quarter of c
		shifted[i] = float32(math.NaN())
	}
	predict(t, e, shifted, 1)
	r = onlyResult(t, w, e)
	for i, want := range []struct{ low, high, missing float64 }{{0.5, 2, 0}, {0, 0.02, 0}, {0, 0.03, 0.25}} {
		if f := r.Features[i]; math.IsNaN(f.PSI) || f.PSI < want.low || f.PSI > want.high || f.Missing != want.missing || f.Increase != want.missing {
			t.Errorf("feature %s: %+v, want an index from %v to %v and %v missing", f.Name, f, want.low, want.high, want.missing)
		}
	}
	if s := r.Scores[0]; math.IsNaN(s.PSI) || s.PSI < 0.1 || s.Missing != 0.25 {
		t.Errorf("the score: %+v", s)
	}
}

// A window forgets.
func TestWindow(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1, now: func() time.Time { return now }}, statisticsOf(t, normal(1, 5000, 0), "a,b,c"))
	for _, step := range []struct {
		after time.Duration
		rows  int
		want  uint64
	}{
		{0, 10, 10}, {29 * time.Minute, 10, 20}, {time.Minute, 5, 25}, {30 * time.Minute, 0, 5}, {30 * time.Minute, 1, 1},
		{24 * time.Hour, 2, 2}, {-time.Hour, 3, 3}, // the clock was put back
	} {
		now = now.Add(step.after)
		predict(t, e, normal(2, step.rows, 0), 1)
		if r := onlyResult(t, w, e); r.Rows != step.want {
			t.Errorf("after %v more there are %d rows in the window, want %d", step.after, r.Rows, step.want)
		}
	}
}

// Of a sample of a tenth about a tenth is looked at; of large requests some rows.
func TestSample(t *testing.T) {
	w, e := newWatched(t, Options{Sample: 0.1, Window: time.Hour, MinRows: 1}, nil)
	predict(t, e, normal(2, 20_000, 0), 1)
	var count uint64
	for _, n := range onlyResult(t, w, e).Answers.Counts {
		count += n
	}
	if count < 1700 || count > 2300 {
		t.Errorf("%d of 20000 requests were looked at, want about 2000", count)
	}
	w, e = newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1}, nil)
	predict(t, e, normal(2, 1000, 0), 1000)
	if r := onlyResult(t, w, e); r.Rows != 23 { // 8 and 1000/64
		t.Errorf("%d rows of a request of 1000 were looked at, want 23", r.Rows)
	}
	off, e := newWatched(t, Options{Sample: 0, Window: time.Hour, MinRows: 1}, nil)
	predict(t, e, normal(2, 10, 0), 1)
	if r := off.Results(e.List()); len(r) != 0 {
		t.Errorf("with nothing to be looked at there is %+v", r)
	}
}

// What does not fit the model is not compared, and the model serves.
func TestForeignBaselines(t *testing.T) {
	for name, statistics := range map[string][]byte{
		"too few features": statisticsOf(t, normal(1, 100, 0), "a,b"),
		"no statistics":    []byte("{}"),
		"none":             nil,
	} {
		w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1}, statistics)
		predict(t, e, normal(2, 10, 0), 1)
		if r := onlyResult(t, w, e); len(r.Features) > 0 || r.Rows != 10 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// counter is another Tap.
type counter struct{ ended, wanted atomic.Int64 }

func (c *counter) Model(engine.Description) engine.ModelTap { return c }
func (c *counter) Wants() bool                              { c.wanted.Add(1); return true }
func (c *counter) Ended(*engine.Request, error)             { c.ended.Add(1) }

// The Tap behind sees every request, whatever is sampled.
func TestNextTap(t *testing.T) {
	for _, sample := range []float64{0, 0.01, 1} {
		next := &counter{}
		_, e := newWatched(t, Options{Sample: sample, Window: time.Hour, MinRows: 1, Next: next}, nil)
		predict(t, e, normal(2, 100, 0), 1)
		m, err := e.Acquire("sum")
		if err != nil {
			t.Fatal(err)
		}
		tapped := m.Tapped()
		m.Release()
		if next.ended.Load() != 100 || !tapped {
			t.Errorf("with a sample of %v the tap behind saw %d of 100 requests, and is asked: %v", sample, next.ended.Load(), tapped)
		}
	}
}

// What the source gives is what happened since, and Prometheus gets all of it.
func TestSourceAndCollector(t *testing.T) {
	w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 100}, statisticsOf(t, normal(1, 5000, 0), "a,b,c,score"))
	s := NewSource(w, e.List, nil)
	predict(t, e, normal(2, 300, 0), 1)
	for _, want := range []float64{300, 0, 200} {
		if want == 200 {
			predict(t, e, normal(3, 200, 0), 1)
		}
		var answers float64
		names := map[string]int{}
		for _, r := range s.Sample(time.Now()) {
			names[r.Metric.Name]++
			if r.Metric == metrics.Score {
				for _, n := range r.Counts {
					answers += n
				}
			}
			if r.Model != "sum" || r.Version != "3" {
				t.Errorf("%s is of %q %q", r.Metric.Name, r.Model, r.Version)
			}
		}
		if answers != want {
			t.Errorf("%v answers in a sample, want %v", answers, want)
		}
		if names["DriftPSI"] != 3 || names["MissingRate"] != 3 || names["MaxDriftPSI"] != 1 || names["ScorePSI"] != 1 || names["MaxMissingIncrease"] != 1 {
			t.Errorf("the sample has %v", names)
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewCollector(w, e.List))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for _, f := range families {
		found[f.GetName()] = len(f.GetMetric())
		if f.GetName() == "picket_model_score" && f.GetMetric()[0].GetHistogram().GetSampleCount() != 500 {
			t.Errorf("the histogram has %d answers, want 500", f.GetMetric()[0].GetHistogram().GetSampleCount())
		}
	}
	if found["picket_model_drift_psi"] != 3 || found["picket_model_missing_ratio"] != 3 || found["picket_model_score_psi"] != 1 || found["picket_model_score"] != 1 {
		t.Errorf("Prometheus gets %v", found)
	}
}

// Answers that are too few to leave are held back until there are more of them, and are
// lost never.
func TestFewAnswersAreHeldBack(t *testing.T) {
	hide := func(counts []uint64) (withheld uint64) {
		for i, n := range counts {
			if n < 5 {
				withheld += n
				counts[i] = 0
			}
		}
		return withheld
	}
	w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1000}, nil)
	s := NewSource(w, e.List, hide)
	for step, want := range []float64{0, 0, 6, 0} {
		if step < 3 {
			predict(t, e, []float32{0.5, 0, 0, 0.5, 0, 0}, 1)
		}
		var got float64
		for _, r := range s.Sample(time.Now()) {
			for _, n := range r.Counts {
				got += n
			}
		}
		if got != want {
			t.Errorf("sample %d has %v answers, want %v", step, got, want)
		}
	}
}

// Many threads at once: nothing is waited for, and no row is counted twice.
func TestHammer(t *testing.T) {
	w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1}, statisticsOf(t, normal(1, 1000, 0), "a,b,c"))
	const each, threads = 2000, 4
	var all sync.WaitGroup
	for i := range threads {
		all.Go(func() { predict(t, e, normal(uint64(i), each, 0), 1) })
	}
	stop := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				w.Results(e.List())
			}
		}
	})
	all.Wait()
	close(stop)
	reading.Wait()
	r := onlyResult(t, w, e)
	if r.Rows == 0 || r.Rows > each*threads {
		t.Errorf("%d rows of %d were looked at", r.Rows, each*threads)
	}
	for _, f := range w.models["sum"].features {
		if f.present.sum() != r.Rows {
			t.Errorf("%s has %d values, there were %d rows", f.name, f.present.sum(), r.Rows)
		}
	}
}

func TestLookDoesNotAllocate(t *testing.T) {
	w, e := newWatched(t, Options{Sample: 1, Window: time.Hour, MinRows: 1}, statisticsOf(t, normal(1, 1000, 0), "a,b,c,score"))
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(8)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	watched := w.models["sum"]
	if n := testing.AllocsPerRun(100, func() { watched.Ended(r, nil) }); n != 0 {
		t.Errorf("looking at a request allocates %v times", n)
	}
}

// BenchmarkLook is what a request of one row of 30 features costs that is looked at.
func BenchmarkLook(b *testing.B) {
	var features []*feature
	random := rand.New(rand.NewPCG(1, 1))
	for range 30 {
		f := &feature{bins: &monitor.Bins{Edges: []float64{-1.3, -0.8, -0.5, -0.25, 0, 0.25, 0.5, 0.8, 1.3}, Shares: make([]float64, 10)}}
		f.counts = [2][]uint64{make([]uint64, 10), make([]uint64, 10)}
		features = append(features, f)
	}
	values := make([]float64, 1024)
	for i := range values {
		values[i] = random.NormFloat64()
	}
	for i := 0; b.Loop(); i++ {
		for j, f := range features {
			f.add(values[(i*30+j)%len(values)])
		}
	}
}
