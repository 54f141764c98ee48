// Package failure turns the engine's errors into what protocols tell their
// clients: one code, the same on every protocol, and one sentence of bounded
// length.
package failure

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
)

// kinds maps the engine's errors. An error wraps at most one.
var kinds = [...]struct {
	err  error
	code codes.Code
}{
	{engine.ErrNotFound, codes.NotFound},
	{engine.ErrExists, codes.AlreadyExists},
	{engine.ErrInvalidName, codes.InvalidArgument},
	{engine.ErrInvalidInput, codes.InvalidArgument},
	{engine.ErrBusy, codes.ResourceExhausted},
	{engine.ErrMemory, codes.ResourceExhausted},
	{engine.ErrDeadline, codes.DeadlineExceeded},
	{engine.ErrCanceled, codes.Canceled},
	{engine.ErrArtifact, codes.FailedPrecondition},
	{engine.ErrHost, codes.FailedPrecondition},
	{engine.ErrTrust, codes.FailedPrecondition},
	{engine.ErrSignature, codes.FailedPrecondition},
	{engine.ErrUnsupported, codes.FailedPrecondition},
	{engine.ErrClosed, codes.Unavailable},
	{engine.ErrRun, codes.Internal},
	// A context that ended in a place that does not translate it.
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

// Code is the code of err: OK for nil, Internal for an error of no kind. What is
// Internal went wrong inside the daemon, and its text is for the log, not for the
// client.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k.code
		}
	}
	return codes.Internal
}

// MaxSentence is the most bytes of a sentence that a client is told.
const MaxSentence = 1 << 10

// Shorten cuts s to at most n bytes of valid UTF-8.
func Shorten(s string, n int) string {
	const ellipsis = " ..."
	if len(s) > n {
		s = s[:n-len(ellipsis)] + ellipsis
	}
	return strings.ToValidUTF8(s, "")
}
