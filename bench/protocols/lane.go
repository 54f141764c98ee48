package protocols

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
)

// connectPatience is how long a server may take to load its model.
const connectPatience = 30 * time.Second

// Lane gives clients of the lane that send window requests with one write and wait for all answers: a call is all of them.
func (a Ask) Lane(window int) func() (versus.Call, io.Closer, error) {
	return func() (versus.Call, io.Closer, error) {
		conn, err := ConnectLane(a.Model, a.Address)
		if err != nil {
			return nil, nil, err
		}
		payload := len(a.raw(0))
		frame := lanewire.HeaderSize + payload
		want := window * (lanewire.HeaderSize + 4*a.Count)
		sent, received := make([]byte, window*frame), make([]byte, want+lanewire.MaxMessage)
		firsts := make([]int, window)
		var values []float32
		return func(_ context.Context, random *rand.Rand) (time.Duration, int, error) {
			for i := range window {
				at := sent[i*frame:]
				h := lanewire.Header{Kind: lanewire.KindPredict, ID: uint64(i), Handle: 1, Rows: uint32(a.Count), Payload: uint32(payload)}
				h.Put(at)
				firsts[i] = a.choose(random)
				copy(at[lanewire.HeaderSize:], a.raw(firsts[i]))
			}
			start := time.Now()
			if _, err := conn.Write(sent); err != nil {
				return 0, 0, err
			}
			got := 0
			for got < want {
				n, err := conn.Read(received[got:])
				if err != nil {
					return 0, 0, err
				}
				if got == 0 && received[3] != byte(lanewire.KindResult) {
					return 0, 0, fmt.Errorf("a request was answered with a frame of kind %d: %q", received[3], received[:n])
				}
				got += n
			}
			took := time.Since(start)
			for b := received[:got]; len(b) > 0; {
				var h lanewire.Header
				if len(b) < lanewire.HeaderSize || h.Parse(b) != nil || h.Kind != lanewire.KindResult || len(b) < lanewire.HeaderSize+int(h.Payload) || h.ID >= uint64(window) {
					return 0, 0, fmt.Errorf("an answer that cannot be read: %q", b)
				}
				b = b[lanewire.HeaderSize:]
				values = floats(values[:0], b[:h.Payload])
				if err := a.Rows.check(firsts[h.ID], a.Count, values); err != nil {
					return 0, 0, err
				}
				b = b[h.Payload:]
			}
			return took, got, nil
		}, conn, nil
	}
}

// Ring connects a client of the lane that asks through a ring in shared memory, which the package lane gives.
func (a Ask) Ring() (versus.Call, io.Closer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	client, err := lane.Dial(ctx, a.Address, lane.Options{Ring: true})
	if err != nil {
		return nil, nil, err
	}
	model, err := client.Model(ctx, a.Model)
	if err == nil && !client.HasRing() {
		err = errors.New("the daemon gives no ring")
	}
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	in, out := make([][]byte, 1), [][]byte{make([]byte, 4*a.Count)}
	var values []float32
	return func(ctx context.Context, random *rand.Rand) (time.Duration, int, error) {
		first := a.choose(random)
		in[0] = a.raw(first)
		start := time.Now()
		err := model.PredictInto(ctx, a.Count, in, out)
		took := time.Since(start)
		if err != nil {
			return 0, 0, err
		}
		values = floats(values[:0], out[0])
		return took, len(out[0]), a.Rows.check(first, a.Count, values)
	}, client, nil
}

// ConnectLane greets a server, which may still be starting, and opens the model as handle 1.
func ConnectLane(model, socket string) (*net.UnixConn, error) {
	var conn *net.UnixConn
	var err error
	for end := time.Now().Add(connectPatience); ; time.Sleep(10 * time.Millisecond) {
		conn, err = net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
		if err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, err
		}
	}
	hello := lanewire.Hello{Lowest: lanewire.Version, Highest: lanewire.Version}.Append(nil)
	buffer := make([]byte, lanewire.MaxMessage)
	for _, ask := range []struct {
		kind, answer lanewire.Kind
		payload      []byte
	}{{lanewire.KindHello, lanewire.KindWelcome, hello}, {lanewire.KindOpen, lanewire.KindModel, []byte(model)}} {
		h := lanewire.Header{Kind: ask.kind, Payload: uint32(len(ask.payload))}
		frame := make([]byte, lanewire.HeaderSize)
		h.Put(frame)
		if _, err := conn.Write(append(frame, ask.payload...)); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		n, err := conn.Read(buffer)
		if err != nil || n < lanewire.HeaderSize || buffer[3] != byte(ask.answer) {
			return nil, errors.Join(fmt.Errorf("greeting %s: it answers %q", socket, buffer[:n]), err, conn.Close())
		}
	}
	return conn, nil
}
