package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/picket-ml/picket/internal/config"
)

// logSettings are what of the log can be changed while it is written.
type logSettings struct {
	level slog.LevelVar
	json  atomic.Bool
	// end writes what is still to be said of lines that were left out. Whoever ends
	// the daemon calls it.
	end func()
}

func (s *logSettings) set(c config.Log) {
	s.level.Set(c.Level)
	s.json.Store(c.Format == "json")
}

// newLogger makes a log whose settings can be changed, and that clients cannot fill.
func newLogger(c config.Log, to io.Writer) (*slog.Logger, *logSettings) {
	s := &logSettings{}
	s.set(c)
	options := &slog.HandlerOptions{Level: &s.level}
	sparing := newSparing(&handler{json: &s.json, forms: [2]slog.Handler{slog.NewTextHandler(to, options), slog.NewJSONHandler(to, options)}})
	s.end = sparing.end
	return slog.New(sparing), s
}

// handler writes text or JSON, as is wanted when it writes.
type handler struct {
	json  *atomic.Bool
	forms [2]slog.Handler
}

func (h *handler) form() slog.Handler {
	if h.json.Load() {
		return h.forms[1]
	}
	return h.forms[0]
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.form().Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) error { return h.form().Handle(ctx, r) }

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.json, [2]slog.Handler{h.forms[0].WithAttrs(attrs), h.forms[1].WithAttrs(attrs)}}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.json, [2]slog.Handler{h.forms[0].WithGroup(name), h.forms[1].WithGroup(name)}}
}
