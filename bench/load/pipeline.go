package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/lanewire"
)

// Request is one request: when it was to be sent, when it was, and what came back
// when, all from the beginning of the load.
type Request struct {
	Due, Left, Back time.Duration
	Fate            Fate
}

// Took is how long the client waited, counted from when the request was due.
func (r *Request) Took() time.Duration { return r.Back - r.Due }

// Pipeline is one client of the lane that sends requests without waiting for answers, of a model that is open as handle 1. Who
// connected it closes it.
type Pipeline struct {
	*net.UnixConn
	rows  int
	frame []byte // a request, whose header is written anew for each
}

// ConnectPipeline connects a client whose requests are of so many rows of so many bytes, random numbers from 0.5 up to 1.
func ConnectPipeline(socket, model string, rows, rowBytes int, random *rand.Rand) (*Pipeline, error) {
	c, err := protocols.ConnectLane(model, socket)
	if err != nil {
		return nil, err
	}
	conn := &Pipeline{UnixConn: c, rows: rows, frame: make([]byte, lanewire.HeaderSize+rows*rowBytes)}
	for i := lanewire.HeaderSize; i < len(conn.frame); i += 4 {
		binary.LittleEndian.PutUint32(conn.frame[i:], 0x3f000000|random.Uint32N(1<<23)) // from 0.5 up to 1
	}
	return conn, nil
}

// send sends request id, to be answered within so long; 0 for any time.
func (c *Pipeline) send(id uint64, within time.Duration) error {
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
func (c *Pipeline) receive(each func(id uint64, f Fate) (more bool)) error {
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
			f := Answered
			if h.Kind == lanewire.KindError {
				said, err := lanewire.ParseFailure(b[lanewire.HeaderSize:size])
				if err != nil {
					return err
				}
				f = fateOfCode(codes.Code(said.Code))
			}
			if !each(h.ID, f) {
				return nil
			}
			b = b[size:]
		}
		pending = append(pending[:0], b...)
	}
}

// lastAnswers is how long the last answers of a load of pipelines may take beyond their deadline.
const lastAnswers = time.Second

// OpenLoop sends requests when they are due, whatever became of those before, each
// with a deadline so long after. The arrivals are those of one connection each.
func OpenLoop(conns []*Pipeline, due []Arrivals, deadline time.Duration) ([][]Request, error) {
	all := make([][]Request, len(conns))
	errs := make([]error, 2*len(conns))
	var wg sync.WaitGroup
	start := time.Now().Add(10 * time.Millisecond) // for all to have begun
	for i, c := range conns {
		requests := make([]Request, len(due[i]))
		for n, at := range due[i] {
			requests[n] = Request{Due: at}
		}
		all[i] = requests
		if len(requests) == 0 {
			continue
		}
		end := start.Add(requests[len(requests)-1].Due + deadline + lastAnswers)
		if err := c.SetReadDeadline(end); err != nil {
			return nil, err
		}
		var mu sync.Mutex // guards Fate and Back of the requests
		wg.Go(func() { errs[2*i] = c.sendWhenDue(start, requests, deadline, &mu) })
		wg.Go(func() {
			left := len(requests)
			errs[2*i+1] = c.receive(func(id uint64, f Fate) bool {
				if id >= uint64(len(requests)) {
					return true // of a load before
				}
				mu.Lock()
				requests[id].Fate, requests[id].Back = f, time.Since(start)
				mu.Unlock()
				left--
				return left > 0
			})
		})
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// sendWhenDue sends each request when it is due, but for those whose deadline has passed by then.
func (c *Pipeline) sendWhenDue(start time.Time, requests []Request, deadline time.Duration, mu *sync.Mutex) (err error) {
	clock, err := alarm.NewClock()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clock.Close()) }()
	for n := range requests {
		r := &requests[n]
		if err := clock.Until(start.Add(r.Due)); err != nil {
			return err
		}
		r.Left = time.Since(start)
		within := deadline - (r.Left - r.Due)
		if within < time.Microsecond {
			mu.Lock()
			r.Fate = Unsent
			mu.Unlock()
			continue
		}
		if err := c.send(uint64(n), within); err != nil {
			return err
		}
	}
	return nil
}

// ClosedLoop has every connection keep so many requests outstanding for so long,
// and gives how many were answered a second.
func ClosedLoop(conns []*Pipeline, outstanding int, d time.Duration) (perSecond float64, err error) {
	counts, errs := make([]int, len(conns)), make([]error, len(conns))
	var wg sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		if err := c.SetReadDeadline(start.Add(d + patience)); err != nil {
			return 0, err
		}
		wg.Go(func() {
			for range outstanding {
				if errs[i] = c.send(0, 0); errs[i] != nil {
					return
				}
			}
			under := outstanding
			err := c.receive(func(_ uint64, f Fate) bool {
				under--
				if f != Answered {
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
