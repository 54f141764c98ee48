package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// How long clients may take, and how many there may be.
const (
	headerTimeout  = 10 * time.Second
	requestTimeout = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 16 << 10
	maxClients     = 8192
	stopPatience   = 5 * time.Second
)

// Listen serves h on l until ctx ends. certificate and key are PEM files; empty for no
// encryption.
func Listen(ctx context.Context, l net.Listener, h http.Handler, certificate, key string, log *slog.Logger) error {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	end := context.AfterFunc(ctx, func() {
		defer close(stopped)
		patience, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if server.Shutdown(patience) != nil {
			_ = server.Close() // who does not end is cut off
		}
	})
	l = netutil.LimitListener(l, maxClients)
	var err error
	if certificate != "" {
		err = server.ServeTLS(l, certificate, key)
	} else {
		err = server.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	end()
	return err
}
