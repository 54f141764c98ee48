package oip

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/local"
)

// body is what a request was sent with, in a pooled buffer. Its owner releases it.
type body struct {
	data   []byte
	room   []byte // data and what is free behind it
	buffer mem.Buffer
	budget *local.Budget
	taken  int64
}

func (b *body) release() {
	if b.buffer != nil {
		b.buffer.Free()
	}
	b.budget.Give(b.taken)
}

// A body's buffer begins with firstRoom bytes, and becomes growth times as large
// whenever it is full.
const (
	firstRoom = 16 << 10
	growth    = 4
)

// rooms are buffers of the sizes that bodies grow to, so that a body takes what is
// counted: gRPC's own pool gives a megabyte to whoever asks for more than 32 KiB.
var rooms = mem.NewTieredBufferPool(firstRoom, growth*firstRoom, growth*growth*firstRoom, 1<<20, 4<<20, 16<<20, 64<<20)

// grow gets a buffer of n bytes, which is more than there are, and counts them as
// in flight.
func (b *body) grow(n int) error {
	more := int64(n - len(b.room))
	if err := b.budget.Take(more); err != nil {
		return err
	}
	b.taken += more
	larger := rooms.Get(n)
	b.room = *larger
	b.data = b.room[:copy(b.room, b.data)]
	if b.buffer != nil {
		b.buffer.Free()
	}
	b.buffer = mem.NewBuffer(larger, rooms)
	return nil
}

// readBody reads the body of a request, decompressed.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (_ body, err error) {
	b := body{budget: s.budget}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	limit := s.limits.MaxMessage
	if r.ContentLength > limit {
		return b, tooLarge(limit)
	}
	sent := &paced{from: r.Body, control: http.NewResponseController(w), patience: s.limits.patience, began: time.Now()}
	from, err := decompressed(sent, r.Header.Get("Content-Encoding"))
	if err != nil {
		return b, err
	}
	size := int64(unknownSize)
	if from == io.Reader(sent) {
		size = r.ContentLength
	}
	if err := b.read(from, size, limit); err != nil {
		// The deadline stays: net/http reads what is left of a body.
		return b, err
	}
	// From now on only a client that leaves is to be noticed, however long the
	// model takes.
	_ = sent.control.SetReadDeadline(time.Time{})
	return b, nil
}

// unknownSize is the size of a body that does not say how long it is, as net/http
// has it.
const unknownSize = -1

// read reads a body of that size, which is at most limit. The buffer grows as the
// body comes: what is only announced must not take the room of those whose
// requests are here.
func (b *body) read(from io.Reader, size, limit int64) error {
	most := size
	if size == unknownSize {
		most = limit
	}
	const patience = 100 // as io has it
	for empty := 0; int64(len(b.data)) < most; {
		if len(b.data) == len(b.room) {
			if err := b.grow(int(min(most, max(firstRoom, growth*int64(len(b.room)))))); err != nil {
				return err
			}
		}
		n, err := from.Read(b.room[len(b.data):])
		b.data = b.room[:len(b.data)+n]
		switch {
		case errors.Is(err, io.EOF) && (size == unknownSize || int64(len(b.data)) == size):
			return nil
		case errors.Is(err, io.EOF):
			return unreadable(io.ErrUnexpectedEOF)
		case err != nil:
			return unreadable(err)
		case n > 0:
			empty = 0
		default:
			if empty++; empty == patience {
				return unreadable(io.ErrNoProgress)
			}
		}
	}
	if size != unknownSize {
		return nil
	}
	switch _, err := io.ReadFull(from, make([]byte, 1)); {
	case err == nil:
		return tooLarge(limit)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return unreadable(err)
	}
}

func tooLarge(limit int64) error {
	return &statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes, which is the limit: send fewer rows at a time", limit)}
}

func unreadable(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		// Its own text names the daemon's socket.
		return &statusError{http.StatusRequestTimeout, errors.New("the rest of the body did not come in time")}
	}
	return &statusError{http.StatusBadRequest, fmt.Errorf("the body could not be read: %w", err)}
}

// decompressed is the body as it was before the client compressed it.
func decompressed(sent io.Reader, encoding string) (io.Reader, error) {
	switch encoding := strings.ToLower(encoding); encoding {
	case "", "identity":
		return sent, nil
	case "gzip":
		from, err := gzip.NewReader(sent)
		if err != nil {
			return nil, unreadable(err)
		}
		return from, nil
	case "deflate": // which is zlib's format, whatever it is called
		from, err := zlib.NewReader(sent)
		if err != nil {
			return nil, unreadable(err)
		}
		return from, nil
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the body's encoding %.40q is not supported: use gzip, deflate or none", encoding)}
	}
}

// maxSmallBody bounds the bodies of requests that carry no tensors.
const maxSmallBody = 64 << 10

// readJSON reads a small body into v. No body at all leaves v as it is.
func (s *Server) readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	b, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer b.release()
	if len(b.data) > maxSmallBody {
		return &statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes, which is the limit here", maxSmallBody)}
	}
	if len(bytes.TrimSpace(b.data)) == 0 {
		return nil
	}
	if b.data = bytes.TrimSpace(b.data); b.data[0] != '{' {
		return fmt.Errorf("%w: the body is not a JSON object", engine.ErrInvalidInput)
	}
	if err := json.Unmarshal(b.data, v); err != nil {
		return fmt.Errorf("%w: the body is not the JSON that is wanted: %w", engine.ErrInvalidInput, err)
	}
	return nil
}
