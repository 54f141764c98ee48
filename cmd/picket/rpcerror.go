package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/oserror"
)

// explain turns the error of a call into a failure. doing says what the call was for; loads tells whether it was to load
// a model.
func (d *daemon) explain(doing string, loads bool, err error) *failure {
	s := status.Convert(err)
	message, code := s.Message(), exitFailed
	for _, detail := range s.Details() {
		switch detail := detail.(type) {
		case *wrapperspb.StringValue:
			// A status of LoadModel has no digits in its message, for the sake of an old client; the details have it whole.
			if detail.GetValue() != "" {
				message = detail.GetValue()
			}
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == agent.ErrorDomain && detail.GetReason() == agent.ReasonNotTrusted {
				code = exitPolicy
			}
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return d.unreachable(doing, message)
	case codes.DeadlineExceeded:
		message = d.late()
	case codes.PermissionDenied:
		code = exitPolicy
		if path := d.place.Beside("control.sock").Address; !d.place.IsPort() && exists(path) {
			message += "; run as a user whom the mode of " + path + " allows"
		}
	case codes.NotFound:
		if !loads {
			message += "; picket list shows what is"
		}
	case codes.AlreadyExists:
		message += ", and what is loaded keeps serving; unload it first, or choose another name"
	case codes.Unimplemented:
		message = "the daemon on " + d.place.Address + " does not know this call; it is older than this picket, or another program: install the same version of both"
	}
	return &failure{code, errors.New(sentence(doing, message))}
}

// late says that no answer came in time.
func (d *daemon) late() string {
	return fmt.Sprintf("no answer within %v; give it longer with --timeout, or look at the daemon's log", d.timeout)
}

// sentence puts what was being done before the message unless the message says it already.
func sentence(doing, message string) string {
	message = oneLine(message)
	verb, _, _ := strings.Cut(doing, " ")
	if strings.HasPrefix(message, verb+" ") {
		return message
	}
	return doing + ": " + strings.TrimPrefix(message, verb+": ")
}

// unreachable says why nobody answers, and what to do. message is what the library says of it.
func (d *daemon) unreachable(doing, message string) *failure {
	d.mu.Lock()
	err, last := d.dialErr, d.last
	d.mu.Unlock()
	switch {
	case err != nil:
		return notConnected(doing, d.place, err)
	case last != nil && !last.heard.Load():
		return &failure{exitUnreachable, fmt.Errorf("%s: what listens on %s closed the connection at once; it may not let this user in (allow_users), have as many clients as limits.max_connections allows, or be stopping: look at the daemon's log, or try again later", doing, d.place.Address)}
	}
	return &failure{exitUnreachable, fmt.Errorf("%s: the daemon on %s stopped answering (%s); look at its log", doing, d.place.Address, oneLine(message))}
}

// notConnected says why nobody could be connected to, and what to do.
func notConnected(doing string, place commandline.Place, err error) *failure {
	address, code := place.Address, exitUnreachable
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("there is no socket %s; start the daemon with picketd --sockets %s, or name its directory with --sockets", address, filepath.Dir(address))
	case oserror.Refused(err) && place.IsPort():
		err = fmt.Errorf("nobody listens on %s; start a daemon whose tcp.listen names it, or name another port or its socket directory with --sockets", address)
	case oserror.Refused(err):
		err = fmt.Errorf("nobody listens on %s, so the daemon has ended; start it with picketd --sockets %s", address, filepath.Dir(address))
	case errors.Is(err, fs.ErrPermission):
		code = exitPolicy // it may well be there
		err = fmt.Errorf("connecting to %s is not permitted; run as a user or group that the socket's mode allows", address)
	case errors.Is(err, syscall.ENOTDIR):
		err = fmt.Errorf("%s is no directory; name the one of the daemon's sockets with --sockets", filepath.Dir(address))
	case errors.Is(err, syscall.EINVAL):
		err = fmt.Errorf("the path %s cannot be that of a socket, which is at most 107 bytes long; use a shorter directory with --sockets", address)
	default:
		err = fmt.Errorf("connecting to %s: %w; check that picketd runs and name its directory with --sockets", address, err)
	}
	return &failure{code, fmt.Errorf("%s: %w", doing, err)}
}
