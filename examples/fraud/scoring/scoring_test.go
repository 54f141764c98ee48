package scoring_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// scripted answers as a test wants, which a real daemon cannot be made to; the application's tests have real ones.
type scripted struct {
	asked  atomic.Int64
	answer func(ctx context.Context) (scoring.Score, error)
}

func (s *scripted) Name() string                              { return "scripted" }
func (s *scripted) Use(context.Context, *scoring.Model) error { return nil }
func (s *scripted) Current() *scoring.Model                   { return nil }
func (s *scripted) Explained() bool                           { return false }
func (s *scripted) Close() error                              { return nil }
func (s *scripted) Score(ctx context.Context, _ []float32) (scoring.Score, error) {
	s.asked.Add(1)
	return s.answer(ctx)
}

func rules(t *testing.T, text string) *scoring.Rules {
	t.Helper()
	r, err := scoring.ParseRules([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const denyAll = "rules: [{name: all, verdict: deny, when: [{feature: amount, at_least: 0}]}]"

var errGone = errors.New("the daemon has gone")

func never(ctx context.Context) (scoring.Score, error) {
	<-ctx.Done()
	return scoring.Score{}, ctx.Err()
}

// TestGuard shows what decides, and which cause it names.
func TestGuard(t *testing.T) {
	model := &scoring.Model{Version: "7", ChallengeFrom: 0.2, DenyFrom: 0.8}
	score := func(p float32) func(context.Context) (scoring.Score, error) {
		return func(context.Context) (scoring.Score, error) { return scoring.Score{Probability: p, Model: model}, nil }
	}
	for name, c := range map[string]struct {
		answer  func(context.Context) (scoring.Score, error)
		verdict api.Verdict
		source  api.Source
		cause   string
	}{
		"low":       {score(0.1), api.Approve, api.ByModel, ""},
		"middle":    {score(0.2), api.Challenge, api.ByModel, ""},
		"high":      {score(0.8), api.Deny, api.ByModel, ""},
		"no answer": {never, api.Deny, api.ByRules, scoring.Late},
		"gone":      {func(context.Context) (scoring.Score, error) { return scoring.Score{}, errGone }, api.Deny, api.ByRules, scoring.Down},
	} {
		t.Run(name, func(t *testing.T) {
			g := scoring.NewGuard(&scripted{answer: c.answer}, rules(t, denyAll), scoring.GuardOptions{Budget: 5 * time.Millisecond})
			var d api.Decision
			g.Decide(t.Context(), make([]float32, features.Count), &d)
			if d.Verdict != c.verdict || d.Source != c.source || d.Cause != c.cause || (d.Score != nil) != (c.cause == "") || (d.Model == "7") != (c.cause == "") {
				t.Errorf("%+v", d)
			}
			byCause, scored := g.Counts()
			if c.cause != "" && byCause[c.cause] != 1 || c.cause == "" && scored["7"] != 1 {
				t.Errorf("counted %v and %v", byCause, scored)
			}
		})
	}
}

// TestBreaker shows that a scorer that fails is left alone, tried again, and asked again.
func TestBreaker(t *testing.T) {
	var working atomic.Bool
	model := &scoring.Model{Version: "7", DenyFrom: 1, ChallengeFrom: 1}
	s := &scripted{answer: func(context.Context) (scoring.Score, error) {
		if working.Load() {
			return scoring.Score{Model: model}, nil
		}
		return scoring.Score{}, errGone
	}}
	g := scoring.NewGuard(s, rules(t, denyAll), scoring.GuardOptions{Budget: time.Minute, Failures: 3, Pause: 50 * time.Millisecond})
	profile := make([]float32, features.Count)
	decide := func() api.Decision {
		var d api.Decision
		g.Decide(t.Context(), profile, &d)
		return d
	}
	for range 3 {
		if d := decide(); d.Cause != scoring.Down {
			t.Fatalf("before it opens: %+v", d)
		}
	}
	select {
	case <-g.Lost():
	default:
		t.Error("nobody was told that the model is not there")
	}
	if d := decide(); d.Cause != scoring.Open || g.Breaker() != "open" || s.asked.Load() != 3 {
		t.Fatalf("after three failures: %+v, %s, asked %d times", d, g.Breaker(), s.asked.Load())
	}
	working.Store(true)
	for deadline := time.Now().Add(10 * time.Second); g.Breaker() != "closed"; time.Sleep(time.Millisecond) {
		decide()
		if time.Now().After(deadline) {
			t.Fatal("the breaker stays " + g.Breaker())
		}
	}
	if d := decide(); d.Source != api.ByModel {
		t.Errorf("afterwards: %+v", d)
	}
}

// TestBusy shows that no more questions are under way than may be, and that the rest does not wait.
func TestBusy(t *testing.T) {
	s := &scripted{answer: never}
	g := scoring.NewGuard(s, rules(t, denyAll), scoring.GuardOptions{Outstanding: 2, Budget: time.Minute})
	ctx, cancel := context.WithCancel(t.Context())
	profile := make([]float32, features.Count)
	ended := make(chan struct{})
	for range 2 {
		go func() {
			var d api.Decision
			g.Decide(ctx, profile, &d)
			ended <- struct{}{}
		}()
	}
	for s.asked.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	var d api.Decision
	g.Decide(t.Context(), profile, &d)
	if d.Cause != scoring.Busy {
		t.Errorf("a third question: %+v", d)
	}
	cancel()
	<-ended
	<-ended
}

// TestReasons shows that the largest contributions come first, with the features' values.
func TestReasons(t *testing.T) {
	contributions := make([]float32, features.Count)
	contributions[0], contributions[3], contributions[5] = -0.5, 2, 0.25
	model := &scoring.Model{Version: "7", DenyFrom: 1, ChallengeFrom: 1}
	g := scoring.NewGuard(&scripted{answer: func(context.Context) (scoring.Score, error) {
		return scoring.Score{Model: model, Contributions: contributions}, nil
	}}, rules(t, denyAll), scoring.GuardOptions{})
	profile := make([]float32, features.Count)
	profile[3], profile[0] = 9, float32(math.NaN())
	var d api.Decision
	g.Decide(t.Context(), profile, &d)
	if len(d.Reasons) != 3 || d.Reasons[0].Feature != features.At(3).Name || *d.Reasons[0].Value != 9 || d.Reasons[1].Contribution != -0.5 || d.Reasons[1].Value != nil || d.Reasons[2].Feature != features.At(5).Name {
		t.Errorf("%+v", d.Reasons)
	}
}

// TestLateReasons shows that a score that was in time decides, though its reasons were not. A server that hangs at the second question is none that the daemon could be made to be.
func TestLateReasons(t *testing.T) {
	hang := make(chan struct{}) // closed: questions for reasons hang from now on
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		answer := `{"inputs": []}`
		switch {
		case strings.Contains(string(body), "contributions"):
			select {
			case <-hang:
				<-r.Context().Done()
				return
			default:
			}
			numbers, _ := json.Marshal(make([]float32, features.Count+1))
			answer = `{"outputs": [{"data": ` + string(numbers) + `}]}`
		case len(body) > 0:
			answer = `{"id": "7-1", "outputs": [{"data": [0.9]}]}`
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	s, err := scoring.OverOIP(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Use(t.Context(), &scoring.Model{Version: "7", ChallengeFrom: 0.2, DenyFrom: 0.8}); err != nil {
		t.Fatal(err)
	}
	g := scoring.NewGuard(s, rules(t, denyAll), scoring.GuardOptions{Budget: 300 * time.Millisecond})
	close(hang)
	var d api.Decision
	g.Decide(t.Context(), make([]float32, features.Count), &d)
	if d.Source != api.ByModel || d.Verdict != api.Deny || d.Score == nil || *d.Score != 0.9 || d.Inference != "7-1" || len(d.Reasons) != 0 || g.Unexplained() != 1 {
		t.Errorf("%+v, %d without reasons", d, g.Unexplained())
	}
}

// TestWithoutDaemon: each protocol that the daemon speaks can be chosen before it is there, and says so when a model is to be used.
func TestWithoutDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nobody.sock")
	agent, err := scoring.OverAgent(path)
	if err != nil {
		t.Fatal(err)
	}
	oip, err := scoring.OverOIP("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []scoring.Scorer{scoring.OverLane(path, false), scoring.OverLane(path, true), agent, oip} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // the agent's protocol waits for the daemon
		err := s.Use(ctx, &scoring.Model{Version: "7"})
		cancel()
		if err == nil || s.Current() != nil {
			t.Errorf("%s uses a model of a daemon that is not there: %v", s.Name(), err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: %v", s.Name(), err)
		}
	}
}

func TestRules(t *testing.T) {
	r := rules(t, string(scoring.DefaultRules()))
	at := func(name string) int { return slices.Index(features.Names(), name) }
	profile := make([]float32, features.Count)
	for i := range profile {
		profile[i] = float32(math.NaN())
	}
	if v, reasons := r.Decide(profile); v != api.Approve || len(reasons) != 0 {
		t.Errorf("about nothing that is known: %s for %v", v, reasons)
	}
	profile[at("amount")], profile[at("amount_by_mean")] = 2000, 6
	if v, reasons := r.Decide(profile); v != api.Challenge || len(reasons) != 2 {
		t.Errorf("about a large amount: %s for %v", v, reasons)
	}
	profile[at("kmh_since_last")], profile[at("km_since_last")], profile[at("online")] = 5000, 2000, 0
	if v, _ := r.Decide(profile); v != api.Deny {
		t.Errorf("about an impossible journey: %s", v)
	}
	for name, text := range map[string]string{
		"nothing": "", "no rules": "rules: []", "an unknown key": "rule: []", "no verdict": "rules: [{name: a, when: [{feature: amount, below: 1}]}]", "no condition": "rules: [{name: a, verdict: deny}]",
		"no feature": "rules: [{name: a, verdict: deny, when: [{feature: shoe_size, below: 1}]}]", "no limit": "rules: [{name: a, verdict: deny, when: [{feature: amount}]}]",
	} {
		if _, err := scoring.ParseRules([]byte(text)); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestModels reads the models of the repository, and refuses what is not like them.
func TestModels(t *testing.T) {
	list, err := scoring.ReadModels("../model")
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 2 || list[0].Version != "1" || list[0].Served() != "fraud-1" || list[0].Figures["roc_auc"] < 0.8 {
		t.Errorf("the models are %+v", list)
	}
	text, err := os.ReadFile("../model/1.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, says string }{
		"another version":  {`"version": "1"`, `"version": "2"`, "version"},
		"another feature":  {`"amount"`, `"sum"`, "features"},
		"mixed thresholds": {`"deny_from": 0`, `"deny_from": -0`, "thresholds"},
		"no JSON":          {`{`, ``, "invalid"},
	} {
		dir := t.TempDir()
		changed := strings.Replace(string(text), c.old, c.new, 1)
		if changed == string(text) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if err := errors.Join(os.Mkdir(filepath.Join(dir, "1"), 0o755), os.WriteFile(filepath.Join(dir, "1.json"), []byte(changed), 0o644)); err != nil {
			t.Fatal(err)
		}
		if _, err := scoring.ReadModels(dir); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want a refusal that says %q", name, err, c.says)
		}
	}
	if _, err := scoring.ReadModels(t.TempDir()); err == nil {
		t.Error("an empty folder has models")
	}
}
