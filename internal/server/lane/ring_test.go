package lane

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/ring"
	client "github.com/picket-ml/picket/lane"
)

// rawRing is the ring of a client that writes to it what it wants.
type rawRing struct {
	ring   *ring.Ring
	memory []byte // all of it, mapped once more
	ended  chan struct{}
}

func helloForRing() []byte {
	return frameOf(lanewire.Header{Kind: lanewire.KindHello}, lanewire.Hello{Lowest: 1, Highest: 1, Features: lanewire.FeatureRing}.Append(nil))
}

// welcomed sends a hello that asks for a ring, and returns the answer and the
// descriptors that came along, which are the caller's.
func (c *rawConn) welcomed() (lanewire.Welcome, []int) {
	c.t.Helper()
	c.send(helloForRing())
	b, control := make([]byte, 4096), make([]byte, 4096)
	n, controls, _, _, err := c.ReadMsgUnix(b, control)
	if err != nil {
		c.t.Fatal(err)
	}
	var h lanewire.Header
	if n < lanewire.HeaderSize || h.Parse(b) != nil || h.Kind != lanewire.KindWelcome {
		c.t.Fatalf("the server answers a hello with %q", b[:n])
	}
	welcome, err := lanewire.ParseWelcome(b[lanewire.HeaderSize:n])
	if err != nil {
		c.t.Fatal(err)
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controls])
	if err != nil {
		c.t.Fatal(err)
	}
	var fds []int
	for i := range messages {
		rights, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			c.t.Fatal(err)
		}
		fds = append(fds, rights...)
	}
	return welcome, fds
}

// rawRing is a raw connection that was given a ring.
func (f *fixture) rawRing(t testing.TB, network string) *rawConn {
	t.Helper()
	c := f.raw(t, network)
	welcome, fds := c.welcomed()
	if welcome.Features != lanewire.FeatureRing || len(fds) != 1 {
		t.Fatalf("asked for a ring, the server gives %+v and %d descriptors", welcome, len(fds))
	}
	defer unix.Close(fds[0])
	var about unix.Stat_t
	if err := unix.Fstat(fds[0], &about); err != nil {
		t.Fatal(err)
	}
	memory, err := unix.Mmap(fds[0], 0, int(about.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ring.Map(fds[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetReadDeadline(time.Now().Add(testPatience))
	c.rawRing = &rawRing{r, memory, make(chan struct{})}
	go func() {
		defer close(c.ended)
		_, _ = c.UnixConn.Read(make([]byte, 1)) // whatever comes of it is the end
		r.Close()
	}()
	t.Cleanup(func() {
		c.Close()
		<-c.ended
		if err := errors.Join(r.Unmap(), unix.Munmap(memory)); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Write writes to the ring, where there is one.
func (c *rawConn) Write(b []byte) (int, error) {
	if c.rawRing == nil {
		return c.UnixConn.Write(b)
	}
	wrote := 0
	for {
		n, err := c.ring.Out.Put(b[wrote:])
		if wrote += n; err != nil || wrote == len(b) {
			return wrote, err
		}
		if err := c.ring.Out.WaitForRoom(testPatience); err != nil {
			return wrote, err
		}
	}
}

// Read reads from the ring, where there is one.
func (c *rawConn) Read(b []byte) (int, error) {
	if c.rawRing == nil {
		return c.UnixConn.Read(b)
	}
	if err := c.ring.In.Wait(); err != nil {
		return 0, err
	}
	return c.ring.In.Take(b)
}

// mapped counts the mappings of rings that the process has.
func mapped(t testing.TB) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("memfd:picket-lane"))
}

// The memory of a ring cannot be made shorter or longer, and holes in it harm only
// who makes them.
func TestRingIsSealed(t *testing.T) {
	f := start(t, Options{}, inline)
	for _, network := range networks {
		c := f.raw(t, network)
		_, fds := c.welcomed()
		if len(fds) != 1 {
			t.Fatalf("%d descriptors came along", len(fds))
		}
		defer unix.Close(fds[0])
		for _, size := range []int64{0, 4096, 1 << 30} {
			if err := unix.Ftruncate(fds[0], size); !errors.Is(err, unix.EPERM) {
				t.Errorf("making it %d bytes long: %v", size, err)
			}
		}
		if _, err := unix.FcntlInt(uintptr(fds[0]), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(err, unix.EPERM) {
			t.Errorf("sealing it against the server: %v", err)
		}
		if err := unix.Fallocate(fds[0], unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1<<19); err != nil {
			t.Error(err)
		}
	}
	f.checkServing(t)
}

// Without a ring to give, the server goes on over the socket.
func TestRingsAreLimited(t *testing.T) {
	f := start(t, Options{MaxRings: 1}, inline)
	first := f.dial(t, overRing)
	second, err := client.Dial(t.Context(), f.path, client.Options{Ring: true})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if second.HasRing() {
		t.Error("a client got a ring above the limit")
	}
	for _, c := range []*client.Client{first, second} {
		m, err := c.Model(t.Context(), "sum")
		if err != nil {
			t.Fatal(err)
		}
		y, err := m.PredictFloat32(t.Context(), rowsFrom(3, 2))
		if err != nil {
			t.Fatal(err)
		}
		checkSums(t, y, 2, 3)
	}
	first.Close()
	waitFor(t, "the ring to be free", func() bool { return f.server.rings.now.Load() == 0 })
	f.dial(t, overRing)
}

// What asks for a ring waits for the answer, because what comes next belongs there.
func TestNothingFollowsAHelloForARing(t *testing.T) {
	f := start(t, Options{}, inline)
	c := f.raw(t, "unix")
	c.send(append(helloForRing(), frameOf(lanewire.Header{Kind: lanewire.KindOpen}, []byte("sum"))...))
	if said := c.wantHangUp(); !strings.HasPrefix(said, "invalid argument: more came behind a hello") {
		t.Errorf("the server says %q", said)
	}
	f.checkServing(t)
}

// Bytes on the socket beside a ring end the connection.
func TestSocketBesideARing(t *testing.T) {
	f := start(t, Options{}, inline)
	c := f.greeted(t, overRing)
	if _, err := c.UnixConn.Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	c.wantHangUp()
	f.checkServing(t)
}

// Positions that cannot be end the connection and nothing else. All words of the
// page of positions are tried, which includes those that say who sleeps.
func TestRingPositions(t *testing.T) {
	f := start(t, Options{}, inline)
	for at := 0; at < 1024+128; at += 4 {
		if at%128 != 0 {
			continue
		}
		for _, value := range []uint32{0, 1, 1 << 17, ring.Capacity - 1, ring.Capacity, ring.Capacity + 1, 1 << 31, 1<<32 - 1} {
			c := f.greeted(t, overRing)
			for i := range 4 {
				c.memory[at+i] = byte(value >> (8 * i))
			}
			// Whether it is answered depends on the word. The server may not write into
			// nothing, nor wait for ever.
			_, _ = c.ring.Out.Put(predictFrame(1, 1, 1))
			c.ring.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			_, _, _ = c.next()
			c.Close()
		}
	}
	f.checkServing(t)
	waitFor(t, "all to be gone", func() bool { return connections(f.server) == 0 })
	// Those of this side of the test are unmapped at its end.
	if n := f.server.rings.now.Load(); n != 0 {
		t.Errorf("%d rings are still in use", n)
	}
}

// A client that changes its requests while they are read gets answers to something,
// or errors; nobody else notices.
func TestRingThatChanges(t *testing.T) {
	f := start(t, Options{}, inline, func(s *Server) { s.patience.frame, s.patience.write = time.Second, time.Second })
	for range 20 {
		c := f.greeted(t, overRing)
		stop := make(chan struct{})
		var scribbler sync.WaitGroup
		scribbler.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					c.memory[4096+i*7919%ring.Capacity] ^= 0xff
				}
			}
		})
		for i := range uint64(200) {
			if _, err := c.Write(predictFrame(i, 50, 1)); err != nil {
				break
			}
			c.ring.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, _, err := c.next(); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
		close(stop)
		scribbler.Wait()
		c.Close()
	}
	f.checkServing(t)
	waitFor(t, "everything to be given back", func() bool { return connections(f.server) == 0 && f.server.budget.Used() == 0 })
}

// Clients that end in the middle of something leave no mapping behind.
func TestRingOfTheDead(t *testing.T) {
	running, open := make(chan struct{}, 1000), make(chan struct{})
	f := start(t, Options{}, enginetest.Script{OnRun: func(int) error { running <- struct{}{}; <-open; return nil }})
	before := mapped(t)
	for i := range 20 {
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: f.path, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		c := &rawConn{UnixConn: conn, t: t}
		_, fds := c.welcomed()
		r, err := ring.Map(fds[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(fds[0])
		for _, b := range [][]byte{frameOf(lanewire.Header{Kind: lanewire.KindOpen}, []byte("sum")), predictFrame(1, 1, 1), predictFrame(2, 1, 1)[:40]} {
			if _, err := r.Out.Put(b); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			<-running
		} else {
			waitFor(t, "the request to be read", func() bool { return f.stats(t, "sum").WaitingRequests > 0 })
		}
		conn.Close()
		if err := r.Unmap(); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "all to be gone", func() bool { return connections(f.server) == 0 && mapped(t) == before })
	close(open)
	f.checkServing(t)
}

// A caller whose context ends while it reads for all leaves, and others go on.
func TestRingReaderLeaves(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{})
	m, err := f.dial(t, overRing).Model(t.Context(), "stuck")
	if err != nil {
		t.Fatal(err)
	}
	var callers sync.WaitGroup
	callers.Go(func() {
		y, err := m.PredictFloat32(t.Context(), rowsFrom(1, 7))
		if err != nil {
			t.Error(err)
			return
		}
		checkSums(t, y, 7, 1)
	})
	<-running
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		if i%2 == 0 {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 3*time.Millisecond)
		} else {
			time.AfterFunc(3*time.Millisecond, cancel)
		}
		_, err := m.PredictFloat32(ctx, rowsFrom(1, 1))
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who gave up: %v", err)
		}
		cancel()
	}
	waitFor(t, "what nobody waits for to leave the queue", func() bool { return f.stats(t, "stuck").WaitingRequests == 0 })
	open()
	callers.Wait()
}

// A caller who is called away while it reads a large answer leaves a stream that the
// next can go on with.
func TestRingReaderLeavesInALargeAnswer(t *testing.T) {
	f := start(t, Options{}, inline)
	m := f.model(t, overRing)
	x := rowsFrom(100_000, 3)
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(50*i)*time.Microsecond)
		if y, err := m.PredictFloat32(ctx, x); err == nil {
			checkSums(t, y, 3, len(x)/enginetest.Columns)
		} else if said := (*client.Error)(nil); !errors.Is(err, context.DeadlineExceeded) && (!errors.As(err, &said) || said.Code != client.ResourceExhausted) {
			t.Fatal(err) // while others are run that nobody waits for any more, it may be refused
		}
		cancel()
	}
	y, err := m.PredictFloat32(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, y, 3, len(x)/enginetest.Columns)
}

// The Go client notices that a daemon which is not one promises what it does not
// keep.
func TestRingPromisedInVain(t *testing.T) {
	path := t.TempDir() + "/s"
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	welcome := lanewire.Welcome{Version: 1, Features: lanewire.FeatureRing, MaxMessage: lanewire.MaxMessage, MaxPayload: 1 << 20, MaxOutstanding: 10, MaxModels: 10}.Append(nil)
	frame := frameOf(lanewire.Header{Kind: lanewire.KindWelcome}, welcome)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if err := plain.Truncate(4096 + 2*ring.Capacity); err != nil {
		t.Fatal(err)
	}
	fd := func(f *os.File) []byte { return unix.UnixRights(int(f.Fd())) }
	for what, control := range map[string][]byte{
		"nothing": nil, "a device": fd(null), "a file that can shrink": fd(plain), "two": unix.UnixRights(int(null.Fd()), int(plain.Fd())),
	} {
		go func() {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			defer conn.Close()
			_, _ = io.ReadAtLeast(conn, make([]byte, 4096), 1)
			_, _, _ = conn.WriteMsgUnix(frame, control, nil)
			_, _ = conn.Read(make([]byte, 1))
		}()
		if c, err := client.Dial(t.Context(), path, client.Options{Ring: true}); !errors.Is(err, client.ErrUnavailable) {
			t.Errorf("%s came along: %v", what, err)
			if err == nil {
				c.Close()
			}
		}
	}
}
