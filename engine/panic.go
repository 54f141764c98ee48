package engine

import (
	"errors"
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
