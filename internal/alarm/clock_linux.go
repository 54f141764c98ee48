package alarm

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is a timer of the kernel that Go waits for as it waits for sockets. It wakes a goroutine some tens of microseconds after its time
// at most where a processor is free; Go's own timers may be a millisecond late. A goroutine that slept in the kernel itself (nanosleep)
// would be on time and would spoil what others do: its thread keeps a place in Go's scheduler that is neither idle nor busy, and when all
// places are in that state, nobody waits for sockets until the scheduler's watchdog looks at them, which it does every 10 ms.
//
// One goroutine waits and, but for Set, uses it. Who made it calls Close.
type Clock struct {
	file   *os.File
	fd     int
	rung   [8]byte         // how often, as the kernel tells it
	timing unix.ItimerSpec // kept, so that nothing is allocated for a time
}

// NewClock makes a Clock with nothing set.
func NewClock() (*Clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer: %w", err)
	}
	return &Clock{file: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

// Set has Wait return after that time, which is more than 0, and forgets what was set before. It may be called while another goroutine
// waits, and by one at a time.
func (c *Clock) Set(d time.Duration) error {
	c.timing.Value = unix.NsecToTimespec(int64(d))
	if err := unix.TimerfdSettime(c.fd, 0, &c.timing, nil); err != nil {
		return fmt.Errorf("setting a timer: %w", err)
	}
	return nil
}

// Wait returns when the time has come that was set last, or with os.ErrClosed.
func (c *Clock) Wait() error {
	if _, err := c.file.Read(c.rung[:]); err != nil {
		return fmt.Errorf("waiting for a timer: %w", err)
	}
	return nil
}

// Until returns at t, or at once where that is past.
func (c *Clock) Until(t time.Time) error {
	for {
		left := time.Until(t)
		if left <= 0 {
			return nil
		}
		if err := c.Set(left); err != nil {
			return err
		}
		if err := c.Wait(); err != nil {
			return err
		}
	}
}

// Close gives the timer back, and ends Wait.
func (c *Clock) Close() error { return c.file.Close() }
