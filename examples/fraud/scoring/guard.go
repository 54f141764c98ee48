package scoring

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

// The causes for which rules decide.
const (
	Late = "late" // no score within the budget
	Down = "down" // no score: Picket is not there, or refused
	Open = "open" // the circuit breaker did not let the question through
	Busy = "busy" // too many questions are under way
)

// shownReasons is how many reasons a decision has at most.
const shownReasons = 5

// GuardOptions change how a Guard asks. The zero value of a field takes its default.
type GuardOptions struct {
	// Budget is how long a score may take. 20 ms where it is 0.
	Budget time.Duration
	// Outstanding is how many scores may be asked for at once. 256 where it is 0.
	Outstanding int
	// Failures in a row open the breaker: 20 where it is 0.
	Failures uint32
	// Pause is how long an open breaker asks nothing. 1 s where it is 0.
	Pause time.Duration
	// Log is told when the breaker changes. slog.Default where it is nil.
	Log *slog.Logger
}

// Guard decides about profiles: by the model's score, or by rules when there is none in time. It always decides.
type Guard struct {
	scorer  Scorer
	rules   *Rules
	budget  time.Duration
	places  chan struct{}
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	log     *slog.Logger

	mu      sync.Mutex
	lost    chan struct{} // has room for one: a score failed because the model or the daemon is not there
	byCause map[string]uint64
	scored  map[string]uint64

	unexplained atomic.Uint64
}

// NewGuard puts a guard before a scorer, which stays the caller's.
func NewGuard(s Scorer, r *Rules, o GuardOptions) *Guard {
	o.Budget = cmp.Or(o.Budget, 20*time.Millisecond)
	o.Outstanding = cmp.Or(o.Outstanding, 256)
	o.Failures = cmp.Or(o.Failures, 20)
	o.Pause = cmp.Or(o.Pause, time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	g := &Guard{
		scorer: s, rules: r, budget: o.Budget, places: make(chan struct{}, o.Outstanding), lost: make(chan struct{}, 1), log: o.Log,
		byCause: map[string]uint64{Late: 0, Down: 0, Open: 0, Busy: 0}, scored: map[string]uint64{},
	}
	g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "scoring", MaxRequests: 5, Timeout: o.Pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= o.Failures },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			g.log.Warn("the circuit breaker before scoring changes", "from", from.String(), "to", to.String())
		},
	})
	return g
}

// Decide fills in what a decision says of the verdict: from the model, or from the rules with the cause.
func (g *Guard) Decide(ctx context.Context, profile []float32, into *api.Decision) {
	began := time.Now()
	score, cause := g.ask(ctx, profile)
	into.ScoreMicroseconds = time.Since(began).Microseconds()
	g.mu.Lock()
	if cause == "" {
		g.scored[score.Model.Version]++
	} else {
		g.byCause[cause]++
	}
	g.mu.Unlock()
	if cause != "" {
		into.Source, into.Cause = api.ByRules, cause
		into.Verdict, into.Reasons = g.rules.Decide(profile)
		return
	}
	into.Source, into.Model, into.Score = api.ByModel, score.Model.Version, &score.Probability
	into.Inference = score.Inference
	if score.Unexplained != nil {
		g.unexplained.Add(1)
	}
	into.Verdict, into.Reasons = score.Model.Verdict(score.Probability), reasons(profile, score.Contributions)
}

// ask gives a score, or the cause why there is none.
func (g *Guard) ask(ctx context.Context, profile []float32) (Score, string) {
	select {
	case g.places <- struct{}{}:
		defer func() { <-g.places }()
	default:
		return Score{}, Busy
	}
	done, err := g.breaker.Allow()
	if err != nil {
		return Score{}, Open
	}
	ctx, cancel := context.WithTimeout(ctx, g.budget)
	defer cancel()
	score, err := g.scorer.Score(ctx, profile)
	done(err == nil)
	if err == nil {
		return score, ""
	}
	if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
		return Score{}, Late
	}
	select {
	case g.lost <- struct{}{}:
	default:
	}
	return Score{}, Down
}

// Lost receives when a score failed although there was time: the daemon is not there, or has no model. Whoever listens can see to it that the model is loaded again.
func (g *Guard) Lost() <-chan struct{} { return g.lost }

// Breaker is the breaker's state: "closed", "half-open" or "open".
func (g *Guard) Breaker() string { return g.breaker.State().String() }

// Counts are how many decisions rules made, by cause, and the model, by version.
func (g *Guard) Counts() (byCause, scored map[string]uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	byCause, scored = make(map[string]uint64, len(g.byCause)), make(map[string]uint64, len(g.scored))
	for k, v := range g.byCause {
		byCause[k] = v
	}
	for k, v := range g.scored {
		scored[k] = v
	}
	return byCause, scored
}

// Unexplained is how many of the model's decisions lack the reasons that it should have given.
func (g *Guard) Unexplained() uint64 { return g.unexplained.Load() }

// reasons are the features that moved the score most, either way.
func reasons(profile, contributions []float32) []api.Reason {
	if len(contributions) == 0 {
		return nil
	}
	order := make([]int, len(contributions))
	for i := range order {
		order[i] = i
	}
	size := func(i int) float32 { return max(contributions[i], -contributions[i]) }
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(size(b), size(a)), a-b) })
	var list []api.Reason
	for _, i := range order[:min(shownReasons, len(order))] {
		if contributions[i] == 0 {
			break
		}
		r := api.Reason{Feature: features.At(i).Name, Text: features.At(i).Text, Contribution: contributions[i]}
		if v := profile[i]; v == v { // not NaN
			r.Value = &v
		}
		list = append(list, r)
	}
	return list
}
