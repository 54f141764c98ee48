package capture_test

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

var inline = engine.Properties{Inline: true}

func TestTapChooses(t *testing.T) {
	const asked = 400
	for _, c := range []struct {
		what     string
		sampling capture.Sampling
		want     func(n int, r capture.Record) bool // of the record of inference n
		low      int
		high     int
	}{
		{"nothing", capture.Sampling{}, nil, 0, 0},
		{"everything", capture.Sampling{Rate: 1}, func(_ int, r capture.Record) bool { return r.Why == capture.ByRate }, asked, asked},
		{"a half", capture.Sampling{Rate: 0.5}, func(_ int, r capture.Record) bool { return r.Why == capture.ByRate }, asked / 4, 3 * asked / 4},
		{"every tenth", capture.Sampling{Every: 10}, func(n int, r capture.Record) bool { return n%10 == 9 && r.Why == capture.ByCount }, asked / 10, asked / 10},
		{"a band", capture.Sampling{Banded: true, Low: 10, High: 19}, func(n int, r capture.Record) bool { return n >= 10 && n <= 19 && r.Why == capture.ByOutput }, 10, 10},
		{"an output that is not there", capture.Sampling{Banded: true, Low: 0, High: 1e9, Output: "other"}, nil, 0, 0},
		{"errors", capture.Sampling{Errors: true}, func(n int, r capture.Record) bool {
			return n >= asked && r.Why == capture.ByError && r.Code == 13 && strings.Contains(r.Error, errModel.Error()) && len(r.Outputs) == 0
		}, 1, 1},
		{"two reasons", capture.Sampling{Every: 1, Rate: 1}, func(_ int, r capture.Record) bool { return r.Why == capture.ByCount|capture.ByRate }, asked, asked},
	} {
		t.Run(c.what, func(t *testing.T) {
			var failing bool
			tap := capture.NewTap(capture.TapOptions{Models: map[string]capture.Sampling{"sum": c.sampling}, Code: func(error) uint32 { return 13 }})
			e := newEngine(t, tap, enginetest.Script{Properties: inline, OnRun: func(int) error {
				if failing {
					return errModel
				}
				return nil
			}})
			k := &kept{}
			tap.Start(k)
			before := time.Now()
			for n := range asked {
				if _, err := predict(t, e, fmt.Sprint(n), float32(n), 0, 0); err != nil {
					t.Fatal(err)
				}
			}
			failing = true
			if _, err := predict(t, e, fmt.Sprint(asked), 7, 8, 9); err == nil {
				t.Fatal("the model has not failed")
			}
			tap.Close()
			if len(k.records) < c.low || len(k.records) > c.high {
				t.Fatalf("%d records, want %d to %d", len(k.records), c.low, c.high)
			}
			for _, r := range k.records {
				var n int
				if _, err := fmt.Sscan(r.Inference, &n); err != nil {
					t.Fatal(err)
				}
				in, _ := elements(r.Inputs[0].Data)
				if !c.want(n, r) || r.Model != "sum" || r.Rows != 1 || r.Kind != capture.Sample || n < asked && in[0] != float32(n) ||
					r.Time.Before(before.Add(-time.Second)) || r.Time.After(time.Now().Add(time.Second)) {
					t.Errorf("record of %d: %+v", n, r)
				}
			}
			if s := tap.Stats(); s.Taken != uint64(len(k.records)) || s.DroppedRing+s.DroppedBytes+s.DroppedClosed != 0 || s.WaitingBytes != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func elements(b []byte) ([]float32, error) {
	out := make([]float32, len(b)/4)
	copy(tensor.AsBytes(out), b)
	return out, nil
}

// A change of the sampling holds for a model that is loaded.
func TestSamplingChanges(t *testing.T) {
	tap := capture.NewTap(capture.TapOptions{})
	e := newEngine(t, tap, enginetest.Script{Properties: inline})
	k := &kept{}
	tap.Start(k)
	ask := func() {
		if _, err := predict(t, e, "", 1, 2, 3); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	tap.SetSampling(capture.Sampling{}, map[string]capture.Sampling{"sum": {Rate: 1}})
	ask()
	tap.SetSampling(capture.Sampling{Rate: 1}, map[string]capture.Sampling{"sum": {}})
	ask()
	tap.SetSampling(capture.Sampling{Rate: 1}, nil)
	ask()
	tap.Close()
	if len(k.records) != 2 {
		t.Errorf("%d records, want 2", len(k.records))
	}
}

// Nobody writes, and predictions go on: what there is no room for is counted, and
// nothing is kept beyond the limits.
func TestTapNeverWaits(t *testing.T) {
	for what, o := range map[string]capture.TapOptions{"slots": {Ring: 16}, "bytes": {RingBytes: 16 * 16}} {
		t.Run(what, func(t *testing.T) {
			o.Default = capture.Sampling{Rate: 1}
			tap := capture.NewTap(o)
			e := newEngine(t, tap, enginetest.Script{Properties: inline})
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 100 {
						if _, err := predict(t, e, "x", 1, 2, 3); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			before := tap.Stats()
			if dropped := before.DroppedRing + before.DroppedBytes; dropped != 400-16 || (what == "slots") != (before.DroppedRing > 0) {
				t.Errorf("%+v", before)
			}
			k := &kept{}
			tap.Start(k)
			tap.Close()
			if len(k.records) != 16 {
				t.Errorf("%d records were kept", len(k.records))
			}
			if _, err := predict(t, e, "x", 1, 2, 3); err != nil {
				t.Error(err)
			}
			if s := tap.Stats(); s.DroppedClosed != 1 || s.Taken != 16 || s.WaitingBytes != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// What can be without waiting is written down before the answer is there, on the thread that answers. Everything else is the writer's.
func TestTapWritesHere(t *testing.T) {
	for _, c := range []struct {
		what     string
		sampling capture.Sampling
		busy     bool // the spool would have to be waited for
		ask      func(t *testing.T, e *engine.Engine)
		here     int
		after    int
	}{
		{"a request", capture.Sampling{Rate: 1}, false, func(t *testing.T, e *engine.Engine) { mustPredict(t, e, "", 1) }, 1, 1},
		{"parts", capture.Sampling{Rate: 1}, false, func(t *testing.T, e *engine.Engine) { predictParts(t, e, 5) }, 5, 5},
		{"some parts", capture.Sampling{Every: 2}, false, func(t *testing.T, e *engine.Engine) { predictParts(t, e, 5) }, 2, 2},
		{"some parts for two reasons", capture.Sampling{Every: 2, Banded: true, Low: 4}, false, func(t *testing.T, e *engine.Engine) { predictParts(t, e, 5) }, 0, 3},
		{"a name", capture.Sampling{Rate: 1}, false, func(t *testing.T, e *engine.Engine) { mustPredict(t, e, "x", 1) }, 0, 1},
		{"many rows", capture.Sampling{Rate: 1}, false, func(t *testing.T, e *engine.Engine) { mustPredict(t, e, "", 8000) }, 0, 1},
		{"a busy spool", capture.Sampling{Rate: 1}, true, func(t *testing.T, e *engine.Engine) { predictParts(t, e, 5) }, 0, 5},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.sampling.Banded {
				c.sampling.High = math.Inf(1)
			}
			tap := capture.NewTap(capture.TapOptions{Default: c.sampling})
			e := newEngine(t, tap, enginetest.Script{Properties: inline})
			k := &kept{tried: !c.busy}
			tap.Start(k)
			c.ask(t, e)
			if k.tries != c.here {
				t.Errorf("%d records are written on the thread that answers, want %d", k.tries, c.here)
			}
			tap.Close()
			if s := tap.Stats(); len(k.records) != c.after || s.Taken != uint64(c.after) || s.WaitingBytes != 0 {
				t.Errorf("%d records, want %d; %+v", len(k.records), c.after, s)
			}
		})
	}
}

func mustPredict(t *testing.T, e *engine.Engine, id string, rows int) {
	t.Helper()
	if _, err := predict(t, e, id, make([]float32, 3*rows)...); err != nil {
		t.Fatal(err)
	}
}

// predictParts asks for one row for each of so many requests of a connection; the sum of each is its number.
func predictParts(t *testing.T, e *engine.Engine, parts int) {
	t.Helper()
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(parts)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	in := make([]float32, 3*parts)
	r.SetOrigin([16]byte{1})
	for i := range parts {
		in[3*i] = float32(i)
		r.AddParts(1)[0] = engine.Part{Number: uint64(i), Rows: 1}
	}
	copy(r.Inputs[0].Bytes(), tensor.AsBytes(in))
	r.Count = parts
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The writer waits for the spool, which does not come back: predictions go on all the same, and each is counted.
func TestWriterHoldsNobodyUp(t *testing.T) {
	const ring, asked = 16, 200
	tap := capture.NewTap(capture.TapOptions{Ring: ring, Default: capture.Sampling{Rate: 1}})
	e := newEngine(t, tap, enginetest.Script{Properties: inline})
	k := &kept{tried: true, held: make(chan struct{}), holds: make(chan struct{})}
	mustPredict(t, e, "x", 1) // the writer's
	tap.Start(k)
	<-k.holds
	for range asked {
		mustPredict(t, e, "", 1)
	}
	if s := tap.Stats(); s.DroppedRing < asked-ring {
		t.Errorf("of %d requests %d were dropped, and there is room for %d: %+v", asked, s.DroppedRing, ring, s)
	}
	close(k.held)
	tap.Close()
	if s := tap.Stats(); s.Taken+s.DroppedRing != asked+1 || s.Taken != uint64(len(k.records)) || s.WaitingBytes != 0 {
		t.Errorf("%d requests; %+v", asked+1, s)
	}
}

// Many callers, a sink that now and then takes nothing, and a Tap that is closed while
// they go on: every inference is somewhere, once.
func TestTapCountsEverything(t *testing.T) {
	tap := capture.NewTap(capture.TapOptions{Ring: 32, Default: capture.Sampling{Rate: 1}})
	e := newEngine(t, tap, enginetest.Script{})
	k := &kept{tried: true}
	tap.Start(k)
	const callers, each = 8, 300
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for i := range each {
				if _, err := predict(t, e, []string{"x", ""}[i%2], 1, 2, 3); err != nil { // the writer's, and the caller's
					t.Error(err)
				}
			}
		})
	}
	time.Sleep(time.Millisecond)
	tap.Close()
	all.Wait()
	s := tap.Stats()
	if sum := s.Taken + s.DroppedRing + s.DroppedBytes + s.DroppedClosed; sum != callers*each || s.Taken != uint64(len(k.records)) || s.WaitingBytes != 0 {
		t.Errorf("%d inferences, of which %d are accounted for: %+v", callers*each, sum, s)
	}
}

// Over the lane, with everything captured, durably: nothing is allocated for a request,
// and the records are the requests.
func TestLaneIsCapturedWithoutAllocating(t *testing.T) {
	for what, p := range map[string]engine.Properties{"inline": inline, "queued": {}} {
		t.Run(what, func(t *testing.T) {
			s := openSpool(t, spool.Options{})
			tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Rate: 1}})
			defer tap.Close()
			e := newEngine(t, tap, enginetest.Script{Properties: p})
			tap.Start(s)
			c := serveLane(t, e)
			m, err := c.Model(t.Context(), "sum")
			if err != nil {
				t.Fatal(err)
			}
			in := [][]byte{tensor.AsBytes([]float32{1, 2, 3, 4, 5, 6})}
			out := [][]byte{make([]byte, 8)}
			asked := int64(0)
			ask := func() {
				asked++
				if err := m.PredictInto(t.Context(), 2, in, out); err != nil {
					t.Fatal(err)
				}
			}
			for range 2000 { // the first ones fill the pools
				ask()
			}
			if n := testing.AllocsPerRun(3000, ask); n != 0 && !raceEnabled {
				t.Errorf("a captured request allocates %v times", n)
			}
			tap.Close()
			if err := s.Flush(context.Background()); err != nil {
				t.Fatal(err)
			}
			st := s.Stats()
			if ts := tap.Stats(); ts.Taken != uint64(asked) || st.Accepted != asked || st.OnDisk != asked {
				t.Fatalf("%d requests; %+v; %+v", asked, ts, st)
			}
			if bad := st.Refused; bad != (spool.Refused{}) {
				t.Errorf("%+v", bad)
			}
		})
	}
}

// Requests that the lane has put together are records of their own, called by their
// connection and their numbers.
func TestLaneNamesInferences(t *testing.T) {
	tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Banded: true, Low: 6, High: math.Inf(1)}})
	e := newEngine(t, tap, enginetest.Script{Properties: inline})
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(4)
	if err != nil {
		t.Fatal(err)
	}
	copy(r.Inputs[0].Bytes(), tensor.AsBytes([]float32{1, 1, 1, 2, 2, 2, 0, 0, 0, 3, 3, 3}))
	origin := [16]byte{0: 0xab, 15: 1}
	r.SetOrigin(origin)
	copy(r.AddParts(3), []engine.Part{{Number: 5, Rows: 1}, {Number: 6, Rows: 2}, {Number: 7, Rows: 1}})
	r.Count = 3
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Release()
	k := &kept{}
	tap.Start(k)
	tap.Close()
	if len(k.records) != 2 {
		t.Fatalf("%d records: %+v", len(k.records), k.records)
	}
	for i, want := range []struct {
		name string
		rows int
		in   []float32
	}{{"ab000000000000000000000000000001-6", 2, []float32{2, 2, 2, 0, 0, 0}}, {"ab000000000000000000000000000001-7", 1, []float32{3, 3, 3}}} {
		got := k.records[i]
		in, _ := elements(got.Inputs[0].Data)
		if got.Inference != want.name || got.Inference != capture.NumberedName(origin, uint64(6+i)) || got.Rows != want.rows || fmt.Sprint(in) != fmt.Sprint(want.in) ||
			fmt.Sprint(got.Inputs[0].Shape) != fmt.Sprint([]int64{int64(want.rows), 3}) || len(got.Outputs[0].Data) != 4*want.rows {
			t.Errorf("record %d: %+v", i, got)
		}
	}
}

// What a client is told that its prediction is called is what the record is called.
func TestClientsKnowNames(t *testing.T) {
	tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Rate: 1}})
	e := newEngine(t, tap, enginetest.Script{Properties: inline})
	c := serveLane(t, e)
	m, err := c.Model(t.Context(), "sum")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float32{}
	for n := range 5 {
		in, out := []float32{float32(n), 0, 0}, []float32{0}
		name, err := m.PredictNamed(t.Context(), 1, [][]byte{tensor.AsBytes(in)}, [][]byte{tensor.AsBytes(out)})
		if err != nil || name.String() == "" || out[0] != float32(n) {
			t.Fatalf("%q: %v, %v", name, out, err)
		}
		want[name.String()] = in[0]
	}
	if _, err := m.PredictNamed(t.Context(), 1, nil, nil); err == nil {
		t.Error("no inputs are taken")
	}
	if n := (lane.Inference{}).String(); n != "" {
		t.Errorf("no prediction is called %q", n)
	}
	k := &kept{}
	tap.Start(k)
	tap.Close()
	if len(k.records) != len(want) {
		t.Fatalf("%d records of %d predictions", len(k.records), len(want))
	}
	for _, r := range k.records {
		in, _ := elements(r.Inputs[0].Data)
		if first, ok := want[r.Inference]; !ok || in[0] != first {
			t.Errorf("%q: %v", r.Inference, in)
		}
	}
}

// Of requests that the lane has put together those that are chosen for the same reasons are one entry, wherever their rows lie, and
// each is the record that it would be alone.
func TestChosenPartsGoTogether(t *testing.T) {
	tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Every: 3, Banded: true, Low: 100, High: math.Inf(1)}})
	e := newEngine(t, tap, enginetest.Script{Properties: inline})
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	const parts = 12
	rows := func(part int) int { return 1 + part%2 }
	total := 0
	for i := range parts {
		total += rows(i)
	}
	r, err := m.NewRequest(total)
	if err != nil {
		t.Fatal(err)
	}
	var in []float32
	want := map[string]capture.Why{}
	origin := [16]byte{9}
	r.SetOrigin(origin)
	for i := range parts {
		r.AddParts(1)[0] = engine.Part{Number: uint64(i), Rows: rows(i)}
		value := float32(i)
		why := capture.Why(0)
		if i%4 == 1 {
			value += 100
			why |= capture.ByOutput
		}
		if i%3 == 2 { // the model's 3rd, 6th and so on
			why |= capture.ByCount
		}
		if why != 0 {
			want[capture.NumberedName(origin, uint64(i))] = why
		}
		for range rows(i) {
			in = append(in, value, float32(i), 0)
		}
	}
	copy(r.Inputs[0].Bytes(), tensor.AsBytes(in))
	r.Count = parts
	if err := r.Predict(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Release()
	k := &kept{}
	tap.Start(k)
	tap.Close()
	if k.puts != 3 || len(k.records) != len(want) || tap.Stats().Taken != uint64(len(want)) {
		t.Fatalf("%d entries with %d records, want 3 with %d; %+v", k.puts, len(k.records), len(want), tap.Stats())
	}
	for _, got := range k.records {
		var part int
		if _, err := fmt.Sscanf(got.Inference[33:], "%d", &part); err != nil {
			t.Fatal(err)
		}
		x, _ := elements(got.Inputs[0].Data)
		y, _ := elements(got.Outputs[0].Data)
		if got.Why != want[got.Inference] || got.Rows != rows(part) || len(x) != 3*rows(part) || len(y) != rows(part) || x[1] != float32(part) || x[len(x)-2] != float32(part) || y[0] != x[0]+x[1] {
			t.Errorf("part %d: %+v, %v to %v", part, got, x, y)
		}
	}
}

// What the thread that answers writes down of a run is what the writer makes of it: the same records but for the time, all parts or
// some, of one row or of more.
func TestRunsAreWrittenAsEntriesAre(t *testing.T) {
	rows := []int{1, 3, 1, 2, 5, 1, 1, 4}
	total := 0
	for _, n := range rows {
		total += n
	}
	for _, s := range []capture.Sampling{{Rate: 1}, {Every: 3}, {Banded: true, Low: 100, High: math.Inf(1)}} {
		t.Run(fmt.Sprintf("%+v", s), func(t *testing.T) {
			records := func(tried bool) []capture.Record {
				tap := capture.NewTap(capture.TapOptions{Default: s})
				e := newEngine(t, tap, enginetest.Script{Properties: inline})
				k := &kept{tried: tried}
				tap.Start(k)
				m, err := e.Acquire("sum")
				if err != nil {
					t.Fatal(err)
				}
				defer m.Release()
				r, err := m.NewRequest(total)
				if err != nil {
					t.Fatal(err)
				}
				r.SetOrigin([16]byte{3, 1})
				for i, n := range rows {
					r.AddParts(1)[0] = engine.Part{Number: uint64(1000 + i), Rows: n}
				}
				in := make([]float32, 3*total)
				for i := range in {
					in[i] = float32(i)
				}
				copy(r.Inputs[0].Bytes(), tensor.AsBytes(in))
				r.Count = len(rows)
				if err := r.Predict(t.Context()); err != nil {
					t.Fatal(err)
				}
				r.Release()
				tap.Close()
				if tried != (k.tries > 0) {
					t.Fatalf("%d records are written on the thread that answers", k.tries)
				}
				for i := range k.records {
					if time.Since(k.records[i].Time).Abs() > time.Minute {
						t.Errorf("captured at %v", k.records[i].Time)
					}
					k.records[i].Time = time.Time{}
				}
				return k.records
			}
			here, later := records(true), records(false)
			if len(here) == 0 || !reflect.DeepEqual(here, later) {
				t.Errorf("written where it was answered:\n%+v\nby the writer:\n%+v", here, later)
			}
		})
	}
}

// By chance each part of a run is as likely to be captured as any other, whichever rate is asked for.
func TestChanceIsFair(t *testing.T) {
	const runs, parts = 4000, 70
	for _, rate := range []float64{0.1, 0.9, 1e-320} {
		tap := capture.NewTap(capture.TapOptions{Default: capture.Sampling{Rate: rate}})
		e := newEngine(t, tap, enginetest.Script{Properties: inline})
		k := &kept{tried: true}
		tap.Start(k)
		for range runs {
			predictParts(t, e, parts)
		}
		tap.Close()
		var seen [parts]float64
		for _, r := range k.records {
			x, _ := elements(r.Inputs[0].Data)
			seen[int(x[0])]++
		}
		// Ten standard deviations of 4,000 throws are no accident.
		far := 10 * math.Sqrt(runs*rate*(1-rate))
		for part, n := range seen {
			if math.Abs(n-runs*rate) > far+1 {
				t.Errorf("at a rate of %g, part %d was captured %v times of %d", rate, part, n, runs)
			}
		}
	}
}
