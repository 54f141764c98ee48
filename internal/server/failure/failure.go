// Package failure turns the engine's errors into what protocols tell their
// clients: one code, the same on every protocol, and one sentence of bounded
// length.
package failure

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/picket-ml/picket/engine"
)

// What servers refuse without the engine.
var (
	// ErrDenied is what clients may not do over the connection that they ask over.
	ErrDenied = errors.New("not permitted")
	// ErrTooLarge is a request for which there never would be room.
	ErrTooLarge = errors.New("too large")
)

// kinds maps the errors to codes. An error wraps at most one. First are those of an
// overload, in which most of the work is to refuse.
var kinds = [...]struct {
	err  error
	code codes.Code
}{
	{engine.ErrBusy, codes.ResourceExhausted},
	{ErrDenied, codes.PermissionDenied},
	{ErrTooLarge, codes.ResourceExhausted},
	{engine.ErrNotFound, codes.NotFound},
	{engine.ErrExists, codes.AlreadyExists},
	{engine.ErrInvalidName, codes.InvalidArgument},
	{engine.ErrInvalidInput, codes.InvalidArgument},
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

// Bounds of what clients are told to wait before they ask again.
const (
	MinRetry = time.Millisecond
	MaxRetry = time.Second
)

// RetryAfter is when asking again has a chance after err, 0 where it has none. backlog is how long those before take, 0 where that is
// not known.
func RetryAfter(err error, backlog time.Duration) time.Duration {
	switch {
	case !errors.Is(err, engine.ErrBusy) && !errors.Is(err, engine.ErrMemory):
		return 0
	case backlog == 0:
		return unknownBacklog
	}
	return min(max(backlog, MinRetry), MaxRetry)
}

// unknownBacklog is what clients are told to wait where nobody knows better.
const unknownBacklog = 100 * time.Millisecond

// Status is an error of gRPC. Where asking again has a chance, retry says when, and a google.rpc.RetryInfo in the details tells it.
func Status(code codes.Code, sentence string, retry time.Duration, details ...protoadapt.MessageV1) error {
	st := status.New(code, Shorten(sentence, MaxSentence))
	if retry > 0 {
		details = append(details, protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(retry)}))
	}
	if len(details) == 0 {
		return st.Err()
	}
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
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
