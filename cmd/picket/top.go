package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// shortestInterval keeps the watching from being the load.
const shortestInterval = 50 * time.Millisecond

// top is one run of the command.
type top struct {
	scraper  *scraper
	interval time.Duration
	busiest  bool
}

func newTop(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch what the loaded models do",
		Long: `Watch what the loaded models do, from the metrics that the daemon gives on
oip.sock (docs/metrics.md): rates and percentiles are those of the time since
the last refresh.

On a terminal the view is drawn again at every refresh, until q or Ctrl-C, and
goes on when the daemon comes back. Elsewhere there is a table at every refresh,
or with --json an object on a line of its own.

  REQ/S      requests that were answered, however
  ROWS/RUN   rows that were run together, on average
  WAITING    requests that wait now, of as many as may
  REFUSED/S  requests refused because the model or the memory is busy
  ERRORS/S   requests that failed: bad input, too late, or in the model
  QUEUE, GATHER, RUN, REPLY, TOTAL
             how long requests waited, were put together, the model ran, answers
             were taken, and requests took in all: half of them at most the
             first, 99 in 100 the second time

Above the table there is a line for each GPU: whether models may be put on it,
how many are on it, how busy it is, its memory, temperature and power, and what
slows it down (docs/gpu.md).`,
		Example: `  picket top
  picket top --json`,
		Args: cobra.NoArgs,
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	once := c.Flags().Bool("once", false, "refresh once, after the interval, and end")
	interval := c.Flags().Duration("interval", time.Second, "how long from one refresh to the next")
	busiest := c.Flags().Bool("busiest", false, "order models by requests a second, not by name")
	c.RunE = withDaemon(flags, func(c *cobra.Command, d *daemon, _ []string) error {
		if *interval < shortestInterval {
			return usage("--interval %v is too short; it must be at least %v", *interval, shortestInterval)
		}
		ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		s, err := newScraper(d)
		if err != nil {
			return err
		}
		defer s.close()
		t := &top{scraper: s, interval: *interval, busiest: *busiest}
		out := c.OutOrStdout()
		write := func(v *view) error { return writeTable(out, v, 0) }
		if *asJSON {
			encoder := json.NewEncoder(out)
			write = func(v *view) error { return encoder.Encode(v) }
		} else if screen := newScreen(c.InOrStdin(), out, os.Getenv); screen != nil && !*once {
			return t.live(ctx, screen)
		} else if screen != nil {
			width, _ := screen.size()
			write = func(v *view) error { return writeTable(out, v, width) }
		}
		return t.stream(ctx, *once, write)
	})
	return c
}

// writeTable writes v, with the columns that fit into width, 0 for all of them, and an empty line.
func writeTable(w io.Writer, v *view, width int) error {
	for _, line := range v.lines(width) {
		if _, err := fmt.Fprintln(w, line.text); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// stream writes a view at every refresh, or one. It ends without an error when ctx does, as that is how it is ended.
func (t *top) stream(ctx context.Context, once bool, write func(*view) error) error {
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	before, err := t.scraper.scrape(ctx)
	for err == nil {
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		var now *sample
		if now, err = t.scraper.scrape(ctx); err != nil {
			break
		}
		if err := write(t.view(before, now)); err != nil {
			return fmt.Errorf("writing the view: %w", err)
		}
		if once {
			return nil
		}
		before = now
	}
	if ctx.Err() == nil {
		return err
	}
	if once {
		return errors.New("watching the models: it was interrupted before the first interval was over")
	}
	return nil
}

// view is what happened from one sample to the next, in the order that was asked for.
func (t *top) view(before, now *sample) *view {
	v := newView(before, now)
	v.Daemon.Socket = t.scraper.daemon.place.Address
	if t.busiest {
		v.orderByRequests()
	}
	return v
}
