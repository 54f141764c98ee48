package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/internal/lanewire"
)

// fate is what became of a request.
type fate uint8

const (
	unanswered fate = iota
	unsent          // its sender was so late that the deadline had passed
	answered
	refused // RESOURCE_EXHAUSTED
	late    // DEADLINE_EXCEEDED
	failed  // any other error
)

// sent is one request: when it was to be sent, when it was, and what came back
// when, all from the beginning of the load.
type sent struct {
	due, left, back time.Duration
	fate            fate
}

// took is how long the client waited, counted from when the request was due.
func (s *sent) took() time.Duration { return s.back - s.due }

// connection is one client of the lane with the model open as handle 1.
type connection struct {
	*net.UnixConn
	rows  int
	frame []byte // a request, whose header is written anew for each
}

// answerPatience is how long answers are waited for after the load.
const answerPatience = 30 * time.Second

func connect(socket, model string, rows, rowBytes int, random *rand.Rand) (*connection, error) {
	c, err := protocols.ConnectLane(model, socket)
	if err != nil {
		return nil, err
	}
	conn := &connection{UnixConn: c, rows: rows, frame: make([]byte, lanewire.HeaderSize+rows*rowBytes)}
	for i := lanewire.HeaderSize; i < len(conn.frame); i += 4 {
		binary.LittleEndian.PutUint32(conn.frame[i:], 0x3f000000|random.Uint32N(1<<23)) // from 0.5 up to 1
	}
	return conn, nil
}

// send sends request id, to be answered within so long; 0 for any time.
func (c *connection) send(id uint64, within time.Duration) error {
	h := lanewire.Header{
		Kind: lanewire.KindPredict, ID: id, Handle: 1, Rows: uint32(c.rows),
		Payload: uint32(len(c.frame) - lanewire.HeaderSize), Deadline: uint32(within.Microseconds()),
	}
	h.Put(c.frame)
	_, err := c.Write(c.frame)
	return err
}

// receive calls each for every answer until there are no more to come by the
// connection's read deadline, or each has had enough.
func (c *connection) receive(each func(id uint64, f fate) (more bool)) error {
	var pending []byte
	buffer := make([]byte, lanewire.MaxMessage)
	for {
		n, err := c.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil || n == 0 {
			return fmt.Errorf("the server hung up: %w", err)
		}
		pending = append(pending, buffer[:n]...)
		b := pending
		var h lanewire.Header
		for len(b) >= lanewire.HeaderSize {
			if err := h.Parse(b); err != nil {
				return err
			}
			size := lanewire.HeaderSize + int(h.Payload)
			if len(b) < size {
				break
			}
			f := answered
			if h.Kind == lanewire.KindError {
				said, err := lanewire.ParseFailure(b[lanewire.HeaderSize:size])
				if err != nil {
					return err
				}
				switch codes.Code(said.Code) {
				case codes.ResourceExhausted:
					f = refused
				case codes.DeadlineExceeded:
					f = late
				default:
					f = failed
				}
			}
			if !each(h.ID, f) {
				return nil
			}
			b = b[size:]
		}
		pending = append(pending[:0], b...)
	}
}

// patience is how long the last answers of a load may take.
const patience = time.Second

// openLoop sends requests when they are due, whatever became of those before, each
// with a deadline so long after. The arrivals are those of one connection each.
func openLoop(conns []*connection, due []arrivals, deadline time.Duration) ([][]sent, error) {
	all := make([][]sent, len(conns))
	errs := make([]error, 2*len(conns))
	var wg sync.WaitGroup
	start := time.Now().Add(10 * time.Millisecond) // for all to have begun
	for i, c := range conns {
		requests := make([]sent, len(due[i]))
		for n, at := range due[i] {
			requests[n] = sent{due: at}
		}
		all[i] = requests
		if len(requests) == 0 {
			continue
		}
		end := start.Add(requests[len(requests)-1].due + deadline + patience)
		if err := c.SetReadDeadline(end); err != nil {
			return nil, err
		}
		var mu sync.Mutex // guards fate and back of the requests
		wg.Go(func() {
			runtime.LockOSThread() // for the clock; unlocked by its end
			for n := range requests {
				r := &requests[n]
				sleepUntil(start.Add(r.due))
				r.left = time.Since(start)
				within := deadline - (r.left - r.due)
				if within < time.Microsecond {
					mu.Lock()
					r.fate = unsent
					mu.Unlock()
					continue
				}
				if errs[2*i] = c.send(uint64(n), within); errs[2*i] != nil {
					return
				}
			}
		})
		wg.Go(func() {
			left := len(requests)
			errs[2*i+1] = c.receive(func(id uint64, f fate) bool {
				if id >= uint64(len(requests)) {
					return true // of a load before
				}
				mu.Lock()
				requests[id].fate, requests[id].back = f, time.Since(start)
				mu.Unlock()
				left--
				return left > 0
			})
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// sleepUntil returns at t, as exactly as the kernel wakes: Go's own timers may be a
// millisecond late.
func sleepUntil(t time.Time) {
	for {
		d := time.Until(t)
		if d <= 0 {
			return
		}
		left := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&left, nil) // interrupted is too early, which is seen
	}
}

// closedLoop has every connection keep so many requests outstanding for so long,
// and gives how many were answered a second.
func closedLoop(conns []*connection, outstanding int, d time.Duration) (perSecond float64, err error) {
	counts, errs := make([]int, len(conns)), make([]error, len(conns))
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		if err := c.SetReadDeadline(start.Add(d + answerPatience)); err != nil {
			return 0, err
		}
		wg.Go(func() {
			for range outstanding {
				if errs[i] = c.send(0, 0); errs[i] != nil {
					return
				}
			}
			under := outstanding
			err := c.receive(func(_ uint64, f fate) bool {
				under--
				if f != answered {
					errs[i] = errors.New("a request without a deadline was not answered")
					return false
				}
				if time.Since(start) < d {
					counts[i]++
					if errs[i] = c.send(0, 0); errs[i] != nil {
						return false
					}
					under++
				}
				return under > 0
			})
			errs[i] = errors.Join(errs[i], err)
		})
	}
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	return float64(total) / d.Seconds(), errors.Join(errs...)
}
