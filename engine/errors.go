package engine

import "errors"

// The kinds of failure a caller can act on. Every error the package returns
// wraps at most one of them; what was being done and what to do is in the text.
// Codecs map kinds to the status codes of their protocol.
var (
	// ErrInvalidName: the name of a model is not of the documented form.
	ErrInvalidName = errors.New("invalid model name")
	// ErrNotFound: no model of that name, or nothing where the artifact should be.
	ErrNotFound = errors.New("not found")
	// ErrExists: a model of that name is loaded or being loaded; it keeps serving.
	ErrExists = errors.New("already loaded")
	// ErrInvalidInput: the request's tensors do not fit the model's signature.
	ErrInvalidInput = errors.New("invalid input")
	// ErrBusy: refused at admission because the queue is full, or because the
	// request could not be answered before its deadline. Worth retrying later.
	ErrBusy = errors.New("busy")
	// ErrDeadline: the deadline passed before the answer was there.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrCanceled: the caller gave up.
	ErrCanceled = errors.New("canceled")
	// ErrClosed: the engine is shutting down.
	ErrClosed = errors.New("shutting down")
	// ErrArtifact: the artifact is damaged, or is none that a backend knows.
	ErrArtifact = errors.New("unusable artifact")
	// ErrHost: the artifact is sound but was not built for this host.
	ErrHost = errors.New("not built for this host")
	// ErrTrust: policy forbids opening the artifact.
	ErrTrust = errors.New("not trusted")
	// ErrMemory: there is not enough memory.
	ErrMemory = errors.New("out of memory")
	// ErrSignature: a replacement takes or gives other tensors than the model
	// it was to replace.
	ErrSignature = errors.New("signature differs")
	// ErrUnsupported: a backend that matched an artifact turned out not to
	// support it; the next candidate is asked.
	ErrUnsupported = errors.New("not supported")
	// ErrRun: the backend failed while running the model.
	ErrRun = errors.New("run failed")
)
