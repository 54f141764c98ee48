package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
)

// line is what lies between this site and the region, and can be cut.
type line interface {
	// target is where the daemon sends to: a folder, or a URL.
	target() string
	set(up bool) error
	Close() error
}

// folderLine is a folder that stands for the region, and is not there while the line is cut.
type folderLine struct{ dir string }

func newFolderLine(dir string) (line, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for the region: %w", err)
	}
	return folderLine{dir}, nil
}

func (l folderLine) target() string { return l.dir }

// set moves the folder away and puts a file in its place, so that nobody can make it again; or the other way round.
func (l folderLine) set(up bool) error {
	if up {
		if err := os.Remove(l.dir); err != nil {
			return fmt.Errorf("bringing the line back: %w", err)
		}
		return os.Rename(l.dir+".away", l.dir)
	}
	if err := os.Rename(l.dir, l.dir+".away"); err != nil {
		return fmt.Errorf("cutting the line: %w", err)
	}
	return os.WriteFile(l.dir, nil, 0o600)
}

func (l folderLine) Close() error { return nil }

// relay passes connections on to an S3 store, and drops them while the line is cut.
type relay struct {
	listener net.Listener
	to       string

	mu   sync.Mutex
	down bool
	open map[net.Conn]struct{}
	all  sync.WaitGroup
}

func newRelay(endpoint string) (line, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("reading --s3-endpoint: %q is no URL like http://127.0.0.1:7070; the line that can be cut takes one without TLS", endpoint)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("making a line to the region: %w", err)
	}
	r := &relay{listener: l, to: u.Host, open: map[net.Conn]struct{}{}}
	r.all.Go(r.accept)
	return r, nil
}

func (r *relay) target() string { return "http://" + r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return // it was closed
		}
		r.all.Go(func() { r.pass(c) })
	}
}

// pass moves bytes both ways until either side ends or the line is cut.
func (r *relay) pass(c net.Conn) {
	defer c.Close()
	if !r.enter(c) {
		return
	}
	defer r.leave(c)
	far, err := net.DialTimeout("tcp", r.to, 5*time.Second)
	if err != nil {
		return
	}
	defer far.Close()
	if !r.enter(far) {
		return
	}
	defer r.leave(far)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(far, c) // how a connection ends is for its two ends
		_ = far.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, far)
	_ = c.Close()
	<-done
}

func (r *relay) enter(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return false
	}
	r.open[c] = struct{}{}
	return true
}

func (r *relay) leave(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *relay) set(up bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = !up
	if r.down {
		for c := range r.open {
			_ = c.Close() // what it breaks is the point
		}
	}
	return nil
}

func (r *relay) Close() error {
	err := errors.Join(r.listener.Close(), r.set(false))
	r.all.Wait()
	return err
}

// surroundings are the line, and what the daemon says of its spool. They implement application.Surroundings.
type surroundings struct {
	line    line
	metrics http.Client

	mu    sync.Mutex
	up    bool
	since time.Time
}

func newSurroundings(l line, socket string) *surroundings {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &surroundings{line: l, up: true, since: time.Now(), metrics: http.Client{
		Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
	}}
}

func (s *surroundings) WAN() api.WAN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return api.WAN{Switchable: true, Up: s.up, Since: s.since}
}

func (s *surroundings) SetWAN(up bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if up == s.up {
		return nil
	}
	if err := s.line.set(up); err != nil {
		return err
	}
	s.up, s.since = up, time.Now()
	return nil
}

// Capture reads the daemon's metrics; docs/metrics.md explains them.
func (s *surroundings) Capture(ctx context.Context) (api.Capture, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picket/metrics", nil)
	if err != nil {
		return api.Capture{}, err
	}
	answer, err := s.metrics.Do(r)
	if err != nil {
		return api.Capture{}, fmt.Errorf("asking the daemon for its metrics: %w", err)
	}
	defer answer.Body.Close()
	var c api.Capture
	lines := bufio.NewScanner(io.LimitReader(answer.Body, 8<<20))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || n < 0 {
			continue // a comment
		}
		name, _, _ = strings.Cut(name, "{")
		switch name {
		case "picket_capture_spool_open":
			c.On = n == 1
		case "picket_capture_accepted_records_total":
			c.Accepted = uint64(n)
		case "picket_capture_uploaded_records_total":
			c.Uploaded = uint64(n)
		case "picket_capture_on_disk_records":
			c.Waiting = uint64(n)
		case "picket_capture_dropped_records_total", "picket_capture_quarantined_records_total":
			c.Dropped += uint64(n)
		case "picket_capture_spool_bytes":
			c.Bytes = uint64(n)
		}
	}
	return c, lines.Err()
}
