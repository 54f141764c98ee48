package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/fleet/edge"
	"github.com/picket-ml/picket/internal/fleet/serve"
)

// fleetServeOptions are the flags of `picket fleet serve`.
type fleetServeOptions struct {
	state, credentials, listen, page, certificate, key string
	interval                                           time.Duration
}

func newFleetServe(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer devices, and watch over rollouts",
		Long: `Answer devices over the API of SageMaker Edge Manager (sagemaker-edge: the calls
GetDeviceRegistration, SendHeartbeat and GetDeployments, signed with Signature
Version 4), keep what they report, show it on a page, and take rollouts from
stage to stage or back. For that it needs online.pem in --keys; without it
rollouts stay where they are. It needs no other key, and root.json.

The page is for whoever can reach its address, which is this machine unless you
say otherwise.`,
		Example: `  picket fleet serve --place s3://models/fleets/pos --keys /etc/picket-fleet \
    --state /var/lib/picket-fleet --credentials /etc/picket-fleet/devices.txt \
    --listen :8443 --certificate cert.pem --key key.pem`,
		Args: cobra.NoArgs,
	}
	var o fleetServeOptions
	c.Flags().StringVar(&o.state, "state", "", "the `FOLDER` for what devices report")
	c.Flags().StringVar(&o.credentials, "credentials", "", "the `FILE` of the devices' keys, which picket fleet add writes")
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "the `ADDRESS` for devices")
	c.Flags().StringVar(&o.page, "page", "127.0.0.1:8081", "the `ADDRESS` of the page; empty for none")
	c.Flags().StringVar(&o.certificate, "certificate", "", "a `PEM` file: encrypt what devices send")
	c.Flags().StringVar(&o.key, "key", "", "the `PEM` file of its key")
	c.Flags().DurationVar(&o.interval, "interval", 10*time.Second, "how often documents and rollouts are looked at")
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		if o.state == "" || o.credentials == "" {
			return usage("say where to keep what devices report and who they are: --state FOLDER --credentials FILE")
		}
		if (o.certificate == "") != (o.key == "") {
			return usage("--certificate and --key need each other")
		}
		if o.page == o.listen {
			return usage("--listen and --page are both %s: the page needs an address of its own, or none, which is --page ''", o.page)
		}
		if o.interval < 100*time.Millisecond || o.interval > time.Hour {
			return usage("--interval %v is outside 100ms to 1h", o.interval)
		}
		ctx, stop := interruptible(c)
		defer stop()
		return f.serve(ctx, c, o)
	})
	return c
}

func (f *fleetFlags) serve(ctx context.Context, c *cobra.Command, o fleetServeOptions) error {
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
	signal.Ignore(syscall.SIGPIPE) // a log that nobody reads any more is no reason to end
	if o.certificate != "" {
		if _, err := tls.LoadX509KeyPair(o.certificate, o.key); err != nil {
			return fmt.Errorf("reading the certificate %s and its key: %w", o.certificate, err)
		}
	}
	opened, err := f.open(ctx, f.keys != "")
	if err != nil {
		return err
	}
	credentials, err := serve.OpenCredentials(o.credentials, log)
	if err != nil {
		return err
	}
	state, err := filepath.Abs(o.state)
	if err != nil {
		return err
	}
	server, err := serve.New(ctx, serve.Options{Bucket: opened.bucket, Root: opened.root, Keys: opened.keys, Dir: state, Interval: o.interval, Log: log})
	if err != nil {
		return err
	}
	defer func() {
		if err := server.Close(); err != nil {
			log.Error("closing what devices have reported", "error", err)
		}
	}()
	if opened.keys.Online == nil {
		log.Warn("there is no online.pem: rollouts stay where they are, and the documents expire unless somebody signs them anew")
	}
	listeners := map[string]http.Handler{o.listen: edge.NewHandler(server, credentials, log, nil)}
	if o.page != "" {
		listeners[o.page] = server.Page()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running sync.WaitGroup
	failed := make(chan error, len(listeners))
	for address, handler := range listeners {
		l, err := net.Listen("tcp", address)
		if err != nil {
			cancel()
			running.Wait()
			return fmt.Errorf("listening at %s: %w", address, err)
		}
		certificate, key := o.certificate, o.key
		what := "devices"
		if address != o.listen {
			certificate, key, what = "", "", "page"
		}
		log.Info("listening", "for", what, "address", l.Addr().String(), "encrypted", certificate != "")
		running.Go(func() {
			if err := serve.Listen(ctx, l, handler, certificate, key, log); err != nil {
				failed <- fmt.Errorf("serving at %s: %w", address, err)
				cancel()
			}
		})
	}
	server.Run(ctx)
	running.Wait()
	select {
	case err := <-failed:
		return err
	default:
		log.Info("stopped", "pid", os.Getpid())
		return nil
	}
}
