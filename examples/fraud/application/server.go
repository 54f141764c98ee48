// Package application is the application server of the fraud application: it stores a transaction and at the same time has its profile scored, decides, stores the decision and answers. Analysts
// look at decisions through it. API.md describes what it speaks; it stands behind the front-end server, which has the certificate and the limits.
package application

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/examples/fraud/store"
)

// Options are what a Server works with. All of it stays the caller's, who closes it after the Server.
type Options struct {
	Store  *store.Store
	Scorer scoring.Scorer
	// Loader has Picket load the versions of Models; nil where the operator does it, and then versions cannot be swapped here.
	Loader *scoring.Loader
	// Teller tells Picket what became of transactions; nil where nobody is told, and then outcomes are forgotten after a week.
	Teller Teller
	Models []*scoring.Model
	// Version is the one to begin with; the last of Models where it is empty.
	Version string
	Rules   *scoring.Rules
	Guard   scoring.GuardOptions
	// Keys are what clients must bring, each 16 bytes or more.
	Keys []string
	// Secret is what the customers' secrets for the 2nd factor are made of: 32 bytes or more.
	Secret []byte
	// Expiry is how long a challenge waits, Attempts how many codes it takes. 2 minutes and 3 where they are 0.
	Expiry   time.Duration
	Attempts int
	// AnyTime accepts transactions of any age, for simulations whose clock is not ours.
	AnyTime bool
	// Demo shows what a customer's authenticator would, and samples.
	Demo bool
	// Surroundings are what lies around the application; nil without any.
	Surroundings Surroundings
	// ProgramVersion is shown on pages.
	ProgramVersion string
	Log            *slog.Logger
}

// Surroundings are what an analyst sees of what lies around the application. All methods may be called at any time.
type Surroundings interface {
	// WAN is the state of the switch, and SetWAN moves it.
	WAN() api.WAN
	SetWAN(up bool) error
	// Capture is the state of what waits to be sent home.
	Capture(ctx context.Context) (api.Capture, error)
}

// Server is the application server.
type Server struct {
	o       Options
	log     *slog.Logger
	state   *features.State
	guard   *scoring.Guard
	keys    map[[sha256.Size]byte]struct{}
	stats   *statistics
	hub     *hub
	logins  logins
	handler http.Handler

	mu      sync.Mutex
	flights map[string]*flight // by id: what is being decided
	recent  *recent

	first   *scoring.Model // to begin with
	wanted  *scoring.Model // the last that was used
	since   time.Time      // when it came
	swap    sync.Mutex
	told    atomic.Uint64 // outcomes
	stop    context.CancelFunc
	workers sync.WaitGroup
}

// New reads the history, decides what a crash has left without a decision, and starts what runs beside requests. The caller closes the Server.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Expiry == 0 {
		o.Expiry = 2 * time.Minute
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if len(o.Secret) < 32 {
		return nil, errors.New("starting the application: the secret for the 2nd factor must have 32 bytes or more")
	}
	s := &Server{o: o, log: o.Log, state: features.New(), keys: map[[sha256.Size]byte]struct{}{}, stats: newStatistics(), hub: newHub(), flights: map[string]*flight{}, recent: newRecent()}
	for _, key := range o.Keys {
		if len(key) < 16 {
			return nil, errors.New("starting the application: a client's key must have 16 characters or more")
		}
		s.keys[sha256.Sum256([]byte(key))] = struct{}{}
	}
	o.Guard.Log = o.Log
	s.guard = scoring.NewGuard(o.Scorer, o.Rules, o.Guard)
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	undecided, err := s.replay(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.recover(ctx, undecided); err != nil {
		return nil, err
	}
	s.routes()
	background, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.workers.Go(func() { s.tick(background) })
	s.workers.Go(func() { s.keep(background) })
	s.workers.Go(func() { s.outcomes(background) })
	return s, nil
}

// Close ends what runs beside requests. The HTTP server in front must have been shut down before, except for streams, which end by it.
func (s *Server) Close() {
	s.hub.close()
	s.stop()
	s.workers.Wait()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// CloseStreams ends the streams of decisions, so that an HTTP server can shut down.
func (s *Server) CloseStreams() { s.hub.close() }

// begin has the first version used. Without Picket the application starts all the same: rules decide until it is there.
func (s *Server) begin(ctx context.Context) error {
	if len(s.o.Models) == 0 {
		return errors.New("starting the application: there is no version of the model")
	}
	m := s.o.Models[len(s.o.Models)-1]
	if s.o.Version != "" {
		if m = s.model(s.o.Version); m == nil {
			return fmt.Errorf("starting the application: there is no version %q of the model", s.o.Version)
		}
	}
	s.first = m
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.use(ctx, m); err != nil {
		s.log.Warn("the model is not there yet; rules decide until it is", "version", m.Version, "error", err)
	}
	return nil
}

func (s *Server) model(version string) *scoring.Model {
	for _, m := range s.o.Models {
		if m.Version == version {
			return m
		}
	}
	return nil
}

// use loads a version and asks it from now on.
func (s *Server) use(ctx context.Context, m *scoring.Model) error {
	s.swap.Lock()
	defer s.swap.Unlock()
	if s.o.Loader != nil {
		if err := s.o.Loader.Load(ctx, m); err != nil {
			return err
		}
	}
	if err := s.o.Scorer.Use(ctx, m); err != nil {
		return err
	}
	s.mu.Lock()
	if s.wanted != m {
		s.wanted, s.since = m, time.Now()
	}
	s.mu.Unlock()
	return nil
}

// replay reads what history needs, in the order of arrival, and gives what was stored without a decision, with the profile that it had then.
func (s *Server) replay(ctx context.Context) ([]undecided, error) {
	began := time.Now()
	at, _, err := s.o.Store.Last(ctx)
	if err != nil {
		return nil, err
	}
	var open []undecided
	n := 0
	scratch := make([]float32, features.Count)
	err = s.o.Store.History(ctx, at.Add(-features.Retention), time.Time{}, func(p *store.Past) error {
		n++
		if p.Decided {
			s.state.Add(&p.Transaction)
		} else {
			s.state.Observe(&p.Transaction, scratch)
			open = append(open, undecided{p.ID, p.Transaction, append([]float32(nil), scratch...)})
		}
		if p.Fraud {
			s.state.Label(&p.Transaction, true)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.log.Info("history is read", "transactions", n, "undecided", len(open), "took", time.Since(began).Round(10*time.Microsecond).String())
	return open, nil
}

// undecided is a transaction that was stored and not decided.
type undecided struct {
	id          string
	transaction features.Transaction
	profile     []float32
}

// recover decides what a crash has left. Nobody was answered about it, and whoever asks again gets this decision.
func (s *Server) recover(ctx context.Context, list []undecided) error {
	var writes []store.Write
	for i := range list {
		d := s.judge(ctx, list[i].id, list[i].profile, time.Now())
		d.Recovered = true
		for {
			w, err := s.o.Store.Decide(d, nil)
			if errors.Is(err, store.ErrBusy) { // as many as fit, then wait for the last
				if _, err := writes[len(writes)-1].Wait(ctx); err != nil {
					return fmt.Errorf("recovering: %w", err)
				}
				continue
			}
			if err != nil {
				return fmt.Errorf("recovering: %w", err)
			}
			writes = append(writes, w)
			break
		}
	}
	for _, w := range writes {
		if _, err := w.Wait(ctx); err != nil { // that another server was first is as good
			return fmt.Errorf("recovering: %w", err)
		}
	}
	if len(list) > 0 {
		s.log.Info("what was stored before the end is decided", "transactions", len(list))
	}
	return nil
}

// tick does what has to be done each second.
func (s *Server) tick(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			s.stats.rotate(s.o.Store.Commits())
			s.state.Sweep(2000)
			s.expire(ctx, now)
			if s.hub.watched() {
				s.hub.statistics(s.statistics())
			}
		}
	}
}

// expire denies challenges that nobody has answered.
func (s *Server) expire(ctx context.Context, now time.Time) {
	ids, err := s.o.Store.Expire(ctx, now)
	if err != nil {
		if ctx.Err() == nil {
			s.log.Error("challenges could not be expired; the next second tries again", "error", err)
		}
		return
	}
	for _, id := range ids {
		s.tell(ctx, id)
	}
}

// tell sends the state of a decision to who watches.
func (s *Server) tell(ctx context.Context, id string) {
	if !s.hub.watched() {
		return
	}
	r, err := s.o.Store.Find(ctx, id)
	if err != nil {
		s.log.Error("an outcome could not be shown", "transaction", id, "error", err)
		return
	}
	s.hub.outcome(r.Entry())
}

// keep sees to it that the version is loaded again after Picket was away.
func (s *Server) keep(ctx context.Context) {
	const pause = 500 * time.Millisecond
	for {
		if s.o.Scorer.Current() != nil {
			select {
			case <-ctx.Done():
				return
			case <-s.guard.Lost():
			}
		}
		s.mu.Lock()
		m := s.wanted
		s.mu.Unlock()
		if m == nil {
			m = s.first
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := s.use(attempt, m)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("the model is not there; rules decide", "version", m.Version, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
