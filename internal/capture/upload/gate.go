package upload

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// The pauses between attempts: from the first they double up to the longest, and each is
// between half of that and all of it, so that a fleet does not come back as one.
const (
	firstPause   = time.Second
	longestPause = 5 * time.Minute
)

// gate is what all objects of an Uploader go through. While the destination takes them
// they go side by side. After a failure one at a time tries, after a pause, and the
// others wait for what becomes of it.
type gate struct {
	windows Windows
	report  func(state State)
	probe   chan struct{} // a token for who may try while the gate is shut

	mu      sync.Mutex
	failing bool
	pause   time.Duration
}

func newGate(windows Windows, report func(State)) *gate {
	g := &gate{windows: windows, report: report, probe: make(chan struct{}, 1), pause: firstPause}
	return g
}

// errSkipped is what an attempt returns that was not made.
var errSkipped = errors.New("the attempt was not made")

// pass calls try until it succeeds, ctx ends, or there is nothing to try any more
// (errSkipped), which are the only errors. try is called at times that the windows allow.
func (g *gate) pass(ctx context.Context, try func(context.Context) error) error {
	for {
		if err := g.window(ctx); err != nil {
			return err
		}
		pause, release, err := g.enter(ctx)
		if err != nil {
			return err
		}
		if pause > 0 && (sleep(ctx, pause) != nil || g.window(ctx) != nil) {
			release()
			return ctx.Err()
		}
		if !g.shut() { // over a connection on which nothing comes back this is all that is known for long
			g.report(State{Phase: Sending})
		}
		err = try(ctx)
		if err == nil {
			g.succeeded()
		} else if errors.Is(err, errSkipped) {
			release()
			return err
		} else if ctx.Err() == nil {
			g.failed(err)
		}
		release()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

// enter waits until the caller may try: at once where the gate is open, else as the only
// one, after a pause. release lets the next in.
func (g *gate) enter(ctx context.Context) (pause time.Duration, release func(), err error) {
	if !g.shut() {
		return 0, func() {}, nil
	}
	select {
	case g.probe <- struct{}{}:
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	}
	release = func() { <-g.probe }
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.failing { // it was opened meanwhile
		return 0, release, nil
	}
	return g.pause/2 + rand.N(g.pause/2+1), release, nil
}

func (g *gate) shut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failing
}

func (g *gate) succeeded() {
	g.mu.Lock()
	g.failing, g.pause = false, firstPause
	g.mu.Unlock()
	g.report(State{Phase: Sending})
}

// failed shuts the gate. Of several that fail together, one counts.
func (g *gate) failed(err error) {
	g.mu.Lock()
	if g.failing {
		g.pause = min(2*g.pause, longestPause)
	}
	g.failing = true
	g.mu.Unlock()
	g.report(State{Phase: Retrying, Err: err})
}

// window waits for a time at which objects may go.
func (g *gate) window(ctx context.Context) error {
	for {
		now := time.Now()
		opens := g.windows.Opens(now)
		if !opens.After(now) {
			return ctx.Err()
		}
		g.report(State{Phase: WaitingForWindow, Until: opens})
		// Not until then at once: the clock may be set meanwhile.
		if err := sleep(ctx, min(opens.Sub(now), time.Minute)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
