package application

import (
	"context"
	"errors"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/store"
)

var (
	errOther = errors.New("this id was used for another transaction; give each one its own")
	errPast  = errors.New("this transaction came with the history that was imported, and was decided elsewhere")
	errBusy  = errors.New("too many transactions wait to be stored; send the same again in a second")
	errDB    = errors.New("the transaction could not be stored; send the same again, and it will be decided once")
)

// takeOver is how long another server may have been at a transaction before this one decides about it.
const takeOver = time.Second

// flight is a transaction that is being decided. Whoever sends it again meanwhile waits for the same decision.
type flight struct {
	transaction features.Transaction
	done        chan struct{}
	decision    *api.Decision
	err         error
}

// decide gives the one decision about a transaction. It is made even if ctx ends, so that it is there when the client asks again.
func (s *Server) decide(ctx context.Context, id string, t *features.Transaction) (*api.Decision, error) {
	s.mu.Lock()
	if f := s.flights[id]; f != nil {
		s.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if f.transaction != *t {
			return nil, errOther
		}
		return f.decision, f.err
	}
	f := &flight{transaction: *t, done: make(chan struct{})}
	s.flights[id] = f
	seen := s.recent.has(t.Key)
	s.mu.Unlock()

	f.decision, f.err = s.once(context.WithoutCancel(ctx), id, &f.transaction, seen)
	s.mu.Lock()
	delete(s.flights, id)
	s.recent.add(t.Key)
	s.mu.Unlock()
	close(f.done)
	return f.decision, f.err
}

// once decides about a transaction that nobody else in this process is at. seen says that its id may have been here not long ago.
func (s *Server) once(ctx context.Context, id string, t *features.Transaction, seen bool) (*api.Decision, error) {
	if seen {
		if d, err := s.known(ctx, id, t); d != nil || err != nil {
			return d, err
		}
	}
	began := time.Now()
	// Stored and scored at the same time: the write is on its way when the profile is made.
	put, err := s.o.Store.Put(id, t)
	if err != nil {
		return nil, s.cannotStore(id, err)
	}
	profile := make([]float32, features.Count)
	s.state.Observe(t, profile)
	d := s.judge(ctx, id, profile, began)
	write, err := s.o.Store.Decide(d, &put)
	if err != nil {
		// The transaction may be stored; then the next request with its id, or the next start, decides.
		_, _ = put.Wait(ctx) // so that nobody writes it any more when its place is free
		s.state.Remove(t)
		return nil, s.cannotStore(id, err)
	}
	inserted, err := write.Wait(ctx)
	if err != nil {
		s.state.Remove(t)
		return nil, s.cannotStore(id, err)
	}
	if inserted {
		s.decided(id, t, d)
		return &d.Decision, nil
	}
	fresh, err := put.Wait(ctx) // it has ended, before the decision did
	if !fresh {
		s.state.Remove(t)
	}
	if err != nil {
		return nil, s.cannotStore(id, err)
	}
	// Another was first: with the transaction, or with the decision.
	stored, err := s.known(ctx, id, t)
	if stored == nil && err == nil {
		err = s.cannotStore(id, errors.New("it is neither new nor there"))
	}
	return stored, err
}

// known is the decision about a transaction that is in the database, or nil if it is not there. One without a decision is another server's, or was: it has
// some time to decide, then this one does.
func (s *Server) known(ctx context.Context, id string, t *features.Transaction) (*api.Decision, error) {
	for waited := time.Duration(0); ; waited += takeOver / 20 {
		r, err := s.o.Store.Find(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, s.cannotStore(id, err)
		}
		if r.Transaction != *t {
			return nil, errOther
		}
		if r.Imported {
			return nil, errPast
		}
		if r.Decision != nil {
			return &r.Decision.Decision, nil
		}
		if waited >= takeOver || time.Since(r.Stored) > 2*takeOver {
			return s.adopt(ctx, id, t)
		}
		time.Sleep(takeOver / 20)
	}
}

// adopt decides about a transaction that is stored and that nobody decides about.
func (s *Server) adopt(ctx context.Context, id string, t *features.Transaction) (*api.Decision, error) {
	profile := make([]float32, features.Count)
	s.state.Observe(t, profile)
	d := s.judge(ctx, id, profile, time.Now())
	d.Recovered = true
	write, err := s.o.Store.Decide(d, nil)
	if err != nil {
		s.state.Remove(t)
		return nil, s.cannotStore(id, err)
	}
	inserted, err := write.Wait(ctx)
	if err != nil {
		s.state.Remove(t)
		return nil, s.cannotStore(id, err)
	}
	if inserted {
		s.decided(id, t, d)
		return &d.Decision, nil
	}
	r, err := s.o.Store.Find(ctx, id)
	if err != nil || r.Decision == nil {
		return nil, s.cannotStore(id, errors.Join(err, errors.New("its decision is neither new nor there")))
	}
	return &r.Decision.Decision, nil
}

// judge makes a decision, by the model or by rules.
func (s *Server) judge(ctx context.Context, id string, profile []float32, began time.Time) *store.Decision {
	d := &store.Decision{Profile: profile}
	d.Transaction = id
	s.guard.Decide(ctx, profile, &d.Decision)
	now := time.Now().UTC().Truncate(time.Microsecond) // as the database has it
	switch d.Verdict {
	case api.Approve:
		d.Status = api.Approved
	case api.Deny:
		d.Status = api.Denied
	case api.Challenge:
		d.Status = api.Waiting
		d.Factor = &api.Factor{Expires: now.Add(s.o.Expiry), Attempts: s.o.Attempts}
	}
	d.Decided, d.Microseconds = now, now.Sub(began).Microseconds()
	return d
}

// decided counts a decision and shows it.
func (s *Server) decided(id string, t *features.Transaction, d *store.Decision) {
	s.stats.decided(&d.Decision)
	if s.hub.watched() {
		s.hub.decision(api.Entry{Transaction: t.API(id), Decision: d.Decision})
	}
}

// cannotStore is what a client is told when the database fails; the cause is for the log.
func (s *Server) cannotStore(id string, err error) error {
	if errors.Is(err, store.ErrBusy) {
		return errBusy
	}
	s.log.Error("a transaction could not be stored or read", "transaction", id, "error", err)
	return errDB
}

// recent remembers which ids were here not long ago, so that a retry is looked up before anything is done for it. Forgetting one costs time and nothing else.
type recent struct {
	set  map[uint64]struct{}
	ring []uint64
	next int
}

const recentIDs = 1 << 16

func newRecent() *recent {
	return &recent{set: make(map[uint64]struct{}, recentIDs), ring: make([]uint64, 0, recentIDs)}
}

func (r *recent) has(key uint64) bool { _, ok := r.set[key]; return ok }

func (r *recent) add(key uint64) {
	if r.has(key) {
		return
	}
	if len(r.ring) < recentIDs {
		r.ring = append(r.ring, key)
	} else {
		delete(r.set, r.ring[r.next])
		r.ring[r.next] = key
		r.next = (r.next + 1) % recentIDs
	}
	r.set[key] = struct{}{}
}
