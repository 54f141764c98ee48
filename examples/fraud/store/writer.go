package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
)

// What waiting for a write may end with.
var (
	// ErrBusy says that too many writes wait already. Nothing was stored.
	ErrBusy = errors.New("too many transactions wait to be stored")
	// ErrClosed says that the store is closing.
	ErrClosed = errors.New("the store is closed")
)

const (
	// maxBatch bounds a commit, and with it what one failure makes fail.
	maxBatch = 512
	// commitTimeout is how long a commit may take before its transactions are answered with an error.
	commitTimeout = 10 * time.Second
)

// write is a row of transactions, or of decisions, on its way into the database.
type write struct {
	id          string
	server      string                // of a transaction: who stores it
	transaction *features.Transaction // nil for a decision
	decision    *Decision
	reasons     string // in JSON
	first       *write // of a decision: the write of its transaction, where that went through the same Store
	stored      int64  // microseconds; of a transaction

	done     chan struct{}
	inserted bool // false where there was one already; valid without err
	err      error
}

// Write is a row on its way. Wait says what became of it.
type Write struct{ w *write }

// Wait returns when the write is durable: true, or false where the database had a row of this id already, which it keeps. An error leaves it open
// whether it was stored.
func (w Write) Wait(ctx context.Context) (inserted bool, err error) {
	select {
	case <-w.w.done:
		return w.w.inserted, w.w.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// writer commits what waits, as much as there is at once.
type writer struct {
	db      database
	ended   chan struct{}
	mu      sync.Mutex
	wake    chan struct{} // has room for one
	waiting []*write
	spare   []*write
	limit   int
	closed  bool
	latest  int64
	took    *hdrhistogram.Histogram // of commits since Commits was asked, in microseconds
}

func newWriter(db database, limit int) *writer {
	w := &writer{db: db, limit: limit, ended: make(chan struct{}), wake: make(chan struct{}, 1), took: newHistogram()}
	go w.run()
	return w
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

// Put begins to store a transaction. It never waits: with too many under way it fails with ErrBusy. The transaction must not change until Wait has returned.
func (s *Store) Put(id string, t *features.Transaction) (Write, error) {
	w := &write{id: id, server: s.server, transaction: t, done: make(chan struct{})}
	return Write{w}, s.writer.add(w, s.writer.limit)
}

// Decide begins to store the decision about a transaction. put is its write where it went through this Store: if that finds the transaction in the database already, the decision is not stored
// and Wait says false, because it may be about another. Without put the transaction must be in the database.
func (s *Store) Decide(d *Decision, put *Write) (Write, error) {
	reasons, err := json.Marshal(d.Reasons)
	if err != nil {
		return Write{}, fmt.Errorf("writing the reasons of %s: %w", d.Transaction, err)
	}
	w := &write{id: d.Transaction, decision: d, reasons: string(reasons), done: make(chan struct{})}
	if put != nil {
		w.first = put.w
	}
	// A transaction that was let in is let through: each has one decision.
	return Write{w}, s.writer.add(w, 2*s.writer.limit)
}

// Waiting is how many writes wait, and Limit at how many new transactions are refused.
func (s *Store) Waiting() (waiting, limit int) {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.waiting), s.writer.limit
}

// Commits are how long commits took since it was last asked.
func (s *Store) Commits() api.Quantiles {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	h := s.writer.took
	q := api.Quantiles{P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
	h.Reset()
	return q
}

func (w *writer) add(one *write, limit int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return ErrClosed
	}
	if len(w.waiting) >= limit {
		return ErrBusy
	}
	if one.transaction != nil {
		// The order of arrival is the order of these times, also where the clock stands still or goes back.
		w.latest = max(w.latest+1, time.Now().UnixMicro())
		one.stored = w.latest
	}
	w.waiting = append(w.waiting, one)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// take waits for work. It gives nil at the end.
func (w *writer) take() []*write {
	for {
		w.mu.Lock()
		n := min(len(w.waiting), maxBatch)
		batch := w.spare[:0]
		batch = append(batch, w.waiting[:n]...)
		rest := copy(w.waiting, w.waiting[n:])
		clear(w.waiting[rest:])
		w.waiting = w.waiting[:rest]
		closed := w.closed
		w.mu.Unlock()
		w.spare = batch
		if n > 0 {
			return batch
		}
		if closed {
			return nil
		}
		<-w.wake
	}
}

func (w *writer) run() {
	defer close(w.ended)
	for batch := w.take(); batch != nil; batch = w.take() {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
		err := w.db.commit(ctx, batch)
		cancel()
		took := time.Since(began)
		w.mu.Lock()
		_ = w.took.RecordValue(min(max(1, took.Microseconds()), 60_000_000)) // always within its range
		w.mu.Unlock()
		if err != nil {
			err = fmt.Errorf("storing %d transactions and decisions: %w", len(batch), err)
		}
		for i, one := range batch {
			one.err = err
			close(one.done)
			batch[i] = nil
		}
	}
}

// refused tells that a decision is about a transaction that was not stored by its own write.
func (w *write) refused() bool {
	return w.first != nil && (w.first.err != nil || !w.first.inserted)
}

func (w *writer) close() {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.ended
}
