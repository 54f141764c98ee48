package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/internal/lanewire"
)

// What is promised of clients that are slow or read nothing.
const (
	mostBytesEach = 64 << 10
	// mostP99 is how many times as long others may have to wait. It is told and not judged.
	mostP99 = 1.2
)

// slowKind is a way in which clients waste a daemon's time.
type slowKind struct {
	protocol string
	name     string
	// opening is sent at once, so that the slow bytes are of the right moment.
	opening func() []byte
	// dripped is sent a byte a second, and begun again if it ends.
	dripped []byte
	// flood is sent again and again, as fast as it is taken, by clients that read nothing. Nil for those that drip, and for those that ask once.
	flood []byte
	// limit is after how long the daemon hangs up at the latest, for the operator's documents say so.
	limit time.Duration
	// long is for a limit that the short form does not wait for.
	long bool
}

// kinds are all of them; model is loaded as "fraud".
func kinds() []slowKind {
	const ten, twenty = 10 * time.Second, 20 * time.Second
	// Keepalive asks after two minutes of silence, and waits twenty seconds for the answer.
	const asked = 2*time.Minute + twenty
	var all []slowKind
	for _, name := range []string{"lane", "lane-stream"} {
		all = append(all,
			slowKind{protocol: name, name: "a greeting, a byte a second,", opening: nothing, dripped: laneHello(), limit: ten},
			slowKind{protocol: name, name: "a frame, a byte a second,", opening: laneGreeting, dripped: lanePredict(1), limit: ten},
			slowKind{protocol: name, name: "whoever reads no answer", opening: laneGreeting, flood: lanePredict(256), limit: ten})
	}
	for _, name := range []string{"agent", "oip-grpc"} {
		all = append(all,
			slowKind{protocol: name, name: "a greeting, a byte a second,", opening: nothing, dripped: []byte(http2.ClientPreface), limit: ten},
			slowKind{protocol: name, name: "a frame, a byte a second,", opening: grpcGreeting, dripped: grpcUnfinished(), limit: asked, long: true},
			slowKind{protocol: name, name: "whoever reads no answer", opening: grpcCalls, limit: asked, long: true})
	}
	for _, name := range []string{"oip-http", "tcp"} {
		all = append(all,
			slowKind{protocol: name, name: "a header, a byte a second,", opening: nothing, dripped: []byte("GET /v2/health/live HTTP/1.1\r\nHost: picket\r\nX-Slow: " + strings.Repeat("x", 4096)), limit: ten},
			slowKind{protocol: name, name: "a body, a byte a second,", opening: httpUnfinished, dripped: bytes.Repeat([]byte(" "), 4096), limit: twenty},
			slowKind{protocol: name, name: "whoever reads no answer", opening: nothing, flood: httpFlood(), limit: twenty})
	}
	return all
}

func nothing() []byte { return nil }

func laneFrame(h lanewire.Header, payload []byte) []byte {
	h.Payload = uint32(len(payload))
	b := make([]byte, lanewire.HeaderSize, lanewire.HeaderSize+len(payload))
	h.Put(b)
	return append(b, payload...)
}

func laneHello() []byte {
	return laneFrame(lanewire.Header{Kind: lanewire.KindHello}, lanewire.Hello{Lowest: lanewire.Version, Highest: lanewire.Version}.Append(nil))
}

// laneGreeting opens the model as handle 1.
func laneGreeting() []byte {
	return append(laneHello(), laneFrame(lanewire.Header{Kind: lanewire.KindOpen, ID: 1}, []byte("fraud"))...)
}

func lanePredict(n int) (b []byte) {
	for i := range n {
		b = append(b, laneFrame(lanewire.Header{Kind: lanewire.KindPredict, ID: uint64(i), Handle: 1, Rows: 1}, make([]byte, 4*fraudFeatures))...)
	}
	return b
}

// grpcGreeting is what a client of HTTP/2 begins with, and a window so small that no answer fits.
func grpcGreeting() []byte {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	_ = http2.NewFramer(&b, nil).WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) // a buffer takes everything
	return b.Bytes()
}

// grpcHeaders are those of a call. The table of headers is not used, so that each block stands alone.
func grpcHeaders(more ...hpack.HeaderField) []byte {
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/grpc.health.v1.Health/Check"},
		{Name: ":authority", Value: "picket"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"},
	}, more...) {
		_ = fields.WriteField(f) // a buffer takes everything
	}
	return block.Bytes()
}

// grpcUnfinished is a call whose headers are never whole.
func grpcUnfinished() []byte {
	var b bytes.Buffer
	block := grpcHeaders(hpack.HeaderField{Name: "slow", Value: strings.Repeat("x", 4096)})
	_ = http2.NewFramer(&b, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}) // as above
	return b.Bytes()
}

// grpcCalls are as many calls as a client has under way that does not hurry.
func grpcCalls() []byte {
	b := bytes.NewBuffer(grpcGreeting())
	framer := http2.NewFramer(b, nil)
	for id := uint32(1); id < 16; id += 2 {
		_ = errors.Join( // a buffer takes everything
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: grpcHeaders(), EndHeaders: true}),
			framer.WriteData(id, true, make([]byte, 5)))
	}
	return b.Bytes()
}

func httpUnfinished() []byte {
	return []byte("POST /v2/models/fraud/infer HTTP/1.1\r\nHost: picket\r\nContent-Length: 1000000\r\n\r\n")
}

func httpFlood() []byte {
	return bytes.Repeat([]byte("GET /openapi.yaml HTTP/1.1\r\nHost: picket\r\n\r\n"), 64)
}

// slow is the part: on each protocol, slow clients and silent ones beside a well-behaved one.
func slow(ctx context.Context, s *soak) error {
	for _, p := range protocols {
		if err := s.slowOn(ctx, p); err != nil {
			return fmt.Errorf("over %s: %w", p.name, err)
		}
	}
	return nil
}

// slowOn tries one protocol, with a daemon of its own: all kinds at once, those that are slow in equal parts of the connections.
func (s *soak) slowOn(ctx context.Context, p protocol) error {
	fraud, err := s.fraudFolder()
	if err != nil {
		return err
	}
	// Asked is what connections hold. At the collector's usual pace as much again may be what they held a while ago, depending on how far it happens to be.
	d, err := s.start(ctx, "slow-"+p.name, fmt.Sprintf("models: [{name: fraud, path: %q}]\n", fraud), "GOGC=25")
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	polite, err := p.client(ctx, d, "fraud", fraudFeatures)
	if err != nil {
		return err
	}
	defer polite.Close()
	// What a daemon takes once, as for its busiest moment, is not of this crowd.
	if _, err := politely(ctx, polite, time.Second); err != nil {
		return err
	}
	before, err := d.observe(ctx)
	if err != nil {
		return err
	}
	alone, err := politely(ctx, polite, measureTime)
	if err != nil {
		return err
	}

	kinds := slices.DeleteFunc(kinds(), func(k slowKind) bool { return k.protocol != p.name })
	c := &crowd{began: time.Now()}
	defer c.disperse()
	if err := c.gather(ctx, d, p, kinds, s.amounts); err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	c.misbehave(run)
	// What they ask for once is load as any other's; what they are afterwards is the question.
	time.Sleep(settleTime)
	beside, err := politely(ctx, polite, measureTime)
	if err != nil {
		return fmt.Errorf("predicting beside slow clients: %w", err)
	}
	during, err := d.observe(ctx)
	if err != nil {
		return err
	}
	n := len(c.members)
	each := (during.resident - before.resident) / int64(n)
	s.out.check(each <= mostBytesEach, p.name+": memory each", "%d bytes for each of %d connections, of %d allowed (%d connected at the end of the look)", each, n, mostBytesEach, c.connected())
	a, b := interleave.Quantile(alone, 0.99), interleave.Quantile(beside, 0.99)
	s.out.tell(p.name+": p99 of others", "%v without, %v beside, %.2f times (%.1f wanted)", a, b, float64(b)/float64(a), mostP99)

	s.checkHangUps(ctx, p, c, kinds)
	stop()
	c.disperse()
	after, err := d.settles(ctx, before, 10*time.Second)
	if err != nil {
		return err
	}
	s.out.check(after.descriptors <= before.descriptors, p.name+": descriptors return", "%d before, %d after", before.descriptors, after.descriptors)
	s.out.check(after.goroutines <= before.goroutines, p.name+": goroutines return", "%d before, %d after", before.goroutines, after.goroutines)
	return nil
}

// checkHangUps waits for everybody to be hung up on whose limit is waited for.
func (s *soak) checkHangUps(ctx context.Context, p protocol, c *crowd, kinds []slowKind) {
	for _, k := range kinds {
		if k.long && s.short {
			continue
		}
		// A machine that is busy is late, but not for ever.
		const late = time.Minute
		left, last := c.waitFor(ctx, k.name, c.began.Add(k.limit+late))
		s.out.check(left == 0, fmt.Sprintf("%s: %s is hung up on", p.name, k.name),
			"the limit is %v, the last went after %.1f s, %d are left", k.limit, last.Seconds(), left)
	}
}

const (
	// measureTime is how long the well-behaved client is looked at, alone and beside others.
	measureTime = 4 * time.Second
	// settleTime is how long others may need to fill what is between them and the daemon.
	settleTime = time.Second
)

// politely has a client ask again and again, and wants the same answer each time.
func politely(ctx context.Context, c caller, most time.Duration) ([]time.Duration, error) {
	x := make([]float32, fraudFeatures)
	var took []time.Duration
	var want []float32
	for end := time.Now().Add(most); time.Now().Before(end); {
		start := time.Now()
		got, err := c.predict(ctx, x)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
		if want == nil {
			want = got
		}
		if len(got) != 1 || !slices.Equal(got, want) {
			return nil, fmt.Errorf("a request was answered with %v, the first one with %v", got, want)
		}
		time.Sleep(200 * time.Microsecond) // the processor is for the others too
	}
	return took, nil
}

// crowd is clients that misbehave.
type crowd struct {
	began   time.Time
	members []*member
	ended   sync.WaitGroup
}

// member is one of them.
type member struct {
	kind slowKind
	conn net.Conn
	gone atomic.Int64 // when the daemon hung up, in nanoseconds since the crowd began; 0 while it has not
}

// gather connects as many as the amounts say: those that are slow in equal parts, and of each kind that reads nothing the same number.
func (c *crowd) gather(ctx context.Context, d *daemon, p protocol, kinds []slowKind, a amounts) error {
	drippers := 0
	for _, k := range kinds {
		if k.dripped != nil {
			drippers++
		}
	}
	network, address := p.address(d)
	for _, k := range kinds {
		n := a.silent
		if k.dripped != nil {
			n = a.connections / drippers
		}
		for range n {
			if err := c.join(ctx, k, network, address); err != nil {
				return err
			}
		}
	}
	return nil
}

// join connects one more and sends its opening.
func (c *crowd) join(ctx context.Context, k slowKind, network, address string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		// What the kernel takes for those who do not read is the daemon's work for nothing: megabytes of it if they let it.
		if err := tcp.SetReadBuffer(16 << 10); err != nil {
			return err
		}
	}
	c.members = append(c.members, &member{kind: k, conn: conn})
	if opening := k.opening(); len(opening) > 0 {
		if _, err := conn.Write(opening); err != nil {
			return err
		}
	}
	return nil
}

// misbehave has everybody do what they came for until they are hung up on, or ctx ends.
func (c *crowd) misbehave(ctx context.Context) {
	for _, m := range c.members {
		switch {
		case m.kind.flood != nil:
			c.ended.Go(func() { c.flood(ctx, m) })
			continue
		case m.kind.dripped == nil:
			c.ended.Go(func() { c.watch(ctx, m) })
			continue
		}
		// Slow clients do read, which is how they find out.
		c.ended.Go(func() {
			_, _ = io.Copy(io.Discard, bufio.NewReaderSize(m.conn, 16)) // how it ends does not matter
			c.left(m)
		})
	}
	c.ended.Go(func() { c.drip(ctx) })
}

// drip sends a byte a second for every slow client, evenly over the second.
func (c *crowd) drip(ctx context.Context) {
	const steps = 50
	tick := time.NewTicker(time.Second / steps)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for i := n % steps; i < len(c.members); i += steps {
			m := c.members[i]
			if m.kind.dripped == nil || m.gone.Load() != 0 {
				continue
			}
			at := n / steps % len(m.kind.dripped)
			if _, err := m.conn.Write(m.kind.dripped[at : at+1]); err != nil {
				c.left(m)
			}
		}
	}
}

// flood asks for more than fits between daemon and client, and reads nothing.
func (c *crowd) flood(ctx context.Context, m *member) {
	defer c.left(m)
	stop := context.AfterFunc(ctx, func() { _ = m.conn.Close() })
	defer stop()
	for {
		if _, err := m.conn.Write(m.kind.flood); err != nil {
			return
		}
	}
}

// watch waits for the daemon to hang up on a client that neither reads nor writes.
func (c *crowd) watch(ctx context.Context, m *member) {
	raw, err := m.conn.(syscall.Conn).SyscallConn()
	for hungUp := false; err == nil && !hungUp && ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		err = raw.Control(func(fd uintptr) {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			_, pollErr := unix.Poll(poll, 0)
			hungUp = pollErr == nil && poll[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR) != 0
		})
	}
	if ctx.Err() == nil {
		c.left(m)
	}
}

func (c *crowd) left(m *member) { m.gone.CompareAndSwap(0, int64(time.Since(c.began))) }

// connected is how many are left.
func (c *crowd) connected() (n int) {
	for _, m := range c.members {
		if m.gone.Load() == 0 {
			n++
		}
	}
	return n
}

// waitFor waits until everybody of the kind is hung up on, and gives how many are left at the deadline and when the last one went.
func (c *crowd) waitFor(ctx context.Context, kind string, deadline time.Time) (left int, last time.Duration) {
	for {
		left, last = 0, 0
		for _, m := range c.members {
			if m.kind.name != kind {
				continue
			}
			gone := time.Duration(m.gone.Load())
			if gone == 0 {
				left++
			}
			last = max(last, gone)
		}
		if left == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return left, last
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// disperse closes all connections and waits for everybody to have noticed.
func (c *crowd) disperse() {
	for _, m := range c.members {
		_ = m.conn.Close()
	}
	c.ended.Wait()
}
