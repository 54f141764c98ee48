package oip

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/shm"
)

// Access is who the clients of one listener are, what they may do, and how they connect.
type Access struct {
	local.Access
	// TLS encrypts the connections; nil for none.
	TLS *tls.Config
	// SharedMemory allows the daemon's own user's shared memory to be used by clients of whom nobody knows who they are: those over
	// TCP. Over a Unix socket each user may use their own.
	SharedMemory bool
}

// front is one listener: it finds out what each connection speaks, and hands it on.
type front struct {
	server   *Server
	listener net.Listener
	access   Access
	grpc     *feed
	http     *feed
	serving  sync.WaitGroup // the two servers and the connections that are being looked at
	full     atomic.Bool    // nothing is accepted any more

	mu   sync.Mutex
	open map[*conn]struct{}
}

func newFront(s *Server, l net.Listener, a Access) *front {
	if unix, ok := l.(*net.UnixListener); ok {
		l = local.NewListener(unix, s.limits.MaxConnections, a.Access, s.log)
	} else {
		l = &limited{Listener: l, gate: local.NewGate(l.Addr(), s.limits.MaxConnections, a.Access, s.log)}
	}
	return &front{server: s, listener: l, access: a, grpc: newFeed(l.Addr()), http: newFeed(l.Addr()), open: map[*conn]struct{}{}}
}

// limited is a listener that is not a Unix socket's.
type limited struct {
	net.Listener
	gate *local.Gate
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			l.gate.SayWhy(err)
			return nil, err
		}
		if l.gate.EnterUnknown() {
			return &countedConn{Conn: c, gate: l.gate}, nil
		}
		_ = c.Close()
	}
}

// countedConn gives back its place once.
type countedConn struct {
	net.Conn
	gate *local.Gate
	once sync.Once
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(c.gate.LeaveUnknown)
	return c.Conn.Close()
}

// serve returns nil once the front is closed.
func (f *front) serve() error {
	f.serving.Go(func() {
		if err := f.server.grpc.Serve(f.grpc); err != nil && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
			f.server.log.Error("serving gRPC", "error", err)
		}
	})
	f.serving.Go(func() {
		if err := f.server.http.Serve(f.http); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			f.server.log.Error("serving HTTP", "error", err)
		}
	})
	defer f.full.Store(true)
	const longest = time.Second
	for pause := time.Duration(0); ; {
		c, err := f.listener.Accept()
		switch {
		case err == nil:
			pause = 0
			entered := f.enter(c)
			f.serving.Go(func() { f.admit(entered) })
		case errors.Is(err, net.ErrClosed):
			return nil
		case local.OutOfFiles(err):
			pause = min(max(2*pause, 5*time.Millisecond), longest)
			time.Sleep(pause)
		default:
			f.close()
			return err
		}
	}
}

// enter puts a connection on the list.
func (f *front) enter(raw net.Conn) *conn {
	c := &conn{Conn: raw, front: f, due: time.Now().Add(f.server.limits.patience.greeting)}
	peer, err := f.peer(raw)
	c.who = ownerOf(peer, err, f.access)
	f.server.regions.connected(c.who)
	f.mu.Lock()
	f.open[c] = struct{}{}
	f.mu.Unlock()
	return c
}

// admit finds out what c speaks.
func (f *front) admit(c *conn) {
	ctx, cancel := context.WithDeadline(context.Background(), c.due)
	defer cancel()
	if err := c.Conn.SetDeadline(c.due); err != nil {
		_ = c.Close()
		return
	}
	if f.access.TLS != nil {
		secured := tls.Server(c.Conn, f.access.TLS)
		if err := secured.HandshakeContext(ctx); err != nil {
			f.server.log.Debug("a client did not get through the TLS handshake", "client", c.RemoteAddr().String(), "error", err)
			_ = c.Close()
			return
		}
		f.mu.Lock()
		c.Conn = secured
		f.mu.Unlock()
	}
	to, err := c.look()
	if err != nil || c.Conn.SetDeadline(time.Time{}) != nil {
		_ = c.Close()
		return
	}
	to.give(c)
}

// preface is the beginning of HTTP/2's greeting; no method of HTTP/1 starts so.
var preface = []byte("PRI ")

// look reads as little as tells HTTP/2 from HTTP/1.
func (c *conn) look() (*feed, error) {
	first := make([]byte, len(preface))
	for n := 0; n < len(first); {
		got, err := c.Conn.Read(first[n:])
		n += got
		c.first = first[:n]
		if !bytes.HasPrefix(preface, c.first) {
			c.front.greetHTTP(c) // net/http ends silent connections itself
			return c.front.http, nil
		}
		if err != nil {
			return nil, err
		}
		if got == 0 {
			return nil, io.ErrNoProgress
		}
	}
	return c.front.grpc, nil
}

// peer is the user at the other end of a connection that the listener gave.
func (f *front) peer(c net.Conn) (shm.Peer, error) {
	if c, ok := c.(*local.Conn); ok {
		return c.Peer()
	}
	return shm.Peer{}, errors.New("a TCP connection does not tell who the client is")
}

func (f *front) greet(c *conn, done bool) {
	f.mu.Lock()
	c.greeted = done
	f.mu.Unlock()
}

func (f *front) greetHTTP(c *conn) {
	f.mu.Lock()
	c.greeted, c.http = true, true
	f.mu.Unlock()
}

// left tells whether everybody who was accepted can be told to go elsewhere without
// losing a request: over gRPC that takes a greeting. HTTP/1 knows no such word; there
// are answers after which the client connects again, and so nobody must be left.
func (f *front) left() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.open {
		if c.http || !c.greeted {
			return false
		}
	}
	return f.full.Load()
}

// forget is for a connection that is being closed.
func (f *front) forget(c *conn) {
	f.mu.Lock()
	_, open := f.open[c]
	delete(f.open, c)
	f.mu.Unlock()
	if open {
		f.server.regions.disconnected(c.who)
	}
}

// closeSilent closes the connections that were not greeted within patience of the
// first call that saw them: no call can have come over them yet, and gRPC would
// wait for their clients to say something.
func (f *front) closeSilent(patience time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	for c := range f.open {
		if c.greeted {
			continue
		}
		if c.noticed.IsZero() {
			c.noticed = now
		}
		if now.Sub(c.noticed) >= patience {
			// Only the connection below: c.Close, which takes it off the list, is
			// for whoever reads from it.
			_ = c.Conn.SetDeadline(now)
		}
	}
}

// close lets nobody in any more.
func (f *front) close() {
	_ = f.listener.Close()
	f.grpc.stop()
	f.http.stop()
}

// wait returns when nothing that the front started runs any more.
func (f *front) wait() { f.serving.Wait() }

// feed is a listener that is given its connections.
type feed struct {
	conns chan *conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newFeed(addr net.Addr) *feed {
	return &feed{conns: make(chan *conn), done: make(chan struct{}), addr: addr}
}

// give hands c over, or closes it when nobody takes connections any more.
func (f *feed) give(c *conn) {
	select {
	case f.conns <- c:
	case <-f.done:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (f *feed) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.done:
		return nil, net.ErrClosed
	}
}

func (f *feed) stop() { f.once.Do(func() { close(f.done) }) }

// Close implements net.Listener.
func (f *feed) Close() error {
	f.stop()
	return nil
}

// Addr implements net.Listener.
func (f *feed) Addr() net.Addr { return f.addr }
