package lane

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	client "github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }},
		testkit.Handles{Name: "sockets", Open: openSockets})
}

// openSockets counts the process's descriptors of sockets.
func openSockets() int64 {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	n := int64(0)
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && len(to) > 7 && to[:7] == "socket:" {
			n++
		}
	}
	return n
}

// fixture is a server on a socket of each type. Its models sum rows of three
// float32, see enginetest.
type fixture struct {
	server  *Server
	engine  *engine.Engine
	path    string // SOCK_SEQPACKET
	stream  string // SOCK_STREAM
	log     *testkit.Output
	backend *enginetest.Backend
}

// start serves a model "sum" of that script. adjust may change the server before
// it listens.
func start(t testing.TB, o Options, script enginetest.Script, adjust ...func(*Server)) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{
		path: filepath.Join(dir, "lane.sock"), stream: filepath.Join(dir, "lane-stream.sock"),
		log: &testkit.Output{}, backend: enginetest.New(script),
	}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	f.engine, err = engine.New(engine.Options{
		Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}, Backends: []engine.Backend{f.backend}, Source: enginetest.Source{Dir: dir}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.load(t, "sum", engine.ModelOptions{})
	o.Engine, o.Log = f.engine, log
	if o.MaxRings == 0 {
		o.MaxRings = 64
	}
	if f.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	for _, a := range adjust {
		a(f.server)
	}
	served := make(chan error, 2)
	for network, path := range map[string]string{"unixpacket": f.path, "unix": f.stream} {
		l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- f.server.Serve(l, local.Access{}) }()
	}
	t.Cleanup(func() {
		f.server.Stop()
		for range cap(served) {
			if err := <-served; err != nil {
				t.Errorf("serving ended with %v", err)
			}
		}
		f.server.ended.Wait()
		if n := f.server.rings.now.Load(); n != 0 {
			t.Errorf("%d rings are still counted", n)
		}
		if n := f.server.budget.Used(); n != 0 {
			t.Errorf("%d bytes are still counted as under way", n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := f.engine.Close(ctx); err != nil {
			t.Error(err)
		}
		for _, v := range f.backend.Violations() {
			t.Error(v)
		}
	})
	return f
}

var inline = enginetest.Script{Properties: engine.Properties{Inline: true}}

func (f *fixture) load(t testing.TB, name string, o engine.ModelOptions) {
	t.Helper()
	if _, err := f.engine.Load(t.Context(), name, "somewhere", o); err != nil {
		t.Fatal(err)
	}
}

// dial connects a client of the Go package, to be closed with the test.
func (f *fixture) dial(t testing.TB, way string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), f.pathOf(way), client.Options{Ring: way == overRing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if c.HasRing() != (way == overRing) {
		t.Fatalf("over %s the client has a ring: %v", way, c.HasRing())
	}
	return c
}

func (f *fixture) pathOf(way string) string {
	if way == "unix" {
		return f.stream
	}
	return f.path
}

func (f *fixture) model(t testing.TB, way string) *client.Model {
	t.Helper()
	m, err := f.dial(t, way).Model(t.Context(), "sum")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// checkServing wants the server to answer others.
func (f *fixture) checkServing(t testing.TB) {
	t.Helper()
	for _, path := range []string{f.path, f.stream} {
		c, err := client.Dial(t.Context(), path, client.Options{})
		if err != nil {
			t.Fatalf("the server does not serve any more: %v", err)
		}
		m, err := c.Model(t.Context(), "sum")
		if err != nil {
			t.Fatalf("the server does not serve any more: %v", err)
		}
		y, err := m.PredictFloat32(t.Context(), rowsFrom(2, 5))
		if err != nil || y[0] != 5 || y[1] != 6 {
			t.Fatalf("the server does not serve any more: %v, %v", y, err)
		}
		c.Close()
	}
}

// rowsFrom is n rows whose sums are first, first+1 and so on.
func rowsFrom(n int, first float32) []float32 {
	x := make([]float32, n*enginetest.Columns)
	for i := range n {
		x[i*enginetest.Columns] = first + float32(i)
	}
	return x
}

func checkSums(t testing.TB, y []float32, first float32, n int) {
	t.Helper()
	if len(y) != n {
		t.Fatalf("%d sums for %d rows", len(y), n)
	}
	for i, v := range y {
		if v != first+float32(i) {
			t.Fatalf("the sum of row %d is %v, want %v", i, v, first+float32(i))
		}
	}
}

// rawConn is a client that sends what it wants.
type rawConn struct {
	*net.UnixConn
	*rawRing // nil without a ring
	t        testing.TB
	unread   []byte
}

const testPatience = 30 * time.Second

func (f *fixture) raw(t testing.TB, network string) *rawConn {
	t.Helper()
	conn, err := net.DialUnix(network, nil, &net.UnixAddr{Name: f.pathOf(network), Net: network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testPatience)); err != nil {
		t.Fatal(err)
	}
	return &rawConn{UnixConn: conn, t: t}
}

// greeted is a raw connection after the handshake, with "sum" open as handle 1.
func (f *fixture) greeted(t testing.TB, way string) *rawConn {
	t.Helper()
	var c *rawConn
	if way == overRing {
		c = f.rawRing(t, "unixpacket")
	} else {
		c = f.raw(t, way)
		c.send(hello())
		if h, _ := c.receive(); h.Kind != lanewire.KindWelcome {
			t.Fatalf("the server greets with %+v", h)
		}
	}
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 7}, []byte("sum")))
	if h, _ := c.receive(); h.Kind != lanewire.KindModel || h.ID != 7 || h.Handle != 1 {
		t.Fatalf("the server answers an opening with %+v", h)
	}
	return c
}

func frameOf(h lanewire.Header, payload []byte) []byte {
	h.Payload = uint32(len(payload))
	b := make([]byte, lanewire.HeaderSize)
	h.Put(b)
	return append(b, payload...)
}

// predictFrame asks handle 1 for n rows.
func predictFrame(id uint64, n int, first float32) []byte {
	return frameOf(lanewire.Header{Kind: lanewire.KindPredict, ID: id, Handle: 1, Rows: uint32(n)}, tensor.AsBytes(rowsFrom(n, first)))
}

func (c *rawConn) send(b []byte) {
	c.t.Helper()
	if _, err := c.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// next is the next frame.
func (c *rawConn) next() (h lanewire.Header, payload []byte, err error) {
	buffer := make([]byte, lanewire.MaxMessage)
	for {
		if len(c.unread) >= lanewire.HeaderSize {
			if err := h.Parse(c.unread); err != nil {
				return h, nil, err
			}
			if size := lanewire.HeaderSize + int(h.Payload); len(c.unread) >= size {
				payload, c.unread = c.unread[lanewire.HeaderSize:size], c.unread[size:]
				return h, payload, nil
			}
		}
		n, err := c.Read(buffer)
		if err != nil {
			return h, nil, err
		}
		if n == 0 {
			return h, nil, io.EOF
		}
		c.unread = append(bytes.Clone(c.unread), buffer[:n]...)
	}
}

func (c *rawConn) receive() (lanewire.Header, []byte) {
	c.t.Helper()
	h, payload, err := c.next()
	if err != nil {
		c.t.Fatal(err)
	}
	return h, payload
}

// wantError wants the next frame to be that error, and returns its sentence.
func (c *rawConn) wantError(id uint64, code client.Code) lanewire.Failure {
	c.t.Helper()
	h, payload := c.receive()
	f, err := lanewire.ParseFailure(payload)
	if h.Kind != lanewire.KindError || h.ID != id || err != nil || client.Code(f.Code) != code || f.Sentence == "" {
		c.t.Fatalf("received %+v with %+v, %v; want error %v for %d", h, f, err, code, id)
	}
	return f
}

// wantSums wants the next frame to be the answer to predictFrame.
func (c *rawConn) wantSums(id uint64, n int, first float32) {
	c.t.Helper()
	h, payload := c.receive()
	if h.Kind != lanewire.KindResult || h.ID != id || int(h.Rows) != n || len(payload) != 4*n {
		f, _ := lanewire.ParseFailure(payload)
		c.t.Fatalf("received %+v with %d bytes, %+v; want %d rows for %d", h, len(payload), f, n, id)
	}
	for i := range n {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(payload[4*i:])); got != first+float32(i) {
			c.t.Fatalf("row %d of request %d is %v, want %v", i, id, got, first+float32(i))
		}
	}
}

// wantHangUp wants the server to hang up, after a fatal error or without a word.
func (c *rawConn) wantHangUp() (said string) {
	c.t.Helper()
	for {
		h, payload, err := c.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatal("the server does not hang up")
		case err != nil:
			return said
		case h.Kind == lanewire.KindError && h.Flags == lanewire.FlagFatal:
			f, err := lanewire.ParseFailure(payload)
			if err != nil {
				c.t.Fatal(err)
			}
			said = fmt.Sprint(client.Code(f.Code), ": ", f.Sentence)
		}
	}
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testPatience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (f *fixture) stats(t testing.TB, name string) engine.Stats {
	t.Helper()
	m, err := f.engine.Acquire(name)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	return m.Stats()
}

var networks = []string{"unixpacket", "unix"}

// ways are how a client that has been greeted goes on: on the socket, or in a ring.
var ways = append(networks[:2:2], overRing)

const overRing = "ring"
