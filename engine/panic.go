package engine

import (
	"errors"
	"io"
	"log/slog"
	"runtime/debug"
)

// A backend that panics has a bug, or was given an artifact that nobody thought
// of, but the other models are not at fault: what it was doing fails and the
// daemon goes on. A native library that crashes cannot be contained like that.

var errPanicked = errors.New("the backend panicked")

// panicked is the error for p, which recover gave; what it was is for the log.
func panicked(log *slog.Logger, model string, p any) error {
	log.Error("a backend panicked", "model", model, "panic", p, "stack", string(debug.Stack()))
	return errPanicked
}

// contain is deferred around calls of a backend: it turns a panic into *err.
func contain(log *slog.Logger, model string, err *error) {
	if p := recover(); p != nil {
		*err = panicked(log, model, p)
	}
}

// describe asks a model what it says of itself.
func describe(log *slog.Logger, name string, m Model) (s Signature, p Properties, err error) {
	defer contain(log, name, &err)
	return m.Signature(), m.Properties(), nil
}

// closing closes an instance or a model. That this fails is for the log: there is
// nobody who could do more about it.
func closing(log *slog.Logger, what, model, backend string, c io.Closer) {
	err := func() (err error) {
		defer contain(log, model, &err)
		return c.Close()
	}()
	if err != nil {
		log.Error("closing what was loaded", "what", what, "model", model, "backend", backend, "error", err)
	}
}
