package agent

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// kind is how one kind of failure is told to clients.
type kind struct {
	err  error
	code codes.Code
	// load is the sentence when loading a model failed: no digits.
	load string
}

// kinds maps the engine's errors. An error wraps at most one.
var kinds = [...]kind{
	{engine.ErrNotFound, codes.NotFound, "nothing is at the url"},
	{engine.ErrExists, codes.AlreadyExists, "a model of that name is loaded and keeps serving: unload it first, or choose another name"},
	{engine.ErrInvalidName, codes.InvalidArgument, "the model name is not valid: it is too long, or has other characters than letters, digits and inner hyphens"},
	{engine.ErrInvalidInput, codes.InvalidArgument, "the request does not fit"},
	{engine.ErrBusy, codes.ResourceExhausted, "the daemon is busy: try again later"},
	{engine.ErrMemory, codes.ResourceExhausted, "there is not enough memory for the model"},
	{engine.ErrDeadline, codes.DeadlineExceeded, "the deadline passed while the model was loaded"},
	{engine.ErrCanceled, codes.Canceled, "canceled by the caller"},
	{engine.ErrArtifact, codes.FailedPrecondition, "the package is not usable: it is no folder, is damaged, or has no format that a backend knows"},
	{engine.ErrHost, codes.FailedPrecondition, "the model was not built for this machine: compile it for this machine"},
	{engine.ErrTrust, codes.FailedPrecondition, "the package is not trusted: its place or its missing signature is not allowed by the daemon's configuration"},
	{engine.ErrSignature, codes.FailedPrecondition, "the model takes or gives other tensors than the one it was to replace"},
	{engine.ErrUnsupported, codes.FailedPrecondition, "the model uses what no backend of this daemon supports"},
	{engine.ErrClosed, codes.Unavailable, "the daemon is shutting down"},
	{engine.ErrRun, codes.Internal, "the model failed its first run"},
}

// internal is for errors of no kind.
var internal = kind{nil, codes.Internal, "loading the model failed"}

func kindOf(err error) kind {
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			return k
		}
	}
	// A context that ended in a place that does not translate it.
	switch {
	case errors.Is(err, context.Canceled):
		return kind{err, codes.Canceled, "canceled by the caller"}
	case errors.Is(err, context.DeadlineExceeded):
		return kind{err, codes.DeadlineExceeded, "the deadline passed while the model was loaded"}
	}
	return internal
}

const (
	// maxMessageBytes keeps a status below the 8 KiB of headers that some
	// clients accept, percent-encoded as it is.
	maxMessageBytes = 1 << 10
	maxDetailBytes  = 2 << 10
)

// status turns an error into a gRPC status. What went wrong inside the daemon
// is for the log, not for the client.
func (s *service) status(doing, model string, err error) error {
	k := kindOf(err)
	if k.code == codes.Internal {
		s.log.Error("a call failed", "doing", doing, "model", model, "error", err)
		return status.Error(codes.Internal, doing+": the model failed; the reason is in the daemon's log")
	}
	return status.Error(k.code, shorten(err.Error(), maxMessageBytes))
}

// loadStatus turns an error of LoadModel into a gRPC status whose message has no
// digits: the error's own text where it has none, else the sentence of its kind.
// The whole text is in the details, and so is the reason where policy refused the
// package. The engine has logged it.
func loadStatus(err error) error {
	k := kindOf(err)
	message := err.Error()
	if cause := errors.Unwrap(err); cause != nil && strings.HasPrefix(message, "loading model ") {
		message = cause.Error() // the client knows which name it sent
	}
	if k.code == codes.Internal || strings.ContainsAny(message, "0123456789") {
		message = k.load + "; the status details and the daemon's log say more"
	}
	st := status.New(k.code, shorten(message, maxMessageBytes))
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(wrapperspb.String(shorten(err.Error(), maxDetailBytes)))}
	if errors.Is(err, engine.ErrTrust) {
		details = append(details, protoadapt.MessageV1Of(&errdetails.ErrorInfo{Domain: agentapi.ErrorDomain, Reason: agentapi.ReasonNotTrusted}))
	}
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st.Err()
}

// shorten cuts s to at most n bytes of valid UTF-8.
func shorten(s string, n int) string {
	const ellipsis = " ..."
	if len(s) > n {
		s = s[:n-len(ellipsis)] + ellipsis
	}
	return strings.ToValidUTF8(s, "")
}
