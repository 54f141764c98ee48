// Package site is what lies around the fraud application where somebody tries it: a WAN that can be cut, and what picketd says of its capture.
package site

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
)

// Options say what there is.
type Options struct {
	// Listen is where the WAN begins, host:port: what the uploader takes for its endpoint. Empty for no WAN to cut.
	Listen string
	// Target is where it ends: host:port.
	Target string
	// Folder is another WAN, where there is no S3 store: a folder that stands for the region, and is not there while the WAN is
	// down. It must exist.
	Folder string
	// Metrics is picketd's socket that has /metrics: oip.sock. Empty for no capture.
	Metrics string
}

// Site is the surroundings. It implements application.Surroundings.
type Site struct {
	o        Options
	listener net.Listener
	client   *http.Client

	mu      sync.Mutex
	up      bool
	closed  bool
	since   time.Time
	conns   map[net.Conn]struct{} // both ends of what goes over the WAN
	workers sync.WaitGroup
}

// New opens the WAN, which is up. The caller closes the Site.
func New(o Options) (*Site, error) {
	s := &Site{o: o, up: true, since: time.Now(), conns: map[net.Conn]struct{}{}}
	var dialer net.Dialer
	s.client = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", o.Metrics)
		},
	}}
	if o.Listen == "" {
		return s, nil
	}
	if o.Target == "" {
		return nil, errors.New("opening the WAN: it has a beginning and no end")
	}
	var err error
	if s.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("opening the WAN: %w", err)
	}
	s.workers.Go(s.accept)
	return s, nil
}

// Address is where the WAN begins.
func (s *Site) Address() string { return s.listener.Addr().String() }

// Close cuts the WAN and waits for what went over it.
func (s *Site) Close() error {
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	s.mu.Lock()
	s.closed = true
	s.cut()
	s.mu.Unlock()
	s.workers.Wait()
	s.client.CloseIdleConnections()
	return err
}

// cut ends every connection. The lock is held.
func (s *Site) cut() {
	for c := range s.conns {
		_ = c.Close() // that is what cutting means
	}
	clear(s.conns)
}

// WAN is the state of the switch.
func (s *Site) WAN() api.WAN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return api.WAN{Switchable: s.listener != nil || s.o.Folder != "", Up: s.up, Since: s.since.UTC()}
}

// SetWAN cuts the WAN, with everything that is under way on it, or connects it again.
func (s *Site) SetWAN(up bool) error {
	if s.listener == nil && s.o.Folder == "" {
		return errors.New("switching the WAN: there is none")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.up == up {
		return nil
	}
	if s.o.Folder != "" {
		if err := moveAway(s.o.Folder, !up); err != nil {
			return fmt.Errorf("switching the WAN: %w", err)
		}
	}
	s.up, s.since = up, time.Now()
	if !up {
		s.cut()
	}
	return nil
}

// moveAway puts a file in the place of a folder, so that nobody can make it again; or the folder back.
func moveAway(folder string, away bool) error {
	aside := folder + ".away"
	if away {
		if err := os.Rename(folder, aside); err != nil {
			return err
		}
		return os.WriteFile(folder, nil, 0o600)
	}
	if err := os.Remove(folder); err != nil {
		return err
	}
	return os.Rename(aside, folder)
}

// add keeps a connection to be cut, unless the WAN is down.
func (s *Site) add(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up || s.closed {
		_ = c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Site) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

func (s *Site) accept() {
	for {
		near, err := s.listener.Accept()
		if err != nil {
			return // it was closed
		}
		if s.add(near) {
			s.workers.Go(func() { s.relay(near) })
		}
	}
}

// relay carries bytes both ways until one side ends.
func (s *Site) relay(near net.Conn) {
	defer s.remove(near)
	far, err := net.DialTimeout("tcp", s.o.Target, 5*time.Second)
	if err != nil || !s.add(far) {
		return
	}
	defer s.remove(far)
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far) // a connection that ends is how this ends
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}

// Capture reads what picketd says of its spool.
func (s *Site) Capture(ctx context.Context) (api.Capture, error) {
	var c api.Capture
	if s.o.Metrics == "" {
		return c, nil
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://picket/metrics", nil)
	if err != nil {
		return c, err
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return c, fmt.Errorf("asking picketd for its capture: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return c, fmt.Errorf("asking picketd for its capture: status %d", answer.StatusCode)
	}
	return parse(io.LimitReader(answer.Body, 8<<20))
}

// parse sums the metrics of capture over their labels.
func parse(r io.Reader) (api.Capture, error) {
	var c api.Capture
	sums := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		name, value, found := strings.Cut(line, " ")
		if i := strings.IndexByte(line, '{'); i >= 0 {
			_, value, found = strings.Cut(line[i:], "} ")
			name = line[:i]
		}
		if !found || !strings.HasPrefix(name, "picket_capture_") {
			continue
		}
		value, _, _ = strings.Cut(value, " ") // a time may follow
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return c, fmt.Errorf("reading the metrics of capture: %q is no number", value)
		}
		sums[name] += n
	}
	if err := lines.Err(); err != nil {
		return c, fmt.Errorf("reading the metrics of capture: %w", err)
	}
	_, c.On = sums["picket_capture_accepted_records_total"]
	c.Accepted, c.Uploaded = uint64(sums["picket_capture_accepted_records_total"]), uint64(sums["picket_capture_uploaded_records_total"])
	c.Waiting, c.Dropped = uint64(sums["picket_capture_on_disk_records"]), uint64(sums["picket_capture_dropped_records_total"])
	c.Bytes = uint64(sums["picket_capture_spool_bytes"])
	return c, nil
}
