package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
)

// candidate is what a description says of a backend.
func candidate(t testing.TB, d engine.Description, backend string) engine.Candidate {
	t.Helper()
	for _, c := range d.Candidates {
		if c.Backend == backend {
			return c
		}
	}
	t.Fatalf("there is no candidate %s in %+v", backend, d.Candidates)
	return engine.Candidate{}
}

// checkReasons wants the sentences to hold these words, and the chosen one, which is the first, to be chosen.
func checkReasons(t testing.TB, d engine.Description, chosen string, want map[string]string) {
	t.Helper()
	if d.Backend != chosen || d.Candidates[0].Backend != chosen {
		t.Errorf("chose %s, listed %s first, want %s", d.Backend, d.Candidates[0].Backend, chosen)
	}
	for name, says := range want {
		if c := candidate(t, d, name); !strings.Contains(c.Reason, says) || c.Chosen != (name == chosen) {
			t.Errorf("candidate %s: chosen %v, reason %q, want %q", name, c.Chosen, c.Reason, says)
		}
	}
}

// errUnsupported sends the engine to the next backend.
var errUnsupported = fmt.Errorf("%w: a kind of tree it has no code for", engine.ErrUnsupported)

func TestTheOnlyBackendIsNotTimed(t *testing.T) {
	runs := 0
	b := enginetest.New(enginetest.Script{Name: "only", Properties: engine.Properties{Variant: "x86-64-v3"}, OnRun: func(int) error { runs++; return nil }})
	absent := enginetest.New(enginetest.Script{Name: "absent", Match: 109, Probe: errors.New("libabsent.so was not found")})
	other := enginetest.New(enginetest.Script{Name: "other", Match: -1})
	newer := enginetest.New(enginetest.Script{Name: "newer", Match: 105, Open: errUnsupported})
	leaky := enginetest.New(enginetest.Script{Name: "leaky", Match: engine.LastResort})
	e := newEngine(t, engine.Options{}, other, absent, leaky, newer, b)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "only", map[string]string{
		"only": "chosen: it matches the artifact best", "newer": "no code for", "absent": "libabsent.so was not found",
		"other": "not of its format", "leaky": "not tried: it is a last resort",
	})
	if c := d.Candidates[0]; c.USPerRow <= 0 || c.Variant != "x86-64-v3" || d.Variant != c.Variant {
		t.Errorf("the chosen backend is %+v", c)
	}
	if runs != 0 || leaky.Opened() != 0 {
		t.Errorf("%d runs for timing, the last resort was opened %d times", runs, leaky.Opened())
	}
}

func TestForcedBackendIsNotTimed(t *testing.T) {
	runs := 0
	count := func(int) error { runs++; return nil }
	one := enginetest.New(enginetest.Script{Name: "one", OnRun: count})
	two := enginetest.New(enginetest.Script{Name: "two", OnRun: count})
	leaky := enginetest.New(enginetest.Script{Name: "leaky", Match: engine.LastResort, OnRun: count})
	newer := enginetest.New(enginetest.Script{Name: "newer", Open: errUnsupported})
	e := newEngine(t, engine.Options{}, one, two, leaky, newer)
	for _, name := range []string{"two", "leaky"} {
		d, err := e.Load(t.Context(), name, "somewhere", engine.ModelOptions{Backend: name})
		if err != nil {
			t.Fatal(err)
		}
		checkReasons(t, d, name, map[string]string{name: "chosen: it was asked for", "one": "not asked: backend " + name})
	}
	if runs != 0 || one.Opened() != 0 {
		t.Errorf("%d runs for timing, another was opened %d times", runs, one.Opened())
	}
	if _, err := e.Load(t.Context(), "x", "somewhere", engine.ModelOptions{Backend: "newer"}); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("forced to a backend that does not support it: %v", err)
	}
}

func TestLastResortWhereNothingElseOpens(t *testing.T) {
	first := enginetest.New(enginetest.Script{Name: "first", Open: errUnsupported})
	second := enginetest.New(enginetest.Script{Name: "second", Open: errUnsupported})
	worst := enginetest.New(enginetest.Script{Name: "worst", Match: 1})
	leaky := enginetest.New(enginetest.Script{Name: "leaky", Match: engine.LastResort})
	e := newEngine(t, engine.Options{}, first, worst, leaky, second)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "leaky", map[string]string{
		"leaky": "chosen: it matches", "worst": "not tried: leaky matches the artifact better", "first": "no code for", "second": "no code for"})
	if worst.Opened() != 0 {
		t.Error("two last resorts were opened")
	}
}

// quitting is a backend in whose Open the caller gives up.
type quitting struct {
	*enginetest.Backend
	quit context.CancelFunc
}

func (q quitting) Open(ctx context.Context, _ *engine.Artifact, _ engine.OpenOptions) (engine.Model, error) {
	q.quit()
	return nil, ctx.Err()
}

// Whoever gives up while backends are opened is told so, and it is no backend's fault.
func TestGivenUpWhileOpening(t *testing.T) {
	for _, match := range []int{90, 110} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var log bytes.Buffer
		other := enginetest.New(enginetest.Script{Name: "other"})
		q := quitting{enginetest.New(enginetest.Script{Name: "quitting", Match: match}), cancel}
		e := newEngine(t, engine.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Backends: []engine.Backend{q}}, other)
		if _, err := e.Load(ctx, "m", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrCanceled) {
			t.Errorf("match %d: %v", match, err)
		}
		if strings.Contains(log.String(), "cannot open it") {
			t.Errorf("match %d: the log blames the backend: %s", match, &log)
		}
	}
}

// A machine with more cores than a model may have instances or threads is no mistake in the options.
func TestManyCores(t *testing.T) {
	b := enginetest.New(enginetest.Script{Properties: inline})
	e := newEngine(t, engine.Options{Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 1920}}}, b)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil || d.Options.Threads != 1024 || d.Options.Instances != 1024 {
		t.Errorf("%+v, %v", d.Options, err)
	}
}

// What is damaged for the best match is refused: others may be less careful. What is damaged for another one stays with
// those that came before it.
func TestDamagedArtifactIsNotPassedOn(t *testing.T) {
	damaged := enginetest.Script{Name: "damaged", Match: 105, Open: fmt.Errorf("%w: its last byte is missing", engine.ErrArtifact)}
	careless := enginetest.New(enginetest.Script{Name: "careless", Match: 90})
	e := newEngine(t, engine.Options{}, enginetest.New(damaged), careless, enginetest.New(enginetest.Script{Name: "none", Match: 110, Open: errUnsupported}))
	if _, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{}); !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), "last byte") {
		t.Errorf("got %v", err)
	}
	best := enginetest.New(enginetest.Script{Name: "best", Match: 106})
	e = newEngine(t, engine.Options{}, enginetest.New(damaged), careless, best)
	d, err := e.Load(t.Context(), "m", "somewhere", engine.ModelOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkReasons(t, d, "best", map[string]string{
		"best": "chosen: it matches", "damaged": "last byte", "careless": "not tried: damaged matches the artifact better and could not open it"})
	if careless.Opened() != 0 {
		t.Error("a backend got what a better match had found damaged")
	}
}
