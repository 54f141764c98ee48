package protocols

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/lane"
)

// connectPatience is how long a server may take to load its model.
const connectPatience = 30 * time.Second

// Lane gives clients of the lane that send window requests with one write and wait for all answers: a call is all of them.
func (a Ask) Lane(window int) func() (Client, error) {
	return func() (Client, error) {
		conn, err := ConnectLane(a.Model, a.Address)
		if err != nil {
			return nil, err
		}
		c := &laneClient{Ask: a, UnixConn: conn, firsts: make([]int, window), want: window * (lanewire.HeaderSize + 4*a.Count)}
		c.sent = make([]byte, window*(lanewire.HeaderSize+len(a.raw(0))))
		c.received = make([]byte, c.want+lanewire.MaxMessage)
		return c, nil
	}
}

type laneClient struct {
	Ask
	*net.UnixConn
	want           int // bytes of all answers
	sent, received []byte
	got            int
	firsts         []int // of the rows of each request
	values         []float32
	loop           looped
}

func (c *laneClient) Prepare(random *rand.Rand) {
	payload := len(c.sent)/len(c.firsts) - lanewire.HeaderSize
	for i := range c.firsts {
		at := c.sent[i*(lanewire.HeaderSize+payload):]
		h := lanewire.Header{Kind: lanewire.KindPredict, ID: uint64(i), Handle: 1, Rows: uint32(c.Count), Payload: uint32(payload)}
		h.Put(at)
		c.firsts[i] = c.choose(random)
		copy(at[lanewire.HeaderSize:], c.raw(c.firsts[i]))
	}
}

func (c *laneClient) Do(_ context.Context) error {
	if _, err := c.Write(c.sent); err != nil {
		return err
	}
	for c.got = 0; c.got < c.want; {
		n, err := c.Read(c.received[c.got:])
		if err != nil {
			return err
		}
		if c.got == 0 && c.received[3] != byte(lanewire.KindResult) {
			return refusal(c.received[:n])
		}
		c.got += n
	}
	return nil
}

// refusal is the error that a frame tells.
func refusal(frame []byte) error {
	var h lanewire.Header
	if len(frame) >= lanewire.HeaderSize && h.Parse(frame) == nil && h.Kind == lanewire.KindError {
		if said, err := lanewire.ParseFailure(frame[lanewire.HeaderSize:]); err == nil {
			return &lane.Error{Code: lane.Code(said.Code), RetryAfter: said.Retry, Sentence: said.Sentence}
		}
	}
	return fmt.Errorf("a request was answered with %q", frame)
}

func (c *laneClient) Check() (int, error) {
	for b := c.received[:c.got]; len(b) > 0; {
		var h lanewire.Header
		if len(b) < lanewire.HeaderSize || h.Parse(b) != nil || h.Kind != lanewire.KindResult || len(b) < lanewire.HeaderSize+int(h.Payload) || h.ID >= uint64(len(c.firsts)) {
			return 0, fmt.Errorf("an answer that cannot be read: %q", b)
		}
		b = b[lanewire.HeaderSize:]
		c.values = Floats(c.values[:0], b[:h.Payload])
		if err := c.Rows.Check(c.firsts[h.ID], c.Count, c.values); err != nil {
			return 0, err
		}
		b = b[h.Payload:]
	}
	return c.got, nil
}

// Ring connects a client of the lane that asks through a ring in shared memory, which the package lane gives.
func (a Ask) Ring() (Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), connectPatience)
	defer cancel()
	client, err := lane.Dial(ctx, a.Address, lane.Options{Ring: true})
	if err != nil {
		return nil, err
	}
	model, err := client.Model(ctx, a.Model)
	if err == nil && !client.HasRing() {
		err = errors.New("the daemon gives no ring")
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return &ringClient{Ask: a, Client: client, model: model, in: make([][]byte, 1), out: [][]byte{make([]byte, 4*a.Count)}}, nil
}

type ringClient struct {
	Ask
	*lane.Client
	model   *lane.Model
	first   int
	in, out [][]byte
	values  []float32
	loop    looped
}

func (c *ringClient) Prepare(random *rand.Rand) {
	c.first = c.choose(random)
	c.in[0] = c.raw(c.first)
}

func (c *ringClient) Do(ctx context.Context) error {
	return c.model.PredictInto(ctx, c.Count, c.in, c.out)
}

func (c *ringClient) Check() (int, error) {
	c.values = Floats(c.values[:0], c.out[0])
	return len(c.out[0]), c.Rows.Check(c.first, c.Count, c.values)
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
