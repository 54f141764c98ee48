package site_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/site"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// echo answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func say(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "hello\n" {
		err = fmt.Errorf("heard %q", line)
	}
	return err
}

// TestWAN cuts the WAN: what is under way ends, what begins fails, and afterwards all is well.
func TestWAN(t *testing.T) {
	s, err := site.New(site.Options{Listen: "127.0.0.1:0", Target: echo(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := dial()
	if err := say(first); err != nil {
		t.Fatal(err)
	}
	if err := s.SetWAN(false); err != nil || s.WAN().Up || !s.WAN().Switchable {
		t.Fatalf("%v, %+v", err, s.WAN())
	}
	if err := say(first); err == nil {
		t.Error("a connection outlived the cut")
	}
	if err := say(dial()); err == nil {
		t.Error("a connection was made over a WAN that is cut")
	}
	if err := s.SetWAN(true); err != nil || !s.WAN().Up {
		t.Fatalf("%v, %+v", err, s.WAN())
	}
	if err := say(dial()); err != nil {
		t.Errorf("after the cut: %v", err)
	}
}

func TestWithout(t *testing.T) {
	s, err := site.New(site.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := s.Capture(t.Context())
	if err != nil || c.On || s.WAN().Switchable || s.SetWAN(false) == nil {
		t.Errorf("without anything: %+v, %+v, %v", c, s.WAN(), err)
	}
	if _, err := site.New(site.Options{Listen: "127.0.0.1:0"}); err == nil {
		t.Error("a WAN without an end was opened")
	}
}

// TestCapture reads metrics in the form of picketd's.
func TestCapture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "oip.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	text := "# HELP x y\npicket_requests_total{model=\"a b\"} 7\n"
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	s, err := site.New(site.Options{Metrics: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if c, err := s.Capture(t.Context()); err != nil || c.On {
		t.Errorf("without capture: %+v, %v", c, err)
	}
	text += "picket_capture_accepted_records_total 12\npicket_capture_uploaded_records_total 5\npicket_capture_on_disk_records 4\npicket_capture_dropped_records_total{reason=\"age\"} 1\npicket_capture_dropped_records_total{reason=\"quota\"} 2\npicket_capture_spool_bytes 1.5e+06\n"
	if c, err := s.Capture(t.Context()); err != nil || c != (api.Capture{On: true, Accepted: 12, Uploaded: 5, Waiting: 4, Dropped: 3, Bytes: 1_500_000}) {
		t.Errorf("with capture: %+v, %v", c, err)
	}
	text += "picket_capture_spool_bytes many\n"
	if _, err := s.Capture(t.Context()); err == nil {
		t.Error("a number that is none was read")
	}
}
