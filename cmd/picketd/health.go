package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/oserror"
)

// healthTimeout is for connecting and for the answer. A daemon that still loads its
// models has its sockets open and answers nobody yet, which is unhealthy too.
const healthTimeout = 3 * time.Second

// health asks the daemon whose sockets lie in dir, or that has the port that dir names, whether it takes requests, and
// prints that it does. It is for a container's health check: the daemon's image has
// no shell and no other program. The operator's socket is asked first, which the
// daemon's own user may write to, then that of the Open Inference Protocol.
func health(ctx context.Context, dir string, stdout io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	var mistakes []error
	var place commandline.Place
	for _, name := range []string{"control.sock", "oip.sock"} {
		var err error
		if place, err = commandline.PlaceOf(dir, name); err != nil {
			return usageError{err}
		}
		err = askReady(ctx, place)
		if err == nil {
			_, err = fmt.Fprintln(stdout, "ready")
			return err
		}
		mistakes = append(mistakes, err)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			break // somebody has answered, or should have
		}
	}
	last := mistakes[len(mistakes)-1]
	switch {
	case errors.Is(last, fs.ErrNotExist) && errors.Is(mistakes[0], fs.ErrPermission), errors.Is(last, fs.ErrPermission):
		last = fmt.Errorf("this user may connect to neither control.sock nor oip.sock in %s: run as one that their mode allows", dir)
	case errors.Is(last, fs.ErrNotExist):
		last = fmt.Errorf("there is neither control.sock nor oip.sock in %s: start the daemon, or name its directory with --sockets", dir)
	case oserror.Refused(last):
		last = fmt.Errorf("nobody listens on %s, so the daemon has ended: start it, or name its directory with --sockets", place.Address)
	}
	return fmt.Errorf("asking the daemon whether it serves: %w", last)
}

// askReady is nil if the daemon behind the socket takes requests.
func askReady(ctx context.Context, place commandline.Place) error {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, place.Network, place.Address)
		},
		DisableKeepAlives: true,
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picketd/v2/health/ready", http.NoBody)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s does not answer within %v: the daemon loads its models, or hangs", place.Address, healthTimeout)
	}
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: the daemon takes no requests", place.Address, answer.Status)
	}
	return nil
}
