package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/local"
)

// rawCodec sends bytes as they are: what a client with a broken protobuf would
// send.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }
func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(v.([]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

var _ encoding.CodecV2 = rawCodec{}

func TestMalformedProtobuf(t *testing.T) {
	f := startRowsOf3(t, Options{})
	random := rand.New(rand.NewPCG(1, 2))
	messages := map[string][]byte{
		"an open varint":                 {0x80},
		"a field number of zero":         {0x00, 0x00},
		"a length behind the end":        {0x12, 0xff, 0xff, 0xff, 0xff, 0x0f},
		"a length of 64 bits":            {0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"a name that is not UTF-8":       {0x0a, 0x02, 0xff, 0xfe},
		"an open group":                  {0x0b},
		"a hundred thousand open groups": slices.Repeat([]byte{0x0b}, 100_000),
	}
	for n := range 50 {
		b := make([]byte, 1+random.IntN(200))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		messages[fmt.Sprintf("random bytes %d", n)] = append(b, 0x80) // the last varint is open
	}
	for what, message := range messages {
		for _, method := range []string{"Predict", "LoadModel", "CaptureData"} {
			var answer []byte
			err := f.conn.Invoke(t.Context(), "/AWS.SageMaker.Edge.Agent/"+method, message, &answer, grpc.ForceCodecV2(rawCodec{}))
			checkStatus(t, what+" to "+method, err, codes.Internal)
		}
	}
	var answer []byte
	err := f.conn.Invoke(t.Context(), "/AWS.SageMaker.Edge.Agent/Predicted", []byte{}, &answer, grpc.ForceCodecV2(rawCodec{}))
	checkStatus(t, "a method that does not exist", err, codes.Unimplemented)
	f.checkServing(t)
}

func TestHugeHeaders(t *testing.T) {
	f := startRowsOf3(t, Options{})
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("a", 4*local.MaxHeaderBytes))
	_, err := f.ListModels(ctx, &agentapi.ListModelsRequest{})
	if err == nil {
		t.Errorf("%d bytes of headers were accepted", 4*local.MaxHeaderBytes)
	}
	f.checkServing(t)
}

// Bytes on the socket that are no HTTP/2, or a little of it.
func TestGarbageOnTheSocket(t *testing.T) {
	f := startRowsOf3(t, Options{})
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	frame := func(length uint32, kind, flags byte, stream uint32, payload ...byte) string {
		b := make([]byte, 9, 9+len(payload))
		binary.BigEndian.PutUint32(b, length<<8|uint32(kind))
		b[4] = flags
		binary.BigEndian.PutUint32(b[5:], stream)
		return string(append(b, payload...))
	}
	settings := frame(0, 4, 0, 0)
	random := make([]byte, 1<<16)
	for i := range random {
		random[i] = byte(i * 131 >> 3)
	}
	for what, sent := range map[string]string{
		"nothing":                   "",
		"one byte":                  "P",
		"HTTP/1.1":                  "POST /AWS.SageMaker.Edge.Agent/Predict HTTP/1.1\r\nHost: x\r\n\r\n",
		"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"noise":                     string(random),
		"a preface alone":           preface,
		"noise after the preface":   preface + string(random),
		"a frame of 16 MiB":         preface + settings + frame(1<<24-1, 0, 0, 1),
		"data for no stream":        preface + settings + frame(5, 0, 1, 1, 1, 2, 3, 4, 5),
		"headers that are not":      preface + settings + frame(4, 1, 4|1, 1, 0xff, 0xff, 0xff, 0xff),
		"a window of zero bytes":    preface + settings + frame(4, 8, 0, 0, 0, 0, 0, 0),
		"an even stream":            preface + settings + frame(1, 1, 4|1, 2, 0x82),
		"settings with a remnant":   preface + frame(5, 4, 0, 0, 1, 2, 3, 4, 5),
		"a continuation of nothing": preface + settings + frame(1, 9, 4, 1, 0x82),
	} {
		conn, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		// The server may hang up before all of it is written.
		if _, err := io.WriteString(conn, sent); err != nil && !isHangUp(err) {
			t.Errorf("%s: %v", what, err)
		}
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil && !isHangUp(err) {
			t.Errorf("%s: %v", what, err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !isHangUp(err) {
			t.Errorf("%s: the server does not hang up: %v", what, err)
		}
		conn.Close()
	}
	f.checkServing(t)
}

// isHangUp tells whether err says that the other side has closed.
func isHangUp(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestTenThousandConnections(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 2_000
	}
	f := startRowsOf3(t, Options{MaxConnections: 64})
	refused := 0
	for i := range n {
		conn, err := net.Dial("unix", f.path)
		for errors.Is(err, syscall.EAGAIN) {
			// The kernel's queue of connections to accept is full: the client is
			// ahead of the server, as on a machine with one core.
			time.Sleep(time.Millisecond)
			conn, err = net.Dial("unix", f.path)
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		switch i % 3 {
		case 0:
			if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
				refused++
			}
		case 1:
			if _, err := conn.Write([]byte{0}); err != nil {
				refused++
			}
		}
		conn.Close()
	}
	t.Logf("%d of %d connections were refused while others were open", refused, n)
	waitFor(t, "a good request to be answered", func() bool {
		conn := dial(t, f.path)
		defer conn.Close()
		_, err := agentapi.NewAgentClient(conn).ListModels(t.Context(), &agentapi.ListModelsRequest{})
		return err == nil
	})
	f.checkServing(t)
}

func TestConnectionLimit(t *testing.T) {
	const limit = 4
	f := startRowsOf3(t, Options{MaxConnections: limit})
	f.checkServing(t) // the first connection
	var open []net.Conn
	for range limit - 1 {
		conn, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		open = append(open, conn)
		// The server says its settings first; then it has counted us.
		if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		conn, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !isHangUp(err) && !errors.Is(err, io.EOF) {
			t.Errorf("a connection above the limit read %d bytes, %v", n, err)
		}
		conn.Close()
	}
	f.checkServing(t)
	if !strings.Contains(f.log.String(), "max_connections") {
		t.Errorf("the log does not say that connections were refused:\n%s", f.log)
	}
	open[0].Close()
	waitFor(t, "a place to be free again", func() bool {
		conn, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
			return false
		}
		_, err = io.ReadFull(conn, make([]byte, 9))
		return err == nil
	})
}

// Clients that have said nothing do not hold up the end; a call under way does.
func TestShutdown(t *testing.T) {
	running, block := make(chan struct{}), make(chan struct{})
	f := start(t, Options{}, map[string]*copyModel{"fraud": {signature: rowsOf3, onRun: func() error {
		close(running)
		<-block
		return nil
	}}})
	var silent []net.Conn
	for range 3 {
		conn, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		silent = append(silent, conn)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}})
		answered <- err
	}()
	<-running
	done := make(chan error, 1)
	go func() { done <- f.server.Shutdown(t.Context()) }()
	for _, conn := range silent {
		if err := conn.SetReadDeadline(time.Now().Add(prefaceTimeout / 2)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !isHangUp(err) {
			t.Errorf("a silent connection was left open: %v", err)
		}
	}
	waitFor(t, "new connections to be refused", func() bool {
		conn, err := net.Dial("unix", f.path)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Errorf("the server ended with %v before its call did", err)
	default:
	}
	close(block)
	if err := <-answered; err != nil {
		t.Errorf("the call under way failed: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
