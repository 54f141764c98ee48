// Package failure turns the engine's errors into what protocols tell their
// clients: one code, the same on every protocol, and one sentence of bounded
// length.
package failure

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
)

// ErrDenied is what clients may not do over the connection that they ask over. No engine knows of it.
var ErrDenied = errors.New("not permitted")

// kinds maps the errors to codes. An error wraps at most one.
var kinds = [...]struct {
	err  error
	code codes.Code
}{
	{ErrDenied, codes.PermissionDenied},
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

// Clip shortens what a client sent so that it can be sent back in a sentence.
func Clip[Text string | []byte](sent Text) string { return Shorten(string(sent), 64) }

// Counted is a number with its noun: "1 row", "2 rows".
func Counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// ValidText replaces what is not UTF-8: clients fail to read a whole message for
// one bad name in it.
func ValidText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
