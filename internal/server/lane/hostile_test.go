package lane

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
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
	client "github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// impatient makes the server wait for nobody for long.
func impatient(s *Server) {
	const d = 50 * time.Millisecond
	s.patience = patience{greeting: d, frame: d, write: 4 * d, quiet: d, farewell: 4 * d, alone: d}
}

func hello() []byte {
	return frameOf(lanewire.Header{Kind: lanewire.KindHello}, lanewire.Hello{Lowest: 1, Highest: 1}.Append(nil))
}

// with is b with other bytes from at on.
func with(b []byte, at int, other ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], other)
	return b
}

// Bytes that are no lane end the connection, with a reason where it can be told.
func TestFramesThatEndTheConnection(t *testing.T) {
	f := start(t, Options{MaxMessage: 1 << 20}, inline)
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(i * 131 >> 3)
	}
	predict := predictFrame(1, 1, 1)
	for what, c := range map[string]struct {
		greeted bool
		sent    []byte
		said    string // beginning of the fatal error
	}{
		"HTTP":                    {false, []byte("POST /v2/models/fraud/infer HTTP/1.1\r\nHost: x\r\n\r\n"), "invalid argument: a frame begins with the bytes 50 4f"},
		"noise":                   {false, noise, "invalid argument: a frame begins"},
		"another version":         {false, with(hello(), 2, 9), "invalid argument: a frame is of version 9"},
		"no hello":                {false, predict, "failed precondition: the first frame is of kind 5"},
		"a huge hello":            {false, with(hello(), 4, 0xff, 0xff, 0xff, 0xff), "failed precondition: the first frame is of kind 1"},
		"a hello too short":       {false, frameOf(lanewire.Header{Kind: lanewire.KindHello}, []byte{1, 0, 1}), "invalid argument: a hello has 3 bytes"},
		"only later versions":     {false, frameOf(lanewire.Header{Kind: lanewire.KindHello}, lanewire.Hello{Lowest: 2, Highest: 9}.Append(nil)), "failed precondition: the client speaks the versions 2 to 9"},
		"a second hello":          {true, hello(), "invalid argument: a frame of kind 1 is not for a client"},
		"a frame of the server's": {true, frameOf(lanewire.Header{Kind: lanewire.KindResult}, nil), "invalid argument: a frame of kind 6 is not for a client"},
		"wrong magic":             {true, with(predict, 0, 'X'), "invalid argument: a frame begins with the bytes 58 4b"},
		"wrong version":           {true, with(predict, 2, 0), "invalid argument: a frame is of version 0"},
		"kind 0":                  {true, with(predict, 3, 0), "invalid argument: a frame is of the unknown kind 0"},
		"kind 200":                {true, with(predict, 3, 200), "invalid argument: a frame is of the unknown kind 200"},
		"a length of 4 GiB":       {true, with(predict, 4, 0xff, 0xff, 0xff, 0xff), "resource exhausted: a frame has 4294967295 bytes, the limit is 1048576"},
		"a byte above the limit":  {true, with(predict, 4, 1, 0, 0x10, 0), "resource exhausted: a frame has 1048577 bytes"},
		"a large opening":         {true, with(frameOf(lanewire.Header{Kind: lanewire.KindOpen}, nil), 4, 0, 0, 0x10, 0), "invalid argument: a frame of kind 3 has 1048576 bytes"},
	} {
		for _, way := range ways {
			if way == overRing && !c.greeted {
				continue
			}
			t.Run(what+" over "+way, func(t *testing.T) {
				conn := f.raw(t, networks[0])
				if c.greeted {
					conn = f.greeted(t, way)
				} else if way == "unix" {
					conn = f.raw(t, way)
				}
				conn.send(c.sent)
				if said := conn.wantHangUp(); !strings.HasPrefix(said, c.said) {
					t.Errorf("the server hangs up with %q, want %q", said, c.said)
				}
			})
		}
	}
	f.checkServing(t)
}

// Requests that do not fit are refused one by one, and what follows is served.
func TestRequestsThatDoNotFit(t *testing.T) {
	f := start(t, Options{MaxMessage: 1 << 20}, inline)
	ask := func(change func(h *lanewire.Header), bytes int) []byte {
		h := lanewire.Header{Kind: lanewire.KindPredict, ID: 5, Handle: 1, Rows: 1}
		change(&h)
		return frameOf(h, make([]byte, bytes))
	}
	for what, c := range map[string]struct {
		sent []byte
		code client.Code
	}{
		"no rows":                     {ask(func(h *lanewire.Header) { h.Rows = 0 }, 12), client.InvalidArgument},
		"a byte too few":              {ask(func(h *lanewire.Header) {}, 11), client.InvalidArgument},
		"a byte too many":             {ask(func(h *lanewire.Header) {}, 13), client.InvalidArgument},
		"no payload":                  {ask(func(h *lanewire.Header) {}, 0), client.InvalidArgument},
		"too few rows for the bytes":  {ask(func(h *lanewire.Header) { h.Rows = 2 }, 12), client.InvalidArgument},
		"as many rows as can be said": {ask(func(h *lanewire.Header) { h.Rows = 1<<32 - 1 }, 12), client.InvalidArgument},
		// 357913942 times 12 is 8 above 4 GiB.
		"rows that overflow 32 bits": {ask(func(h *lanewire.Header) { h.Rows = 357913942 }, 8), client.InvalidArgument},
		"handle 0":                   {ask(func(h *lanewire.Header) { h.Handle = 0 }, 12), client.InvalidArgument},
		"a handle never given":       {ask(func(h *lanewire.Header) { h.Handle = 2 }, 12), client.InvalidArgument},
		"the last handle":            {ask(func(h *lanewire.Header) { h.Handle = 1<<32 - 1 }, 12), client.InvalidArgument},
		"both priorities":            {ask(func(h *lanewire.Header) { h.Flags = 3 }, 12), client.InvalidArgument},
		"an unknown flag":            {ask(func(h *lanewire.Header) { h.Flags = 1 << 31 }, 12), client.InvalidArgument},
		"large, a byte too many":     {ask(func(h *lanewire.Header) { h.Rows = 10_000 }, 120_001), client.InvalidArgument},
		"large, for no handle":       {ask(func(h *lanewire.Header) { h.Rows, h.Handle = 10_000, 9 }, 120_000), client.InvalidArgument},
		"no such model":              {frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 5}, []byte("none")), client.NotFound},
		"a model without a name":     {frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 5}, nil), client.NotFound},
		"a name too long":            {frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 5}, bytes.Repeat([]byte("x"), 5000)), client.NotFound},
		"a name that is no text":     {frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 5}, []byte{0, 0xff, '\n'}), client.NotFound},
	} {
		for _, way := range ways {
			t.Run(what+" over "+way, func(t *testing.T) {
				conn := f.greeted(t, way)
				for b := c.sent; len(b) > 0; {
					n := min(len(b), lanewire.MaxMessage)
					conn.send(b[:n])
					b = b[n:]
				}
				said := conn.wantError(5, c.code)
				if len(said.Sentence) > 1024 || strings.ContainsAny(said.Sentence, "\n\x00") {
					t.Errorf("the client is told %q", said.Sentence)
				}
				conn.send(predictFrame(6, 2, 4))
				conn.wantSums(6, 2, 4)
			})
		}
	}
	if got := f.stats(t, "sum").Failed["input"]; got == 0 {
		t.Error("requests that do not fit are not counted")
	}
	f.checkServing(t)
}

func TestTooManyModels(t *testing.T) {
	f := start(t, Options{}, inline)
	for i := range maxModels {
		f.load(t, fmt.Sprintf("m%d", i), engine.ModelOptions{})
	}
	c := f.greeted(t, "unixpacket")
	for i := range maxModels {
		c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: uint64(i)}, fmt.Appendf(nil, "m%d", i)))
		if i == maxModels-1 { // "sum" is the first
			c.wantError(uint64(i), client.ResourceExhausted)
		} else if h, _ := c.receive(); h.Kind != lanewire.KindModel || h.Handle != uint32(i)+2 {
			t.Fatalf("model %d was opened as %+v", i, h)
		}
	}
	// A name that is open has its handle already.
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 1}, []byte("sum")))
	if h, _ := c.receive(); h.Kind != lanewire.KindModel || h.Handle != 1 {
		t.Fatalf("a model that is open was opened as %+v", h)
	}
}

// A frame may come in any pieces.
func TestFramesInPieces(t *testing.T) {
	f := start(t, Options{}, inline)
	random := rand.New(rand.NewPCG(1, 2))
	for _, network := range ways {
		c := f.greeted(t, network)
		var sent []byte
		for i := range uint64(30) {
			n := 1 + random.IntN(20)
			if i%10 == 9 {
				n = 9000 // larger than a message
			}
			sent = append(sent, predictFrame(i, n, float32(n))...)
		}
		var sender sync.WaitGroup
		sender.Go(func() {
			for b := sent; len(b) > 0; {
				n := min(len(b), 1+random.IntN(5000))
				if random.IntN(3) == 0 {
					n = min(len(b), 1+random.IntN(40))
				}
				if _, err := c.Write(b[:n]); err != nil {
					t.Error(err)
					return
				}
				b = b[n:]
			}
		})
		for range 30 {
			h, payload := c.receive()
			if h.Kind != lanewire.KindResult || len(payload) != 4*int(h.Rows) {
				t.Fatalf("%s: received %+v with %d bytes", network, h, len(payload))
			}
			if first := tensorFloat(payload); first != float32(h.Rows) {
				t.Errorf("%s: request %d of %d rows got %v", network, h.ID, h.Rows, first)
			}
		}
		sender.Wait()
	}
}

// A message larger than agreed is cut by the kernel, so what follows could not be
// understood.
func TestMessageTooLarge(t *testing.T) {
	f := start(t, Options{}, inline)
	b := append(predictFrame(1, lanewire.MaxMessage/12, 1), make([]byte, 100)...)
	for _, c := range []*rawConn{f.greeted(t, "unixpacket"), f.raw(t, "unixpacket")} {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if said := c.wantHangUp(); said != "invalid argument: a message is larger than 65536 bytes" {
			t.Errorf("the server says %q", said)
		}
	}
	f.checkServing(t)
}

// Clients that say nothing, or half of something, are hung up on in time.
func TestSilentClients(t *testing.T) {
	f := start(t, Options{}, inline, impatient)
	for _, network := range networks {
		for what, sent := range map[string][]byte{"nothing": nil, "half a header": hello()[:20], "half a hello": hello()[:36]} {
			c := f.raw(t, network)
			if sent != nil {
				c.send(sent)
			}
			if said := c.wantHangUp(); said != "" {
				t.Errorf("%s over %s: the server says %q", what, network, said)
			}
		}
	}
	for _, network := range ways {
		for what, sent := range map[string][]byte{"half a header": predictFrame(1, 1, 1)[:20], "half a request": predictFrame(1, 1, 1)[:40]} {
			c := f.greeted(t, network)
			c.send(sent)
			if said := c.wantHangUp(); !strings.HasPrefix(said, "deadline exceeded: the rest of a frame") {
				t.Errorf("%s over %s: the server says %q", what, network, said)
			}
		}
	}
	f.checkServing(t)
}

// Half of a large request gives back what was taken for it.
func TestSilentInTheMiddleOfALargeRequest(t *testing.T) {
	f := start(t, Options{}, inline, impatient)
	before := tensor.MemoryUsage().Live
	for _, network := range ways {
		c := f.greeted(t, network)
		c.send(predictFrame(1, 100_000, 1)[:50_000])
		waitFor(t, "memory to be taken", func() bool { return f.server.budget.Used() > 0 })
		if said := c.wantHangUp(); !strings.HasPrefix(said, "deadline exceeded: the rest of a frame") {
			t.Errorf("%s: the server says %q", network, said)
		}
		waitFor(t, "it to be given back", func() bool { return f.server.budget.Used() == 0 && tensor.MemoryUsage().Live == before })
	}
	f.checkServing(t)
}

// A client that asks and reads nothing is not kept for, and does not keep others.
func TestSlowReader(t *testing.T) {
	for name, script := range map[string]enginetest.Script{"inline": inline, "queued": {}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, script, impatient)
			for _, network := range ways {
				c := f.greeted(t, network)
				request := predictFrame(1, 5000, 1)
				for {
					if _, err := c.Write(request); err != nil {
						if errors.Is(err, os.ErrDeadlineExceeded) {
							t.Fatal("the server goes on to wait for a client that reads nothing")
						}
						break // hung up on
					}
				}
				f.checkServing(t)
			}
			waitFor(t, "the connections to be gone", func() bool { return connections(f.server) == 0 })
			if used := f.server.budget.Used(); used != 0 {
				t.Errorf("%d bytes are still taken", used)
			}
		})
	}
}

// Descriptors that a client passes along never become the server's.
func TestDescriptorsAreDropped(t *testing.T) {
	f := start(t, Options{}, inline)
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, network := range networks {
		c := f.greeted(t, network)
		before, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for i := range uint64(50) {
			rights := unix.UnixRights(int(file.Fd()), int(file.Fd()), int(file.Fd()))
			if _, _, err := c.WriteMsgUnix(predictFrame(i, 1, 1), rights, nil); err != nil {
				t.Fatal(err)
			}
			c.wantSums(i, 1, 1)
		}
		after, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		if len(after) > len(before)+2 {
			t.Errorf("%s: %d descriptors were open before, %d are now", network, len(before), len(after))
		}
	}
}

func TestTenThousandConnections(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 2_000
	}
	f := start(t, Options{MaxConnections: 64}, inline)
	for i := range n {
		network, path := networks[i%2], f.path
		if network == "unix" {
			path = f.stream
		}
		conn, err := net.Dial(network, path)
		for errors.Is(err, syscall.EAGAIN) {
			// The kernel's queue of connections to accept is full: the client is
			// ahead of the server, as on a machine with one core.
			time.Sleep(time.Millisecond)
			conn, err = net.Dial(network, path)
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		switch i % 5 { // the server may have refused it already
		case 0:
			_, _ = conn.Write(hello())
		case 1:
			_, _ = conn.Write([]byte{0})
		case 2:
			_, _ = conn.Write(append(hello(), predictFrame(1, 1, 1)...))
		}
		conn.Close()
	}
	// Whoever is accepted now comes after all of them.
	for _, path := range []string{f.path, f.stream} {
		waitFor(t, "a place to be free", func() bool {
			c, err := client.Dial(t.Context(), path, client.Options{})
			if err == nil {
				c.Close()
			}
			return err == nil
		})
	}
	waitFor(t, "all to be gone", func() bool { return connections(f.server) == 0 })
	f.checkServing(t)
}

func TestConnectionLimit(t *testing.T) {
	f := start(t, Options{MaxConnections: 2}, inline)
	first, _ := f.greeted(t, "unixpacket"), f.greeted(t, "unixpacket")
	_, err := client.Dial(t.Context(), f.path, client.Options{})
	if !errors.Is(err, client.ErrUnavailable) || !strings.Contains(fmt.Sprint(err), "max_connections") {
		t.Errorf("a client too many: %v", err)
	}
	if !strings.Contains(f.log.String(), "max_connections") {
		t.Errorf("the log does not say that a client was refused:\n%s", f.log)
	}
	first.Close()
	waitFor(t, "a place to be free", func() bool {
		c, err := client.Dial(t.Context(), f.path, client.Options{})
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func tensorFloat(b []byte) float32 {
	t := [1]float32{}
	copy(tensor.AsBytes(t[:]), b)
	return t[0]
}

// Whatever a client sends: the server answers or hangs up, and gives everything
// back.
func FuzzConnection(f *testing.F) {
	predict := predictFrame(1, 2, 1)
	open := frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 2}, []byte("sum"))
	f.Add(hello())
	f.Add(append(append(hello(), open...), predict...))
	f.Add(append(append(append(hello(), open...), predict...), predict[:40]...))
	f.Add(append(append(hello(), open...), frameOf(lanewire.Header{Kind: lanewire.KindCancel, ID: 1}, nil)...))
	f.Add(append(append(hello(), open...), with(predict, 4, 0xff, 0xff, 0)...))
	f.Add([]byte("PK\x01\x01"))
	s := start(f, Options{MaxMessage: 1 << 20}, inline, impatient)
	f.Fuzz(func(t *testing.T, sent []byte) {
		before := tensor.MemoryUsage().Live
		network := networks[len(sent)%2]
		c := s.raw(t, network)
		for b := sent; len(b) > 0; {
			n, err := c.Write(b[:min(len(b), lanewire.MaxMessage)])
			if err != nil {
				break // hung up on
			}
			b = b[n:]
		}
		_ = c.CloseWrite() // of a connection that may be closed
		asked := bytes.Count(sent, []byte("PK\x01")) + 1
		for answers := 0; ; answers++ {
			h, payload, err := c.next()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the server neither answers nor hangs up")
			}
			if err != nil {
				break
			}
			if answers > asked {
				t.Fatalf("more answers than frames that could be understood: %+v", h)
			}
			if h.Kind == lanewire.KindResult && len(payload) != 4*int(h.Rows) {
				t.Fatalf("%d rows in %d bytes", h.Rows, len(payload))
			}
			if h.Kind == lanewire.KindError {
				if f, err := lanewire.ParseFailure(payload); err != nil || f.Code == 0 || f.Sentence == "" {
					t.Fatalf("an error without a reason: %+v, %v", f, err)
				}
			}
		}
		c.Close()
		waitFor(t, "everything to be given back", func() bool {
			return connections(s.server) == 0 && s.server.budget.Used() == 0 && tensor.MemoryUsage().Live == before
		})
	})
}

// The layout that other languages rely on.
func TestLayout(t *testing.T) {
	h := lanewire.Header{Kind: lanewire.KindPredict, Payload: 0x01020304, ID: 0x1112131415161718, Handle: 0x21222324, Rows: 0x31323334, Deadline: 0x41424344, Flags: 0x51525354}
	var b [lanewire.HeaderSize]byte
	h.Put(b[:])
	want := "PK\x01\x05\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11\x24\x23\x22\x21\x34\x33\x32\x31\x44\x43\x42\x41\x54\x53\x52\x51"
	if string(b[:]) != want {
		t.Errorf("a header is % x, want % x", b, want)
	}
	if binary.LittleEndian.Uint16(b[:]) != 0x4b50 {
		t.Error("the first two bytes are not PK")
	}
}
