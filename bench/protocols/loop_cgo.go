//go:build cgo && linux

package protocols

import (
	"io"

	"github.com/picket-ml/picket/bench/native"
)

// InC says that clients of the lane are Loopers.
const InC = true

// looped is the caller in C that a client of the lane becomes for a closed load; none before.
type looped struct{ caller *native.Lane }

// open connects the caller and closes what it takes the place of.
func (l *looped) open(a *Ask, ring bool, seed uint64, before io.Closer) (err error) {
	if l.caller, err = native.ConnectLane(native.LaneTask{Socket: a.Address, Model: a.Model, Ring: ring, Data: a.Rows.Data, Rows: a.Count, Seed: seed}); err != nil {
		return err
	}
	return before.Close()
}

func (l *looped) drive(a *Ask, load *native.Load, timed []native.Timed) (n int, wrong, err error) {
	load.Answers, load.Tolerance = a.Rows.Answers, Tolerance
	n, err = l.caller.Drive(load, a.Rows.Data, timed)
	if load.Wrong > 0 {
		wrong = a.Rows.differs(load.WrongRow, load.WrongAnswer)
	}
	return n, wrong, err
}

// close closes the caller, or what is there in its place.
func (l *looped) close(before io.Closer) error {
	if l.caller == nil {
		return before.Close()
	}
	return l.caller.Close()
}

// OpenLoop implements Looper. Calls of one request each are looped.
func (c *laneClient) OpenLoop(seed uint64) error { return c.loop.open(&c.Ask, false, seed, c.UnixConn) }

// Loop implements Looper.
func (c *laneClient) Loop(load *native.Load, timed []native.Timed) (n int, wrong, err error) {
	return c.loop.drive(&c.Ask, load, timed)
}

func (c *laneClient) Close() error { return c.loop.close(c.UnixConn) }

// OpenLoop implements Looper.
func (c *ringClient) OpenLoop(seed uint64) error { return c.loop.open(&c.Ask, true, seed, c.Client) }

// Loop implements Looper.
func (c *ringClient) Loop(load *native.Load, timed []native.Timed) (n int, wrong, err error) {
	return c.loop.drive(&c.Ask, load, timed)
}

func (c *ringClient) Close() error { return c.loop.close(c.Client) }
