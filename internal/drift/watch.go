package drift

import (
	"cmp"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/monitor"
)

// Options is what a Watch is made of.
type Options struct {
	// Sample is the fraction of requests that is looked at.
	Sample float64
	// Window is the time that is compared: results are of its last half to whole.
	Window time.Duration
	// MinRows is from how many rows on there is a result.
	MinRows uint64
	// Next is another Tap, which is shown every request; nil for none.
	Next engine.Tap
	Log  *slog.Logger

	now func() time.Time // nil for time.Now
}

const (
	// maxWatched is how many values a row may have to be compared.
	maxWatched = 1024
	// Of a request so many rows are looked at, and one in rowsFor of the others, spread
	// over it: a batch would otherwise cost more to count than to predict.
	fewRows = 8
	rowsFor = 64
	// scoreBins is how finely answers are counted.
	scoreBins = 50
)

// Watch looks at what models are asked. Its methods may be called by many goroutines
// at once.
type Watch struct {
	o         Options
	threshold uint64 // a random number of 32 bits below it takes a request

	mu     sync.Mutex
	models map[string]*model
}

// New makes a Watch.
func New(o Options) *Watch {
	if o.now == nil {
		o.now = time.Now
	}
	return &Watch{o: o, threshold: uint64(math.Round(min(max(o.Sample, 0), 1) * (1 << 32))), models: map[string]*model{}}
}

// Model implements engine.Tap.
func (w *Watch) Model(d engine.Description) engine.ModelTap {
	var next engine.ModelTap
	if w.o.Next != nil {
		next = w.o.Next.Model(d)
	}
	m := w.newModel(d, next)
	w.mu.Lock()
	defer w.mu.Unlock()
	if m == nil {
		delete(w.models, d.Name)
		return next
	}
	w.models[d.Name] = m
	return m
}

// newModel is nil for a model of which there is nothing to look at.
func (w *Watch) newModel(d engine.Description, next engine.ModelTap) *model {
	if w.threshold == 0 {
		return nil
	}
	outputs, answers := readers(d.Signature.Outputs)
	if answers == 0 {
		return nil
	}
	m := &model{watch: w, next: next, generation: d.Generation, version: d.Version, outputs: outputs}
	low, high := 0.0, 1.0
	if s := w.baselineOf(d); s != nil {
		m.features, m.scores = compared(s)
		inputs, values := readers(d.Signature.Inputs)
		switch {
		case values != len(m.features):
			w.o.Log.Warn("what a model is asked is not compared with its baseline: they have not the same number of features", "model", d.Name, "values_of_a_row", values, "features_of_the_baseline", len(m.features))
			m.features, m.scores = nil, nil
		case len(m.scores) > 0 && len(m.scores) != answers:
			w.o.Log.Warn("what a model answers is not compared with its baseline: they have not the same number of scores", "model", d.Name, "answers_to_a_row", answers, "scores_of_the_baseline", len(m.scores))
			m.scores = nil
			fallthrough
		default:
			m.inputs = inputs
			if len(m.scores) > 0 && m.scores[0].greatest > m.scores[0].smallest {
				low, high = m.scores[0].smallest, m.scores[0].greatest
			}
		}
	}
	m.answers = newAnswers(low, high)
	m.turned = w.o.now()
	return m
}

// baselineOf is nil for a model without one.
func (w *Watch) baselineOf(d engine.Description) *monitor.Statistics {
	if d.Package == nil || d.Package.Statistics == nil {
		return nil
	}
	s, err := monitor.ParseStatistics(d.Package.Statistics)
	if err != nil {
		w.o.Log.Warn("what a model is asked is not compared with its baseline", "model", d.Name, "error", err)
		return nil
	}
	if len(s.Features) > maxWatched {
		w.o.Log.Warn("what a model is asked is not compared with its baseline, which has too many features", "model", d.Name, "features", len(s.Features), "at_most", maxWatched)
		return nil
	}
	return s
}

// compared are the features and the scores of a baseline, in its order.
func compared(s *monitor.Statistics) (features, scores []*feature) {
	for i := range s.Features {
		f := newFeature(&s.Features[i])
		if monitor.IsScore(f.name) {
			scores = append(scores, f)
		} else {
			features = append(features, f)
		}
	}
	return features, scores
}

// model is what is known of one that is loaded.
type model struct {
	watch      *Watch
	next       engine.ModelTap // nil for none
	generation uint64
	version    string
	inputs     []reader // none where nothing is compared
	outputs    []reader

	mu       sync.Mutex // never waited for by Ended
	features []*feature
	scores   []*feature
	answers  *answers
	turned   time.Time // when the half of the window began
	rows     halves
}

// halves are counts of the half of a window that is full and of that which is filled.
type halves [2]uint64

func (h *halves) turn()       { h[0], h[1] = h[1], 0 }
func (h *halves) sum() uint64 { return h[0] + h[1] }

// Wants implements engine.ModelTap.
func (m *model) Wants() bool { return m.next != nil && m.next.Wants() }

// Ended implements engine.ModelTap.
func (m *model) Ended(r *engine.Request, err error) {
	if err == nil && (m.watch.threshold > math.MaxUint32 || uint64(rand.Uint32()) < m.watch.threshold) {
		m.look(r)
	}
	if m.next != nil {
		m.next.Ended(r, err)
	}
}

// look counts the values of a request, unless another thread is counting.
func (m *model) look(r *engine.Request) {
	if !m.mu.TryLock() {
		return
	}
	defer m.mu.Unlock()
	m.turn(m.watch.o.now())
	most := fewRows + r.Rows/rowsFor
	step := (r.Rows + most - 1) / most
	for row := 0; row < r.Rows; row += step {
		m.rows[1]++
		column := 0
		for i := range m.inputs {
			t := &m.inputs[i]
			for j := range t.width {
				m.features[column].add(t.read(r.Inputs[i], row*t.width+j))
				column++
			}
		}
		column = 0
		for i := range m.outputs {
			t := &m.outputs[i]
			for j := range t.width {
				x := t.read(r.Outputs[i], row*t.width+j)
				if column == 0 {
					m.answers.add(x)
				}
				if column < len(m.scores) {
					m.scores[column].add(x)
				}
				column++
			}
		}
	}
}

// turn begins a new half of the window when the last is over.
func (m *model) turn(now time.Time) {
	half := m.watch.o.Window / 2
	age := now.Sub(m.turned)
	if age >= 0 && age < half {
		return
	}
	// After a pause, or a jump of the clock, nothing is as it was.
	again := 1
	if age < 0 || age >= 2*half {
		again = 2
	}
	for range again {
		m.rows.turn()
		for _, list := range [][]*feature{m.features, m.scores} {
			for _, f := range list {
				f.turn()
			}
		}
	}
	m.turned = now
}

// feature counts the values of one.
type feature struct {
	name               string
	bins               *monitor.Bins // nil where the baseline does not say how values are distributed
	baselineMissing    float64
	smallest, greatest float64
	counts             [2][]uint64
	missing            halves
	present            halves
}

func newFeature(f *monitor.Feature) *feature {
	c := &feature{name: f.Name}
	if n := f.Numerical; n != nil {
		c.bins = monitor.BinsOf(f)
		c.smallest, c.greatest = n.Min, n.Max
		if all := n.Common.Present + n.Common.Missing; all > 0 {
			c.baselineMissing = n.Common.Missing / all
		}
	}
	if c.bins != nil {
		c.counts = [2][]uint64{make([]uint64, len(c.bins.Shares)), make([]uint64, len(c.bins.Shares))}
	}
	return c
}

func (f *feature) add(x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		f.missing[1]++
		return
	}
	f.present[1]++
	if f.bins != nil {
		f.counts[1][f.bins.Index(x)]++
	}
}

func (f *feature) turn() {
	f.missing.turn()
	f.present.turn()
	f.counts[0], f.counts[1] = f.counts[1], f.counts[0]
	clear(f.counts[1])
}

// result is what there is to say of it.
func (f *feature) result(minRows uint64) Feature {
	r := Feature{Name: f.name, PSI: math.NaN()}
	missing, present := f.missing.sum(), f.present.sum()
	if all := missing + present; all > 0 {
		r.Missing = float64(missing) / float64(all)
		r.Increase = r.Missing - f.baselineMissing
	}
	if f.bins != nil && present >= minRows {
		counts := make([]uint64, len(f.bins.Shares))
		for i := range counts {
			counts[i] = f.counts[0][i] + f.counts[1][i]
		}
		r.PSI = f.bins.PSI(counts)
	}
	return r
}

// Result is what there is to say of a model.
type Result struct {
	Model, Version string
	// Rows is how many rows of the window were looked at.
	Rows uint64
	// Features and Scores are those of the baseline, Features only where there are rows
	// enough.
	Features, Scores []Feature
	// Answers are those to all rows that were looked at since the model was loaded.
	Answers Answers
}

// Feature is one feature, or score, in the window. PSI is NaN where it is not known.
type Feature struct {
	Name string
	PSI  float64
	// Missing is the part of values that are missing, Increase how much more than in the
	// baseline that is.
	Missing, Increase float64
}

// Results are those of the models that are loaded, by name.
func (w *Watch) Results(loaded []engine.Description) []Result {
	w.mu.Lock()
	var all []*model
	var results []Result
	kept := make(map[string]*model, len(w.models))
	for i := range loaded {
		d := &loaded[i]
		if m := w.models[d.Name]; m != nil && m.generation >= d.Generation { // one that is just being published is newer
			kept[d.Name] = m
			all, results = append(all, m), append(results, Result{Model: d.Name, Version: m.version})
		}
	}
	w.forget(kept)
	w.mu.Unlock()
	for i, m := range all {
		m.result(&results[i])
	}
	slices.SortFunc(results, func(a, b Result) int { return cmp.Compare(a.Model, b.Model) })
	return results
}

// forget drops models that were unloaded. One that is loaded right now may not be
// listed yet, so it has time until it is looked at twice.
func (w *Watch) forget(kept map[string]*model) {
	for name, m := range w.models {
		if kept[name] == nil && w.o.now().Sub(m.lastTurn()) > 2*w.o.Window {
			delete(w.models, name)
		}
	}
}

// lastTurn is when the half of the window began that is filled.
func (m *model) lastTurn() time.Time {
	m.mu.Lock() // the last requests of a model may end while it is unloaded
	defer m.mu.Unlock()
	return m.turned
}

func (m *model) result(r *Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(m.watch.o.now())
	r.Rows = m.rows.sum()
	r.Answers = m.answers.copy()
	if r.Rows < m.watch.o.MinRows {
		return
	}
	for _, f := range m.features {
		r.Features = append(r.Features, f.result(m.watch.o.MinRows))
	}
	for _, f := range m.scores {
		r.Scores = append(r.Scores, f.result(m.watch.o.MinRows))
	}
}
