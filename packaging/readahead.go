package packaging

import (
	"context"
	"io"
	"sync"
)

// aheadChunks is how many pieces may be read and not used yet.
const aheadChunks = 8

// readAhead reads on a goroutine of its own, so that unpacking on one core and hashing on another go on together.
type readAhead struct {
	full    chan chunk
	empty   chan []byte
	stop    chan struct{}
	stopped sync.WaitGroup

	current chunk
	rest    []byte // of current
	err     error
}

type chunk struct {
	buffer []byte // whole, to be given back
	n      int
	err    error
}

// newReadAhead starts reading r in pieces of that size, which nobody else may until Close has returned.
func newReadAhead(ctx context.Context, r io.Reader, size int) *readAhead {
	a := &readAhead{full: make(chan chunk, aheadChunks), empty: make(chan []byte, aheadChunks), stop: make(chan struct{})}
	for range aheadChunks {
		a.empty <- nil // allocated when it is needed: most archives are small
	}
	a.stopped.Go(func() {
		defer close(a.full)
		for {
			var buffer []byte
			select {
			case buffer = <-a.empty:
			case <-a.stop:
				return
			}
			if buffer == nil {
				buffer = make([]byte, size)
			}
			n, err := fill(r, buffer)
			if ctx.Err() != nil {
				n, err = 0, context.Cause(ctx)
			}
			select {
			case a.full <- chunk{buffer, n, err}:
			case <-a.stop:
				return
			}
			if err != nil {
				return
			}
		}
	})
	return a
}

// fill reads until buffer is full or r fails. Unlike io.ReadFull it leaves the error of r as it is: a stream that is cut
// is not one that ends.
func fill(r io.Reader, buffer []byte) (n int, err error) {
	for n < len(buffer) && err == nil {
		var more int
		more, err = r.Read(buffer[n:])
		n += more
	}
	return n, err
}

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.current.buffer != nil {
			a.empty <- a.current.buffer // there is room: it came from there
		}
		var ok bool
		if a.current, ok = <-a.full; !ok {
			a.err = io.ErrClosedPipe
			return 0, a.err
		}
		a.rest, a.err = a.current.buffer[:a.current.n], a.current.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends reading and waits for the goroutine.
func (a *readAhead) Close() error {
	close(a.stop)
	a.stopped.Wait()
	return nil
}
