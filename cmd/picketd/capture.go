package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/failure"
)

// consumer takes records from the spool to where they should be, until ctx ends.
type consumer interface {
	Consume(ctx context.Context, s *spool.Spool) error
}

// captures is all of the daemon's capturing: the tap, the spool, and whoever takes
// records away. The spool belongs to one process at a time, and comes when the one
// before has left it; until then the tap keeps what it can, and explicit captures wait.
type captures struct {
	tap      *capture.Tap
	log      *slog.Logger
	options  spool.Options
	consumer consumer // nil: records wait until somebody drains the spool

	ctx    context.Context
	cancel context.CancelFunc
	ended  sync.WaitGroup
	ready  chan struct{} // closed once spool is set

	mu    sync.Mutex
	spool *spool.Spool
}

// How long an explicit capture waits for the process before to leave the spool, and
// how often this one looks.
const (
	spoolPatience = 10 * time.Second
	spoolPause    = 20 * time.Millisecond
	spoolComplain = 30 * time.Second
)

// newCaptures is nil where nothing is captured; to is nil where records stay. It opens the spool if nobody else has
// it; else, and where it cannot be opened, it goes on trying: predictions do not depend
// on it.
func newCaptures(c *config.Config, log *slog.Logger, to consumer) (*captures, error) {
	if !c.Capture.Enabled {
		return nil, nil
	}
	o, err := spoolOptions(c, log)
	if err != nil {
		return nil, usageError{err}
	}
	k := &captures{log: log, options: o, consumer: to, ready: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	byDefault, models := samplings(c)
	k.tap = capture.NewTap(capture.TapOptions{
		Ring: c.Capture.Ring, RingBytes: int64(c.Capture.RingBytes), EntryBytes: int64(c.Capture.BesideBytes),
		Code:    func(err error) uint32 { return uint32(failure.Code(err)) },
		Default: byDefault, Models: models,
	})
	if err := k.open(); err != nil {
		log.Warn("the capture spool cannot be opened yet: it is tried again", "directory", o.Dir, "error", err)
		k.ended.Go(k.keepOpening)
	}
	return k, nil
}

func spoolOptions(c *config.Config, log *slog.Logger) (spool.Options, error) {
	o := spool.Options{
		Dir: c.Capture.Directory(c.StateDir), MaxBytes: int64(c.Capture.MaxBytes), MaxAge: c.Capture.MaxAge,
		SegmentBytes: int64(c.Capture.SegmentBytes), SegmentAge: c.Capture.SegmentAge, FlushAfter: c.Capture.FlushAfter,
		BesideBytes: int64(c.Capture.BesideBytes), Log: log,
	}
	var err error
	if o.WhenFull, err = spool.ParsePolicy(c.Capture.WhenFull); err != nil {
		return o, fmt.Errorf("capture.when_full: %w", err)
	}
	for i, text := range c.Capture.Recipients {
		r, err := age.ParseX25519Recipient(text)
		if err != nil {
			return o, fmt.Errorf("capture.recipients[%d]: %w", i, err)
		}
		o.Recipients = append(o.Recipients, r)
	}
	if c.Capture.Identity != "" {
		if o.Identities, err = identities(c.Capture.Identity); err != nil {
			return o, fmt.Errorf("capture.identity: %w", err)
		}
	}
	return o, nil
}

// identities are the private keys in a file.
func identities(path string) ([]age.Identity, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return age.ParseIdentities(f)
}

// open opens the spool and begins to use it.
func (k *captures) open() error {
	s, err := spool.Open(k.options)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ctx.Err() != nil {
		return errors.Join(k.ctx.Err(), s.Close())
	}
	k.spool = s
	close(k.ready)
	k.tap.Start(s)
	if k.consumer != nil {
		k.ended.Go(func() {
			if err := k.consumer.Consume(k.ctx, s); err != nil && k.ctx.Err() == nil {
				k.log.Error("captured records are not taken away any more", "error", err)
			}
		})
	}
	st := s.Stats()
	k.log.Info("captured records are kept", "directory", k.options.Dir, "on_disk", st.OnDisk, "bytes", st.Bytes, "limit", st.Limit, "when_full", k.options.WhenFull)
	return nil
}

func (k *captures) keepOpening() {
	tick := time.NewTicker(spoolPause)
	defer tick.Stop()
	said := time.Now()
	for {
		select {
		case <-tick.C:
		case <-k.ctx.Done():
			return
		}
		err := k.open()
		if err == nil {
			return
		}
		if !errors.Is(err, spool.ErrOwned) {
			tick.Reset(time.Second)
		}
		if time.Since(said) > spoolComplain {
			said = time.Now()
			k.log.Error("the capture spool cannot be opened: nothing is captured", "directory", k.options.Dir, "error", err)
		}
	}
}

// current is the spool, which it waits for; the error is the engine's kind.
func (k *captures) current(ctx context.Context) (*spool.Spool, error) {
	timer := time.NewTimer(spoolPatience)
	defer timer.Stop()
	select {
	case <-k.ready:
		return k.spool, nil
	case <-k.ctx.Done():
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	return nil, fmt.Errorf("%w: the capture spool is not there yet; the daemon's log says why", engine.ErrClosed)
}

// Keep implements capture.Keeper.
func (k *captures) Keep(ctx context.Context, entries ...*capture.Entry) error {
	s, err := k.current(ctx)
	if err != nil {
		return err
	}
	switch err := s.Append(ctx, entries...); {
	case err == nil:
		return nil
	case errors.Is(err, spool.ErrKnown):
		return fmt.Errorf("%w: a capture of that id is known", engine.ErrExists)
	case errors.Is(err, spool.ErrFull):
		return fmt.Errorf("%w: %w", engine.ErrBusy, spool.ErrFull)
	case errors.Is(err, spool.ErrBusy):
		return fmt.Errorf("%w: %w", engine.ErrBusy, spool.ErrBusy)
	case errors.Is(err, spool.ErrDisk):
		return fmt.Errorf("%w: %w; the daemon's log says why", engine.ErrClosed, spool.ErrDisk)
	case errors.Is(err, spool.ErrClosed):
		return fmt.Errorf("%w: %w", engine.ErrClosed, spool.ErrClosed)
	default:
		return err
	}
}

// Status implements capture.Keeper.
func (k *captures) Status(ctx context.Context, id string) (capture.Status, error) {
	s, err := k.current(ctx)
	if err != nil {
		return capture.Unknown, err
	}
	return s.Known(id), nil
}

// reload follows a configuration that was read again.
func (k *captures) reload(c *config.Config) {
	if k == nil {
		return
	}
	k.tap.SetSampling(samplings(c))
	select {
	case <-k.ready:
		k.spool.Resume()
	default:
	}
}

// close writes what was captured and leaves the spool to the next process. It is called
// when no request is under way any more.
func (k *captures) close() {
	if k == nil || k.ctx.Err() != nil {
		return
	}
	k.tap.Close()
	k.cancel()
	k.ended.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := k.tap.Stats(); n.DroppedRing+n.DroppedBytes+n.DroppedClosed > 0 {
		k.log.Warn("captured inferences were dropped by this process", "ring", n.DroppedRing, "bytes", n.DroppedBytes, "closed", n.DroppedClosed)
	}
	if k.spool == nil {
		return
	}
	if err := k.spool.Close(); err != nil {
		k.log.Error("leaving the capture spool", "error", err)
	}
}

// keeper is k for servers, which keep nothing where there is none.
func (k *captures) keeper() capture.Keeper {
	if k == nil {
		return capture.Off{}
	}
	return k
}

// engineTap is the tap for the engine, nil if there is none.
func (k *captures) engineTap() engine.Tap {
	if k == nil {
		return nil
	}
	return k.tap
}

// samplings are what the configuration says of its models.
func samplings(c *config.Config) (byDefault capture.Sampling, models map[string]capture.Sampling) {
	models = map[string]capture.Sampling{}
	for _, m := range c.Models {
		models[m.Name] = sampling(m.Capture)
	}
	return sampling(c.ModelDefaults.Capture), models
}

func sampling(s config.Sampling) capture.Sampling {
	out := capture.Sampling{Rate: s.Rate, Every: s.Every, Output: s.Output, Errors: s.Errors}
	out.Low, out.High, out.Banded = s.Limits()
	return out
}
