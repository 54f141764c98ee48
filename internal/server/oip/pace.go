package oip

import (
	"io"
	"net/http"
	"time"
)

// paced reads a body from a client, which must send it at the rate of patience,
// counted from the beginning, with patience.Transfer to spare: a client that
// announces much and sends little is not waited for any longer than others.
type paced struct {
	from     io.Reader
	control  *http.ResponseController
	patience patience
	began    time.Time
	got      int64
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	// It cannot fail over a connection of net/http's, and others there are not.
	_ = p.control.SetReadDeadline(p.began.Add(p.patience.For(p.got)))
	n, err := p.from.Read(b)
	p.got += int64(n)
	return n, err
}

// reply gives the client time to take an answer, by the size of what was written of
// it: no client that reads nothing is waited for without end.
type reply struct {
	http.ResponseWriter
	patience patience
	began    time.Time // of the answer; zero before
	written  int64
}

// Unwrap lets http.ResponseController find the connection.
func (a *reply) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *reply) WriteHeader(status int) {
	a.allow(0)
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *reply) Write(b []byte) (int, error) {
	a.allow(len(b))
	return a.ResponseWriter.Write(b)
}

// allow sets the deadline for n more bytes. net/http takes it away after the answer.
func (a *reply) allow(n int) {
	if a.began.IsZero() {
		a.began = time.Now()
	}
	a.written += int64(n)
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(a.began.Add(a.patience.For(a.written)))
}
