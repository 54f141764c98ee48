package local

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// watched is a connection of HTTP/2 whose frames are looked at as gRPC reads them. It reads ahead, so that gRPC need not: then gRPC has
// taken exactly what watched has seen, and a call that gRPC tells of is that of the frame seen last. Reading is for one goroutine.
type watched struct {
	net.Conn
	inflow *Inflow

	room [16 << 10]byte // a frame, as large as clients make them
	read []byte         // of room, for gRPC to take

	// Where in the protocol gRPC is.
	prefaceLeft int
	greeted     bool // the client's settings have come
	header      [9]byte
	have        int    // of header
	left        int    // bytes of the frame that are missing
	padLeft     int    // those of them that are padding; -1 while it is not known
	block       bool   // in the headers of a call, which may be several frames
	of          uint32 // the call of the headers that came last
	alone       bool   // after which nothing comes

	calls   map[uint32]*incoming // that may send more, by the number of their stream
	waiting []*incoming          // those that owe something
	fresh   []*incoming          // those that no handler had when it was looked last
	swept   int                  // how many calls were left when those that had ended were taken out

	began    time.Time // when the client was first waited for in the middle of a frame
	got      int64     // since then
	deadline time.Time // as it was set last; zero for none
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// The types and flags of frames that matter.
const (
	frameData, frameHeaders, frameReset, frameContinuation = 0, 1, 3, 9
	flagEndStream, flagEndHeaders, flagPadded              = 0x1, 0x4, 0x8
)

// Read implements net.Conn.
func (w *watched) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if len(w.read) == 0 {
		if err := w.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, w.read)
	w.follow(w.read[:n])
	w.read = w.read[n:]
	return n, nil
}

// fill reads from the connection. Clients that owe something have so long as they may; those that are late are given up.
func (w *watched) fill() (err error) {
	defer func() {
		if err != nil {
			w.abandon(true)
		}
	}()
	for {
		w.abandon(false)
		if err := w.setDeadline(); err != nil {
			return err
		}
		n, err := w.Conn.Read(w.room[:])
		if n > 0 {
			w.read = w.room[:n]
			w.got += int64(n)
			return nil
		}
		if err == nil {
			return io.ErrNoProgress
		}
		if w.deadline.IsZero() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		w.deadline = time.Time{}
		now := time.Now()
		if w.inFrame() && !now.Before(w.due()) {
			return err
		}
		for _, c := range w.waiting {
			if !now.Before(c.due()) {
				c.giveUp(errSlow)
				c.finished = true
			}
		}
		w.settle()
		if err := w.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
}

// setDeadline sets the read deadline to when something is due first. One that is in force already and comes earlier stays: when it has
// passed it is seen that nothing is due yet, and that is cheaper than setting another for each read. Before gRPC has greeted the client
// the deadline is gRPC's.
func (w *watched) setDeadline() error {
	if !w.greeted {
		return nil
	}
	var first time.Time
	if len(w.fresh) > 0 && w.deadline.IsZero() {
		first = time.Now().Add(w.inflow.patience.For(0)) // to look again
	}
	if w.inFrame() {
		if w.began.IsZero() {
			w.began, w.got = time.Now(), 0
		}
		if due := w.due(); first.IsZero() || due.Before(first) {
			first = due
		}
	} else {
		w.began = time.Time{}
	}
	for _, c := range w.waiting {
		if c.began.IsZero() {
			c.began = time.Now()
		}
		if due := c.due(); first.IsZero() || due.Before(first) {
			first = due
		}
	}
	if first.IsZero() || (!w.deadline.IsZero() && w.deadline.Before(first)) {
		return nil
	}
	w.deadline = first
	return w.SetReadDeadline(first)
}

// inFrame tells whether the client has begun a frame, or a block of headers, that it has not finished.
func (w *watched) inFrame() bool { return w.have > 0 || w.block }

func (w *watched) due() time.Time { return w.began.Add(w.inflow.patience.For(w.got)) }

// follow goes through bytes that gRPC takes.
func (w *watched) follow(b []byte) {
	if w.prefaceLeft > 0 {
		n := min(w.prefaceLeft, len(b))
		w.prefaceLeft -= n
		b = b[n:]
	}
	for len(b) > 0 {
		if w.have < len(w.header) {
			n := copy(w.header[w.have:], b)
			w.have += n
			b = b[n:]
			if w.have < len(w.header) {
				return
			}
			w.beginFrame()
		} else {
			n := min(w.left, len(b))
			w.payload(b[:n])
			w.left -= n
			b = b[n:]
		}
		if w.left == 0 {
			w.endFrame()
		}
	}
}

// streamOf is the call that the frame belongs to.
func (w *watched) streamOf() uint32 {
	h := &w.header
	return (uint32(h[5])<<24 | uint32(h[6])<<16 | uint32(h[7])<<8 | uint32(h[8])) &^ (1 << 31)
}

// beginFrame counts what is to come, before gRPC makes room for it.
func (w *watched) beginFrame() {
	w.left = int(w.header[0])<<16 | int(w.header[1])<<8 | int(w.header[2])
	if w.header[3] != frameData {
		return
	}
	w.padLeft = 0
	if w.header[4]&flagPadded != 0 {
		w.padLeft = -1
	}
	if c := w.calls[w.streamOf()]; c != nil {
		c.take(int64(w.left) + frameBytes)
	}
}

// payload goes through bytes of a frame; w.left is not yet less for them.
func (w *watched) payload(b []byte) {
	if w.header[3] != frameData || len(b) == 0 {
		return
	}
	left := w.left
	if w.padLeft < 0 {
		w.padLeft = min(int(b[0]), left-1)
		b, left = b[1:], left-1
	}
	if data := min(len(b), left-w.padLeft); data > 0 {
		if c := w.calls[w.streamOf()]; c != nil {
			c.data(b[:data])
			w.note(c)
		}
	}
}

// endFrame does what a whole frame does.
func (w *watched) endFrame() {
	kind, flags, stream := w.header[3], w.header[4], w.streamOf()
	w.have = 0
	w.greeted = true
	w.began = time.Time{}
	switch kind {
	case frameHeaders, frameContinuation:
		w.of, w.block = stream, flags&flagEndHeaders == 0
		if kind == frameContinuation {
			break
		}
		// gRPC has not told of the call yet, which may have ended already.
		w.alone = flags&flagEndStream != 0
	case frameData:
		if flags&flagEndStream != 0 {
			w.finish(stream)
		}
	case frameReset:
		w.finish(stream)
	}
}

// finish is for a call that sends no more.
func (w *watched) finish(stream uint32) {
	c := w.calls[stream]
	if c == nil {
		return
	}
	c.finished = true
	w.note(c)
	delete(w.calls, stream)
}

// begin is for a call whose headers were the last frame.
func (w *watched) begin(c *incoming) {
	w.fresh = append(w.fresh, c)
	if w.alone {
		c.finished = true
		return
	}
	w.sweep()
	w.calls[w.of] = c
	w.note(c)
}

// note puts c among those that owe something, or takes it out.
func (w *watched) note(c *incoming) {
	switch missing := c.missing(); {
	case missing && c.at == 0:
		w.waiting = append(w.waiting, c)
		c.at = len(w.waiting)
	case !missing && c.at > 0:
		last := w.waiting[len(w.waiting)-1]
		w.waiting[c.at-1], last.at = last, c.at
		w.waiting[len(w.waiting)-1] = nil
		w.waiting = w.waiting[:len(w.waiting)-1]
		c.at = 0
	}
}

// abandon ends calls that no handler will ever have, as those in an encoding that gRPC does not know; their contexts have ended. all
// is for a connection that has ended, and its calls with it.
func (w *watched) abandon(all bool) {
	left := w.fresh[:0]
	for _, c := range w.fresh {
		switch {
		case c.started.Load():
		case all || c.Err() != nil:
			c.end()
		default:
			left = append(left, c)
		}
	}
	clear(w.fresh[len(left):])
	w.fresh = left
}

// settle takes those out that owe nothing any more.
func (w *watched) settle() {
	for i := len(w.waiting) - 1; i >= 0; i-- {
		w.note(w.waiting[i])
	}
}

// sweep forgets calls that were answered before they were sent in whole, and of which no more will come. It looks at each only after
// as many others have come.
func (w *watched) sweep() {
	const few = 64
	if len(w.calls) < few+2*w.swept {
		return
	}
	for stream, c := range w.calls {
		if c.isEnded() {
			c.finished = true
			w.note(c)
			delete(w.calls, stream)
		}
	}
	w.swept = len(w.calls)
}
