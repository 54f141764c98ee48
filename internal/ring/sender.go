//go:build linux

package ring

import (
	"io"
	"os"
	"time"
)

// Sender is the direction that this side writes.
type Sender struct {
	direction
	ring  *Ring
	spins *Spins
	at    uint32 // what was written, counted as the shared words count
	rest  Rest
	freed func() bool // isFreed, kept because making it allocates
}

// Put copies as much of b as there is room for, which may be nothing, and returns
// how many bytes that was. It fails with io.ErrClosedPipe when the Ring was closed,
// and with ErrCorrupt.
func (s *Sender) Put(b []byte) (int, error) {
	room, err := s.room()
	if err != nil {
		return 0, err
	}
	b = b[:min(uint64(room), uint64(len(b)))]
	if len(b) == 0 {
		return 0, nil
	}
	first := copy(s.data[s.at&uint32(len(s.data)-1):], b)
	copy(s.data, b[first:])
	s.at += uint32(len(b))
	s.written.Store(s.at)
	wake(s.readerSleeps)
	return len(b), nil
}

// WaitForRoom returns when there is room, or with os.ErrDeadlineExceeded when the
// other side has taken nothing for so long, or as Put does. It looks before it sleeps:
// what is larger than the Ring the other side takes out while this one puts it in.
func (s *Sender) WaitForRoom(most time.Duration) error {
	if s.rest.Look(s.spins, s.freed) {
		return nil
	}
	end := clock() + int64(most)
	for {
		s.writerSleeps.Store(1)
		room, err := s.room()
		left := time.Duration(end - clock())
		if room == 0 && err == nil && left <= 0 {
			err = os.ErrDeadlineExceeded
		}
		if room > 0 || err != nil {
			s.writerSleeps.Store(0)
			return err
		}
		sleep(s.writerSleeps, left)
	}
}

// isFreed tells whether Put has nothing to wait for.
func (s *Sender) isFreed() bool {
	room, err := s.room()
	return room > 0 || err != nil
}

// room is how many bytes can be put now.
func (s *Sender) room() (uint32, error) {
	if s.ring.closed.Load() {
		return 0, io.ErrClosedPipe
	}
	used := s.at - s.read.Load()
	if used > uint32(len(s.data)) {
		return 0, ErrCorrupt
	}
	return uint32(len(s.data)) - used, nil
}
