package load

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Alarm wakes a goroutine at a time, some tens of microseconds after it at most where a processor is free. Go's own timers may be
// a millisecond late. A goroutine that slept in the kernel itself (nanosleep) would be on time and would spoil what others
// measure: its thread keeps a place in Go's scheduler that is neither idle nor busy, and when all places are in that state, nobody
// waits for sockets until the scheduler's watchdog looks at them, which it does every 10 ms: a server that answered at once is then
// told to have taken so long. An Alarm is a timer of the kernel that Go waits for as it waits for sockets.
//
// One goroutine uses it. Who made it calls Close.
type Alarm struct {
	file   *os.File
	fd     int
	rung   [8]byte         // how often, as the kernel tells it
	timing unix.ItimerSpec // kept, so that nothing is allocated for a request
}

// NewAlarm makes an alarm.
func NewAlarm() (*Alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a timer for a load: %w", err)
	}
	return &Alarm{file: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

// Wait returns at t, or at once where that is past.
func (a *Alarm) Wait(t time.Time) error {
	for {
		left := time.Until(t)
		if left <= 0 {
			return nil
		}
		a.timing.Value = unix.NsecToTimespec(int64(left))
		if err := unix.TimerfdSettime(a.fd, 0, &a.timing, nil); err != nil {
			return fmt.Errorf("setting a timer of a load: %w", err)
		}
		if _, err := a.file.Read(a.rung[:]); err != nil {
			return fmt.Errorf("waiting for a timer of a load: %w", err)
		}
	}
}

// Close gives the timer back.
func (a *Alarm) Close() error { return a.file.Close() }
