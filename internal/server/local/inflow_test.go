package local

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// bytesCodec sends []byte as it is.
type bytesCodec struct{}

func (bytesCodec) Name() string { return "proto" }

func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// sizes is a service that answers how many bytes it was sent, over calls of one message and over streams. A message that begins with
// "wait" is answered when the context of the call or the test ends.
type sizes struct{ held chan struct{} }

const unaryMethod, streamMethod = "/test.Sizes/Unary", "/test.Sizes/Stream"

func (s *sizes) answer(ctx context.Context, in []byte) (*[]byte, error) {
	if bytes.HasPrefix(in, []byte("wait")) {
		select {
		case <-s.held:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	out := []byte(strconv.Itoa(len(in)))
	return &out, nil
}

var sizesDesc = grpc.ServiceDesc{
	ServiceName: "test.Sizes", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Unary", Handler: func(srv any, ctx context.Context, receive func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var in []byte
		if err := receive(&in); err != nil {
			return nil, err
		}
		return srv.(*sizes).answer(ctx, in)
	}}},
	Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, ClientStreams: true, Handler: func(srv any, stream grpc.ServerStream) error {
		for {
			var in []byte
			if err := stream.RecvMsg(&in); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			out, err := srv.(*sizes).answer(stream.Context(), in)
			if err != nil {
				return err
			}
			if err := stream.SendMsg(out); err != nil {
				return err
			}
		}
	}}},
}

// bounded is a server with a budget.
type bounded struct {
	budget *Budget
	addr   net.Addr
	held   chan struct{}
}

func serveBounded(t *testing.T, network string, limit int64, patience Patience) *bounded {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{budget: NewBudget(limit), addr: l.Addr(), held: make(chan struct{})}
	s := NewGRPC(GRPCOptions{MaxMessage: 8 << 20, Greeting: time.Hour, Patience: patience, Budget: b.budget}, grpc.ForceServerCodecV2(bytesCodec{}))
	s.RegisterService(&sizesDesc, &sizes{b.held})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.checkEmpty(t)
	})
	return b
}

// checkEmpty waits until everything is given back.
func (b *bounded) checkEmpty(t *testing.T) { b.waitForUse(t, 0, 0) }

func (b *bounded) waitForUse(t *testing.T, least, most int64) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); b.budget.Used() < least || b.budget.Used() > most; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are counted, want %d to %d", b.budget.Used(), least, most)
		}
	}
}

func (b *bounded) client(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///s", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(bytesCodec{})),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, b.addr.Network(), b.addr.String())
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// call sends one message and wants its size back.
func call(ctx context.Context, conn *grpc.ClientConn, in []byte, o ...grpc.CallOption) error {
	var out []byte
	if err := conn.Invoke(ctx, unaryMethod, &in, &out, o...); err != nil {
		return err
	}
	if string(out) != strconv.Itoa(len(in)) {
		return fmt.Errorf("%d bytes were answered with %q", len(in), out)
	}
	return nil
}

// raw is a client of HTTP/2 that sends what it is told to.
type raw struct {
	net.Conn
	framer *http2.Framer
	block  bytes.Buffer
	hpack  *hpack.Encoder
}

func (b *bounded) raw(t *testing.T) *raw {
	t.Helper()
	c, err := net.Dial(b.addr.Network(), b.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	r := &raw{Conn: c, framer: http2.NewFramer(c, c)}
	r.hpack = hpack.NewEncoder(&r.block)
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	r.must(t, r.framer.WriteSettings())
	return r
}

func (*raw) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// headers begins a call.
func (r *raw) headers(t *testing.T, stream uint32, method string, whole bool, more ...string) {
	t.Helper()
	r.block.Reset()
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", method}, {":authority", "s"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		r.must(t, r.hpack.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}))
	}
	for i := 0; i < len(more); i += 2 {
		r.must(t, r.hpack.WriteField(hpack.HeaderField{Name: more[i], Value: more[i+1]}))
	}
	r.must(t, r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: r.block.Bytes(), EndHeaders: whole}))
}

// status is that of the stream, once it ends; -1 when the connection ends first.
func (r *raw) status(t *testing.T, stream uint32) int {
	t.Helper()
	r.must(t, r.SetReadDeadline(time.Now().Add(20*time.Second)))
	for {
		frame, err := r.framer.ReadFrame()
		if err != nil {
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				t.Fatal("neither the call nor the connection ends")
			}
			return -1
		}
		if h, ok := frame.(*http2.MetaHeadersFrame); ok && h.StreamID == stream && h.StreamEnded() {
			for _, f := range h.Fields {
				if f.Name == "grpc-status" {
					code, err := strconv.Atoi(f.Value)
					r.must(t, err)
					return code
				}
			}
		}
	}
}

// prefixed is a message as gRPC frames it.
func prefixed(n int) []byte {
	b := make([]byte, 5+n)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	return b
}

// What is begun must come: a call whose message does not is ended with a status and takes nothing along; only a connection that stops
// in the middle of a frame has to go.
func TestMessagesThatDoNotCome(t *testing.T) {
	patience := Patience{Transfer: 500 * time.Millisecond, Rate: 1 << 20}
	const late, gone = int(codes.DeadlineExceeded), -1
	for _, network := range []string{"unix", "tcp"} {
		b := serveBounded(t, network, 1<<20, patience)
		for what, test := range map[string]struct {
			send func(t *testing.T, r *raw)
			want int
		}{
			"nothing after the headers": {func(t *testing.T, r *raw) { r.headers(t, 1, unaryMethod, true) }, late},
			"half a prefix": {func(t *testing.T, r *raw) {
				r.headers(t, 1, unaryMethod, true)
				r.must(t, r.framer.WriteData(1, false, prefixed(10)[:3]))
			}, late},
			"half a message": {func(t *testing.T, r *raw) {
				r.headers(t, 1, unaryMethod, true)
				r.must(t, r.framer.WriteData(1, false, prefixed(10_000)[:5000]))
			}, late},
			"a message and no end": {func(t *testing.T, r *raw) {
				r.headers(t, 1, unaryMethod, true)
				r.must(t, r.framer.WriteData(1, false, prefixed(10)))
			}, late},
			"half a message, padded": {func(t *testing.T, r *raw) {
				r.headers(t, 1, unaryMethod, true)
				r.must(t, r.framer.WriteDataPadded(1, false, prefixed(100)[:50], make([]byte, 60)))
			}, late},
			"half a message of a stream": {func(t *testing.T, r *raw) {
				r.headers(t, 1, streamMethod, true)
				r.must(t, r.framer.WriteData(1, false, append(prefixed(10), prefixed(10)[:7]...)))
			}, late},
			"half a frame's header": {func(t *testing.T, r *raw) {
				r.headers(t, 1, unaryMethod, true)
				_, err := r.Write([]byte{0, 0, 10, 0})
				r.must(t, err)
			}, gone},
			"half a frame": {func(t *testing.T, r *raw) {
				r.headers(t, 1, streamMethod, true)
				_, err := r.Write([]byte{0, 0, 15, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 10, 'x'})
				r.must(t, err)
			}, gone},
			"headers without their end": {func(t *testing.T, r *raw) { r.headers(t, 1, unaryMethod, false) }, gone},
			"half a ping": {func(t *testing.T, r *raw) {
				_, err := r.Write([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3})
				r.must(t, err)
			}, gone},
		} {
			t.Run(network+", "+what, func(t *testing.T) {
				r := b.raw(t)
				test.send(t, r)
				if got := r.status(t, 1); got != test.want {
					t.Fatalf("it ended with %d, want %d", got, test.want)
				}
				b.checkEmpty(t)
				if test.want == gone {
					return
				}
				r.headers(t, 3, unaryMethod, true)
				r.must(t, r.framer.WriteData(3, true, prefixed(10)))
				if got := r.status(t, 3); got != int(codes.OK) {
					t.Errorf("the next call over the connection ended with %d", got)
				}
			})
		}
	}
}

// Time is for what was begun: streams and connections may be idle, and answers may take long.
func TestIdleIsNotSlow(t *testing.T) {
	patience := Patience{Transfer: 200 * time.Millisecond, Rate: 1 << 20}
	b := serveBounded(t, "unix", 1<<20, patience)
	conn := b.client(t)
	stream, err := conn.NewStream(t.Context(), &sizesDesc.Streams[0], streamMethod)
	if err != nil {
		t.Fatal(err)
	}
	exchange := func() {
		t.Helper()
		in, out := make([]byte, 100_000), []byte{}
		if err := errors.Join(stream.SendMsg(&in), stream.RecvMsg(&out)); err != nil || string(out) != "100000" {
			t.Fatalf("%q, %v", out, err)
		}
	}
	exchange()
	answered := make(chan error, 1)
	go func() { answered <- call(t.Context(), conn, []byte("wait a while")) }()
	time.Sleep(5 * patience.Transfer)
	exchange() // and the message before it was given back: ten of them would be more than there is
	for range 20 {
		exchange()
	}
	close(b.held)
	if err := <-answered; err != nil {
		t.Errorf("a call that took long: %v", err)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	b.checkEmpty(t)
}

// What is in flight is bounded while it arrives, whoever sends it, and given back whatever becomes of it.
func TestBytesThatArrive(t *testing.T) {
	b := serveBounded(t, "unix", 1<<20, Patience{Transfer: time.Hour, Rate: 1 << 20})
	conn := b.client(t)
	r := b.raw(t)
	r.headers(t, 1, unaryMethod, true)
	message := prefixed(7 << 20)
	// The first window of HTTP/2, less than the server has room for.
	for sent := 0; sent < 60_000; sent += 10_000 {
		r.must(t, r.framer.WriteData(1, false, message[sent:sent+10_000]))
	}
	b.waitForUse(t, 60_000, 100_000)
	err := call(t.Context(), conn, make([]byte, 1<<20-120_000))
	if err != nil {
		t.Fatalf("what fits: %v", err)
	}
	err = call(t.Context(), conn, make([]byte, 1<<20-50_000))
	checkBusy(t, err)
	r.must(t, r.framer.WriteRSTStream(1, http2.ErrCodeCancel))
	b.checkEmpty(t)
	if err := call(t.Context(), conn, make([]byte, 1<<20-50_000)); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	checkBusy(t, call(t.Context(), conn, make([]byte, 2<<20)))
	// Calls that wait hold what they took until they are answered.
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan error, 1)
	go func() { answered <- call(ctx, conn, append([]byte("wait"), make([]byte, 600_000)...)) }()
	b.waitForUse(t, 600_000, 700_000)
	checkBusy(t, call(t.Context(), conn, make([]byte, 600_000)))
	cancel()
	if err := <-answered; status.Code(err) != codes.Canceled {
		t.Error(err)
	}
	b.checkEmpty(t)
}

// A message that is small on its way and large when it is inflated counts as what it may become before it is.
func TestBytesThatAreInflated(t *testing.T) {
	b := serveBounded(t, "unix", 4<<20, Patience{Transfer: time.Hour, Rate: 1 << 20})
	conn := b.client(t)
	checkBusy(t, call(t.Context(), conn, make([]byte, 7<<20), grpc.UseCompressor(gzip.Name))) // 7 KiB
	b.checkEmpty(t)
	if err := call(t.Context(), conn, make([]byte, 1<<20), grpc.UseCompressor(gzip.Name)); err != nil {
		t.Errorf("what fits: %v", err)
	}
	b.checkEmpty(t)
}

// Calls take room even if nothing of their messages has come.
func TestCallsThatAreOpen(t *testing.T) {
	const fit = 10
	b := serveBounded(t, "unix", fit*callBytes, Patience{Transfer: time.Hour, Rate: 1 << 20})
	r := b.raw(t)
	for i := range uint32(fit) {
		r.headers(t, 2*i+1, streamMethod, true)
	}
	b.waitForUse(t, fit*callBytes, fit*callBytes)
	r.headers(t, 2*fit+1, unaryMethod, true)
	if got := r.status(t, 2*fit+1); got != int(codes.ResourceExhausted) {
		t.Errorf("a call too many ended with %d", got)
	}
	r.Close()
	b.checkEmpty(t)
	// Calls that no handler sees give back what they took too.
	r = b.raw(t)
	r.headers(t, 1, "/test.Sizes/Nothing", true)
	if got := r.status(t, 1); got != int(codes.Unimplemented) {
		t.Errorf("a call of nothing ended with %d", got)
	}
	b.checkEmpty(t)
	for i := range uint32(3) {
		r.headers(t, 2*i+3, unaryMethod, true, "grpc-encoding", "no-such-encoding")
		if got := r.status(t, 2*i+3); got != int(codes.Unimplemented) {
			t.Errorf("a call in an encoding that nobody knows ended with %d", got)
		}
	}
	r.must(t, r.framer.WritePing(false, [8]byte{})) // as the next read is when it is noticed
	b.checkEmpty(t)
	conn := b.client(t)
	for range 3 * fit {
		var out []byte
		in := []byte{1}
		err := conn.Invoke(t.Context(), unaryMethod, &in, &out, grpc.UseCompressor(gzip.Name), grpc.MaxCallRecvMsgSize(0))
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
	}
	b.checkEmpty(t)
}

// Calls that end before they are sent in whole are forgotten, however many come over a connection.
func TestCallsThatEndEarly(t *testing.T) {
	b := serveBounded(t, "unix", 1<<20, Patience{Transfer: time.Hour, Rate: 1 << 20})
	r := b.raw(t)
	go func() { _, _ = io.Copy(io.Discard, r.Conn) }()
	for i := range uint32(3000) {
		r.headers(t, 2*i+1, unaryMethod, true)
		r.must(t, r.framer.WriteData(2*i+1, false, append(prefixed(1), prefixed(1)...))) // two messages where one is wanted
	}
	b.checkEmpty(t)
}

func checkBusy(t *testing.T, err error) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != codes.ResourceExhausted {
		t.Fatalf("%v, want it to be refused", err)
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok && info.GetRetryDelay().AsDuration() > 0 {
			return
		}
	}
	if !strings.Contains(st.Message(), "limits.max_in_flight") {
		t.Errorf("%v, and nothing says when to try again: %v", err, st.Details())
	}
}
