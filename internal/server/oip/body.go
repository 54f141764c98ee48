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
	"strings"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/picket-ml/picket/engine"
)

// body is what a request was sent with, in a pooled buffer. Its owner releases it.
type body struct {
	data   []byte
	buffer mem.Buffer
	budget *budget
	taken  int
}

func (b *body) release() {
	if b.buffer != nil {
		b.buffer.Free()
	}
	b.budget.giveBack(b.taken)
}

// take counts n more bytes as in flight.
func (b *body) take(n int) error {
	if err := b.budget.take(n); err != nil {
		return err
	}
	b.taken += n
	return nil
}

// readBody reads the body of a request, decompressed. It gives the client time
// for it by its size, and for taking the answer too.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (_ body, err error) {
	b := body{budget: &s.inFlight}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	limit := s.limits.MaxMessage
	tooLarge := &statusError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes, which is the limit: send fewer rows at a time", limit)}
	if r.ContentLength > limit {
		return b, tooLarge
	}
	most := r.ContentLength
	if most < 0 {
		most = limit
	}
	control := http.NewResponseController(w)
	now := time.Now()
	// It cannot fail over a connection of net/http's, and others there are not.
	_ = control.SetReadDeadline(now.Add(s.limits.patience.forBytes(most)))
	from, err := decompressed(r)
	if err != nil {
		return b, err
	}
	if r.ContentLength >= 0 && from == io.Reader(r.Body) {
		err = b.readExactly(from, int(r.ContentLength))
	} else {
		err = b.readAll(from, limit, tooLarge)
	}
	if err != nil {
		// The deadline stays: net/http reads what is left of a body.
		return b, err
	}
	// From now on only a client that leaves is to be noticed, however long the
	// model takes.
	_ = control.SetReadDeadline(time.Time{})
	return b, nil
}

// readExactly reads a body of n bytes.
func (b *body) readExactly(from io.Reader, n int) error {
	if err := b.take(n); err != nil {
		return err
	}
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(n)
	b.buffer = mem.NewBuffer(buffer, pool)
	b.data = (*buffer)[:n]
	if _, err := io.ReadFull(from, b.data); err != nil {
		return unreadable(err)
	}
	return nil
}

// readAll reads a body of a size that is not known.
func (b *body) readAll(from io.Reader, limit int64, tooLarge error) error {
	var all bytes.Buffer
	for int64(all.Len()) <= limit {
		const step = 64 << 10
		if err := b.take(step); err != nil {
			return err
		}
		n, err := io.CopyN(&all, from, step)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return unreadable(err)
		}
		if n == 0 {
			return unreadable(io.ErrNoProgress)
		}
	}
	if int64(all.Len()) > limit {
		return tooLarge
	}
	b.data = all.Bytes()
	return nil
}

func unreadable(err error) error {
	return &statusError{http.StatusBadRequest, fmt.Errorf("the body could not be read: %w", err)}
}

// decompressed is the body as it was before the client compressed it.
func decompressed(r *http.Request) (io.Reader, error) {
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		from, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, unreadable(err)
		}
		return from, nil
	case "deflate": // which is zlib's format, whatever it is called
		from, err := zlib.NewReader(r.Body)
		if err != nil {
			return nil, unreadable(err)
		}
		return from, nil
	default:
		return nil, &statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the body's encoding %.40q is not supported: use gzip, deflate or none", encoding)}
	}
}

// answerIn gives the client time to take an answer of n bytes.
func (s *Server) answerIn(w http.ResponseWriter, n int) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.limits.patience.forBytes(int64(n))))
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
