package engine

import (
	"context"
	"errors"
	"time"
)

// Timing is where the time of one request went, as Stats adds it up for all. The
// engine fills it in for a request that has one, and does no work for others.
type Timing struct {
	// Arrived is when Predict was called, Total how long it took.
	Arrived time.Time
	Total   time.Duration
	// Queue is from the arrival to the start of the run, Run the run with gathering,
	// Reply from the end of the run to the return of Predict. Together they are
	// Total. Of a request that was not run, or whose caller did not wait for the
	// end of its run, they are 0.
	Queue, Run, Reply time.Duration
	// BatchRows and BatchRequests are what was in the run, this request included;
	// 0 where it is not known.
	BatchRows, BatchRequests int
	// Inline says that it was run on the thread that brought it.
	Inline bool
	// Left is what the caller gave up: waiting for its turn, or for its run to end.
	Left Left
}

// Left is how far a request was when its caller gave it up.
type Left uint8

// The zero Left is that of a caller that stayed.
const (
	Stayed Left = iota
	LeftWaiting
	LeftRunning
)

// String is the word for logs and traces.
func (l Left) String() string { return [...]string{"stayed", "waiting", "running"}[l] }

// ran is the run that a request was part of. The zero value is that of none.
type ran struct {
	start, end     int64 // nanoseconds of clock
	rows, requests int
	inline         bool
}

// ranIn tells those of a batch that want to know when it was run, before they are
// answered. The callers of some may have left: only what is the engine's is touched.
func ranIn(batch []*Request, start, end int64, rows int) {
	clients := 0
	for _, r := range batch {
		if r.Timing == nil {
			continue
		}
		if clients == 0 {
			for _, each := range batch {
				clients += int(each.count())
			}
		}
		r.ran = ran{start: start, end: end, rows: rows, requests: clients}
	}
}

// tell fills in the Timing of a request that Predict returns from at the time end.
func (r *Request) tell(end int64) {
	t := r.Timing
	*t = Timing{Arrived: epoch.Add(time.Duration(r.arrived - 1)), Total: time.Duration(end - r.arrived)}
	switch r.left {
	case requestQueued:
		t.Left = LeftWaiting
		return
	case requestRunning:
		t.Left = LeftRunning // and r.ran is not ours to look at
		return
	}
	if r.ran.end == 0 {
		return // refused, or too late
	}
	t.Queue = time.Duration(r.ran.start - r.arrived)
	t.Run = time.Duration(r.ran.end - r.ran.start)
	t.Reply = time.Duration(end - r.ran.end)
	t.BatchRows, t.BatchRequests, t.Inline = r.ran.rows, r.ran.requests, r.ran.inline
}

// Outcome is what Stats counts an answer as: "ok", or the kind of failure.
func Outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, kind := range failureKinds {
		if kind.err == nil || errors.Is(err, kind.err) {
			return kind.name
		}
	}
	return ""
}

// Observer is told of models that come and go. Its methods may be called by many
// goroutines at once.
type Observer interface {
	// Changing is called when a change begins, with the context of whoever asked
	// for it. What it returns, never nil, is called once when the change has
	// succeeded or failed; the Description is that of the model that was loaded.
	Changing(ctx context.Context, c Change) func(Description, error)
}

// Change is a model that comes or goes.
type Change struct {
	Kind  ChangeKind
	Model string
	URL   string // of what is to be loaded
}

// ChangeKind is the call that was made.
type ChangeKind uint8

// A model comes under a name that is free, or under one that another had, or goes.
const (
	Loading ChangeKind = iota
	Replacing
	Unloading
)

// String is the word for logs and traces.
func (k ChangeKind) String() string { return [...]string{"load", "replace", "unload"}[k] }

// changing tells the observer, if there is one, and returns what to tell it after.
func (e *Engine) changing(ctx context.Context, c Change) func(Description, error) {
	if e.observer == nil {
		return func(Description, error) {}
	}
	return e.observer.Changing(ctx, c)
}
