package agent

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
)

// loadSentences say without digits why a model could not be loaded, for errors
// whose own text has some.
var loadSentences = [...]struct {
	err      error
	sentence string
}{
	{failure.ErrDenied, "models cannot be loaded over this connection: use the control socket"},
	{engine.ErrNotFound, "nothing is at the url"},
	{engine.ErrExists, "a model of that name is loaded and keeps serving: unload it first, or choose another name"},
	{engine.ErrInvalidName, "the model name is not valid: it is too long, or has other characters than letters, digits and inner hyphens"},
	{engine.ErrInvalidInput, "the request does not fit"},
	{engine.ErrBusy, "the daemon is busy: try again later"},
	{engine.ErrMemory, "there is not enough memory for the model"},
	{engine.ErrDeadline, "the deadline passed while the model was loaded"},
	{engine.ErrCanceled, "canceled by the caller"},
	{engine.ErrArtifact, "the package is not usable: it is no folder, is damaged, or has no format that a backend knows"},
	{engine.ErrHost, "the model was not built for this machine: compile it for this machine"},
	{engine.ErrTrust, "the package is not trusted: its place or its missing signature is not allowed by the daemon's configuration"},
	{engine.ErrSignature, "the model takes or gives other tensors than the one it was to replace"},
	{engine.ErrUnsupported, "the model uses what no backend of this daemon supports"},
	{engine.ErrClosed, "the daemon is shutting down"},
	{engine.ErrRun, "the model failed its first run"},
	// A context that ended in a place that does not translate it.
	{context.Canceled, "canceled by the caller"},
	{context.DeadlineExceeded, "the deadline passed while the model was loaded"},
}

func loadSentence(err error) string {
	for _, l := range loadSentences {
		if errors.Is(err, l.err) {
			return l.sentence
		}
	}
	return "loading the model failed"
}

// maxDetailBytes, like failure.MaxSentence, keeps a status below the 8 KiB of
// headers that some clients accept, percent-encoded as it is.
const maxDetailBytes = 2 << 10

// status turns an error into a gRPC status; retry says when asking again has a
// chance, 0 where it has none. What went wrong inside the daemon
// is for the log, not for the client.
func (s *service) status(doing, model string, err error, retry time.Duration) error {
	code := failure.Code(err)
	if code == codes.Internal {
		s.log.Error("a call failed", "doing", doing, "model", model, "error", err)
		return status.Error(codes.Internal, doing+": the model failed; the reason is in the daemon's log")
	}
	return failure.Status(code, err.Error(), retry)
}

// loadStatus turns an error of LoadModel into a gRPC status whose message has no
// digits: the error's own text where it has none, else the sentence of its kind.
// The whole text is in the details, and so is the reason where policy refused the
// package. The engine has logged it.
func loadStatus(err error) error {
	code := failure.Code(err)
	message := err.Error()
	if cause := errors.Unwrap(err); cause != nil && strings.HasPrefix(message, "loading model ") {
		message = cause.Error() // the client knows which name it sent
	}
	if code == codes.Internal || strings.ContainsAny(message, "0123456789") {
		message = loadSentence(err) + "; the status details and the daemon's log say more"
	}
	details := []protoadapt.MessageV1{protoadapt.MessageV1Of(wrapperspb.String(failure.Shorten(err.Error(), maxDetailBytes)))}
	if errors.Is(err, engine.ErrTrust) {
		details = append(details, protoadapt.MessageV1Of(&errdetails.ErrorInfo{Domain: agentapi.ErrorDomain, Reason: agentapi.ReasonNotTrusted}))
	}
	return failure.Status(code, message, failure.RetryAfter(err, 0), details...)
}
