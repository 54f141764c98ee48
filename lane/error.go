package lane

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Code is the kind of a failure: the numbers and meanings of gRPC's status codes.
type Code uint32

// The codes that the daemon uses.
const (
	Canceled           Code = 1
	InvalidArgument    Code = 3  // the request does not fit the model
	DeadlineExceeded   Code = 4  // the deadline passed before there was an answer
	NotFound           Code = 5  // no model of that name is loaded
	ResourceExhausted  Code = 8  // the daemon is busy: try again after Error.RetryAfter
	FailedPrecondition Code = 9  // another model with other tensors has the name now
	Unimplemented      Code = 12 // the model cannot be used over the lane
	Internal           Code = 13 // the model failed
	Unavailable        Code = 14 // the daemon is not there, or ended
)

var codeNames = map[Code]string{
	Canceled: "canceled", InvalidArgument: "invalid argument", DeadlineExceeded: "deadline exceeded", NotFound: "not found",
	ResourceExhausted: "resource exhausted", FailedPrecondition: "failed precondition", Unimplemented: "unimplemented",
	Internal: "internal", Unavailable: "unavailable",
}

// String is the code's name.
func (c Code) String() string {
	if name := codeNames[c]; name != "" {
		return name
	}
	return "code " + strconv.FormatUint(uint64(c), 10)
}

// ErrUnavailable is what errors with the code Unavailable answer to.
var ErrUnavailable = errors.New("the daemon is not available")

// Error is why there is no answer.
type Error struct {
	Code Code
	// RetryAfter is after what time asking again has a chance; 0 for no hint.
	RetryAfter time.Duration
	// Sentence says what is wrong and, where it helps, what to do.
	Sentence string

	cause error // of the connection; nil where the daemon said it
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Sentence
	if code := e.Code.String() + ": "; !strings.HasPrefix(s, code) { // most of the daemon's begin with what went wrong
		s = code + s
	}
	if e.cause != nil {
		s += ": " + e.cause.Error()
	}
	return s
}

// Unwrap gives the cause, if it is not the daemon.
func (e *Error) Unwrap() error { return e.cause }

// Is lets errors.Is find the contexts' errors and ErrUnavailable.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case Canceled:
		return target == context.Canceled
	case DeadlineExceeded:
		return target == context.DeadlineExceeded
	case Unavailable:
		return target == ErrUnavailable
	}
	return false
}

func invalid(format string, args ...any) error {
	return &Error{Code: InvalidArgument, Sentence: fmt.Sprintf(format, args...)}
}

// unavailable is the error of a connection that does not work.
func unavailable(sentence string, cause error) *Error {
	return &Error{Code: Unavailable, Sentence: sentence, cause: cause}
}
