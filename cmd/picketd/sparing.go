package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A kind of line may be written lineBurst times at once, and linesPerSecond times a
// second for ever. What is left out is counted in a line of its own, once in
// countEvery.
const (
	lineBurst      = 200
	linesPerSecond = 2
	countEvery     = 10 * time.Second
	// maxKinds bounds the memory for kinds: clients have a part in what lines say.
	maxKinds = 1000
)

// sparing is a slog.Handler that keeps clients from filling the disk with what the
// daemon says of them. Lines are of one kind that have the same level and text, the
// same error, and were caused by the same user: no flood hides another kind's
// lines, or those of another user. Debug lines are for those who want all.
type sparing struct {
	slog.Handler
	kinds *kinds
}

// kinds are the kinds of lines that were written lately.
type kinds struct {
	mu      sync.Mutex
	of      map[kind]*allowance
	counted *time.Timer // when what was left out is counted; nil while nothing is
}

// kind is what lines have in common that count as the same.
type kind struct {
	level           slog.Level
	message         string
	failure, caller string
}

// allowance is what may still be written of a kind.
type allowance struct {
	lines   float64
	at      time.Time // when there were so many
	leftOut int
	handler slog.Handler // of the line that was left out last
}

func newSparing(h slog.Handler) *sparing {
	return &sparing{Handler: h, kinds: &kinds{of: make(map[kind]*allowance)}}
}

// WithAttrs implements slog.Handler.
func (s *sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sparing{s.Handler.WithAttrs(attrs), s.kinds}
}

// WithGroup implements slog.Handler.
func (s *sparing) WithGroup(name string) slog.Handler {
	return &sparing{s.Handler.WithGroup(name), s.kinds}
}

// Handle implements slog.Handler.
func (s *sparing) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo || s.kinds.allow(kindOf(&r), s.Handler) {
		return s.Handler.Handle(ctx, r)
	}
	return nil
}

func kindOf(r *slog.Record) kind {
	k := kind{level: r.Level, message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "error":
			k.failure = a.Value.String()
		case "caller":
			k.caller = callerOf(a.Value)
		}
		return true
	})
	return k
}

// callerOf is the user who caused a line. Processes come and go.
func callerOf(v slog.Value) string {
	if v.Kind() != slog.KindGroup {
		return v.String()
	}
	for _, a := range v.Group() {
		if a.Key == "uid" {
			return a.Value.String()
		}
	}
	return ""
}

// allow tells whether a line of that kind may be written, and counts it if not.
func (k *kinds) allow(one kind, h slog.Handler) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	a := k.of[one]
	if a == nil {
		if len(k.of) >= maxKinds {
			k.forget(now)
		}
		if len(k.of) >= maxKinds {
			// Too many to be told apart: they share what the level has.
			one = kind{level: one.level}
			a = k.of[one]
		}
		if a == nil {
			a = &allowance{lines: lineBurst, at: now}
			k.of[one] = a
		}
	}
	a.earn(now)
	if a.lines >= 1 {
		a.lines--
		return true
	}
	a.leftOut++
	a.handler = h
	if k.counted == nil {
		k.counted = time.AfterFunc(countEvery, k.count)
	}
	return false
}

// earn adds what time has allowed since.
func (a *allowance) earn(now time.Time) {
	a.lines = min(a.lines+linesPerSecond*now.Sub(a.at).Seconds(), lineBurst)
	a.at = now
}

// forget drops the kinds of which all is allowed again. The lock is held.
func (k *kinds) forget(now time.Time) {
	for one, a := range k.of {
		if a.earn(now); a.lines == lineBurst && a.leftOut == 0 {
			delete(k.of, one)
		}
	}
}

// count says how many lines were left out.
func (k *kinds) count() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counted = nil
	for one, a := range k.of {
		if a.leftOut == 0 {
			continue
		}
		r := slog.NewRecord(time.Now(), one.level, "lines of the log were left out: there were more like this than are written", 0)
		r.AddAttrs(slog.String("like", one.message), slog.Int("left_out", a.leftOut))
		if one.failure != "" {
			r.AddAttrs(slog.String("error", one.failure))
		}
		if one.caller != "" {
			r.AddAttrs(slog.String("caller", one.caller))
		}
		_ = a.handler.Handle(context.Background(), r) // where the log cannot be written to there is nobody to tell
		a.leftOut, a.handler = 0, nil
	}
}

// end says what count would have said later.
func (s *sparing) end() {
	s.kinds.mu.Lock()
	pending := s.kinds.counted != nil && s.kinds.counted.Stop()
	s.kinds.mu.Unlock()
	if pending {
		s.kinds.count()
	}
}
