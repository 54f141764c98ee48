package lanewire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/ring"
)

// Socket is a connected socket, which one goroutine at a time reads and any write. It is in Go's poller until its reader has been kept waiting only for
// moments again and again, as by a client that asks when it is answered; then it leaves the poller, for which each message would wake threads, and
// the reader waits for it as ring.Unseen says. It goes back when nothing comes for a while, or others want the processors.
type Socket struct {
	spins *ring.Spins

	// Of the reader.
	unseen  ring.Unseen
	try     func(fd uintptr) bool // of the read that is under way
	attempt func(fd uintptr) bool // watched, kept because making it allocates
	outside func(fd uintptr) bool // readOutside, likewise
	again   func() bool           // try outside the poller, likewise
	fd      uintptr               // of again
	purses  ring.Purses           // what not to sleep outside is paid with
	blocks  bool                  // try may wait for something to read
	patient bool                  // the next receive does
	began   time.Time             // when it was first to wait; zero before
	outcome outcome               // of readOutside
	packets bool                  // the boundaries of messages are kept

	// use is held for reading by those who write, and for writing by the reader when it changes what they write to.
	use sync.RWMutex

	mu     sync.Mutex      // of what follows, which the reader, who alone changes all but the last two, reads without
	conn   *net.UnixConn   // nil outside the poller
	file   *os.File        // nil in it
	raw    syscall.RawConn // of either
	until  time.Time       // when reading is to end
	closed bool
}

// outcome is why a read outside the poller ended.
type outcome int

const (
	wasRead  outcome = iota
	wasLate          // for the deadline
	wasQuiet         // nothing came for a while, or others want the processor
)

// NewSocket takes over conn. With nil for spins it never leaves the poller.
func NewSocket(conn *net.UnixConn, spins *ring.Spins) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("preparing a socket: %w", err)
	}
	s := &Socket{spins: spins, conn: conn, raw: raw, purses: ring.NewPurses(&ring.OnSocket), packets: conn.LocalAddr().Network() == "unixpacket"}
	s.attempt, s.outside, s.again = s.watched, s.readOutside, func() bool { return s.try(s.fd) }
	return s, nil
}

// read calls try with the descriptor, again whenever there may be something to read, until that reports true. Whether its first receive may block is for
// the caller to say. It fails with os.ErrDeadlineExceeded, and once the Socket is closed.
func (s *Socket) read(try func(fd uintptr) bool, blocks bool) error {
	s.try, s.blocks, s.began = try, blocks, time.Time{}
	defer s.waited()
	switch {
	case s.file == nil && s.unseen.Often():
		s.leave()
	case s.file != nil && s.unseen.IsPaused():
		s.enter() // which could not be while somebody was writing
	}
	for s.file != nil {
		if err := s.raw.Read(s.outside); err != nil {
			return err
		}
		switch s.outcome {
		case wasRead:
			return nil
		case wasLate:
			return os.ErrDeadlineExceeded
		case wasQuiet:
			s.enter()
		}
	}
	return s.raw.Read(s.attempt)
}

// receive is one call of the kernel, which gives at least a byte or an error: syscall.EAGAIN itself when there is nothing, io.EOF when there will be
// nothing more.
func (s *Socket) receive(fd uintptr, b []byte) (n int, err error) {
	for {
		if s.patient {
			s.patient = false
			n, err = ring.ReceiveUnseen(fd, s.spins, b)
		} else {
			n, err = readSocket(fd, b)
		}
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return 0, err
		case err != nil:
			return 0, fmt.Errorf("reading: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		afterRead()
		return n, nil
	}
}

// watched is try, and takes the time when there is nothing to read yet.
func (s *Socket) watched(fd uintptr) bool {
	if s.try(fd) {
		return true
	}
	if s.began.IsZero() {
		s.began = time.Now()
	}
	return false
}

// waited accounts for the wait of a read, if it had to wait.
func (s *Socket) waited() {
	s.try = nil
	if !s.began.IsZero() {
		s.unseen.Waited(time.Since(s.began))
	}
}

// brought is told how many bytes a read has brought. Where they are as many as are worth being looked for at a time, being woken costs little beside
// what is done with them, and the processor that a wait unseen would keep is better used by whoever else has some of that to do.
func (s *Socket) brought(n int) {
	if n >= enough {
		s.unseen.Pause()
	}
}

const (
	// longestOutside is how long nothing comes outside the poller before a Socket goes back.
	longestOutside = 100 * time.Millisecond
	// longestLook is how long it may take outside the poller until a deadline that somebody sets meanwhile is seen.
	longestLook = 10 * time.Millisecond
)

// readOutside is what read does outside the poller: a wait that follows a short one is unseen at first. It always reports true.
func (s *Socket) readOutside(fd uintptr) bool {
	s.outcome = wasRead
	if s.unseen.Last() && s.blocks && s.readUnseen(fd) {
		return true
	}
	for unseen := s.unseen.Last(); !s.watched(fd); unseen = false {
		most, late := s.left()
		rest := ring.LongestUnseen - time.Since(s.began)
		switch {
		case late:
			s.outcome = wasLate
			return true
		case unseen && rest <= 0:
			// readUnseen has waited for as long as a wait may be unseen.
		case unseen && s.spins.HasRoom():
			ring.AwaitInput(fd, s.spins, min(most, rest))
			continue
		case unseen:
			s.unseen.Pause()
			s.outcome = wasQuiet
			return true
		}
		if !ring.AwaitInput(fd, nil, most) && time.Since(s.began) >= longestOutside {
			s.outcome = wasQuiet
			return true
		}
	}
	return true
}

// readUnseen is a wait that is unseen. It reports false when nothing has come.
func (s *Socket) readUnseen(fd uintptr) bool {
	s.began = time.Now()
	if s.fd = fd; s.purses.Await(s.spins, s.again) {
		return true
	}
	if most, late := s.left(); late || most < ring.LongestUnseen || !s.spins.HasRoom() {
		return false
	}
	s.patient = true
	return s.try(fd)
}

// left is how long may be waited at a time, and whether the deadline has passed.
func (s *Socket) left() (most time.Duration, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	most = longestLook
	if !s.until.IsZero() {
		most = min(most, time.Until(s.until))
	}
	return most, most <= 0
}

// leave takes the connection out of the poller, unless there is a crowd, or somebody is writing.
func (s *Socket) leave() {
	if !s.spins.TakePlace() {
		s.unseen.Pause()
		return
	}
	if !s.change(func() error {
		file, raw, err := outOfPoller(s.raw)
		if err != nil {
			return err
		}
		_ = s.conn.Close() // one of two descriptors: nothing ends by it
		s.conn, s.file, s.raw = nil, file, raw
		return nil
	}) {
		s.unseen.Pause()
		s.spins.GivePlace()
	}
}

// enter brings the connection back to the poller, unless somebody is writing.
func (s *Socket) enter() {
	if s.change(func() error {
		conn, raw, err := intoPoller(s.file)
		if err != nil {
			return err
		}
		err = conn.SetReadDeadline(s.until)
		if err != nil {
			return errors.Join(err, conn.Close())
		}
		_ = s.file.Close() // likewise
		s.conn, s.file, s.raw = conn, nil, raw
		return nil
	}) {
		s.spins.GivePlace()
	}
}

// change has f change the descriptor while nobody else uses it, and reports whether it did: it does not while somebody does, and once it is closed.
func (s *Socket) change(f func() error) bool {
	if !s.use.TryLock() {
		return false
	}
	defer s.use.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.closed && f() == nil
}

// write calls try with the descriptor, again whenever there may be room, until that reports true, for so long at most: then it fails with
// os.ErrDeadlineExceeded. With 0 for most, try always reports true.
func (s *Socket) write(try func(fd uintptr) bool, most time.Duration) error {
	s.use.RLock()
	defer s.use.RUnlock()
	switch {
	case most == 0:
		return s.raw.Write(try)
	case s.conn == nil:
		return s.writeOutside(try, most)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(most)); err != nil {
		return err
	}
	return errors.Join(s.raw.Write(try), s.conn.SetWriteDeadline(time.Time{}))
}

func (s *Socket) writeOutside(try func(fd uintptr) bool, most time.Duration) error {
	late := false
	err := s.raw.Write(func(fd uintptr) bool {
		for end := time.Now().Add(most); !try(fd) && !late; {
			late = !awaitOutput(fd, time.Until(end))
		}
		return true
	})
	if err == nil && late {
		return os.ErrDeadlineExceeded
	}
	return err
}

// SetReadDeadline bounds how long reading waits, also while it does; the zero time is no bound. It may be called by any goroutine. Outside the
// poller it takes up to longestLook until it counts.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = t
	if s.conn == nil {
		return nil
	}
	return s.conn.SetReadDeadline(t)
}

// CloseWrite has the other side read the end of the stream.
func (s *Socket) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return shutdown(s.raw, true)
	}
	return s.conn.CloseWrite()
}

// Close closes the connection; whoever reads or writes fails. It may be called by any goroutine, and more than once.
func (s *Socket) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.conn == nil {
		s.spins.GivePlace()
		// A call of the kernel that waits does not notice that a descriptor is closed.
		return errors.Join(shutdown(s.raw, false), s.file.Close())
	}
	return s.conn.Close()
}
