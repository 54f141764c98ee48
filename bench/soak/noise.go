package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// noise is the part: on each protocol, clients that send what a sound client would have sent, with something of it changed, cut out, repeated, or put in.
// They may be told anything, and hung up on; who asks properly beside them is answered as ever.
func noise(ctx context.Context, s *soak) error {
	fraud, err := s.fraudFolder()
	if err != nil {
		return err
	}
	d, err := s.start(ctx, "noise", fmt.Sprintf("models: [{name: fraud, path: %q}]\n", fraud))
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	for _, p := range protocols {
		if err := s.noiseOn(ctx, d, p); err != nil {
			return fmt.Errorf("over %s: %w", p.name, err)
		}
	}
	return nil
}

const (
	noisyAtOnce = 4
	// mostPatience is how long a noisy client waits for an answer that may never come, because half a request is none.
	mostPatience = 20 * time.Millisecond
)

func (s *soak) noiseOn(ctx context.Context, d *daemon, p protocol) error {
	sound, err := s.recorded(ctx, d, p)
	if err != nil {
		return fmt.Errorf("recording a sound client: %w", err)
	}
	polite, err := p.client(ctx, d, "fraud", fraudFeatures)
	if err != nil {
		return err
	}
	defer polite.Close()
	if _, err := politely(ctx, polite, 100*time.Millisecond); err != nil {
		return err
	}
	before, err := d.settles(ctx, usage{}, time.Second)
	if err != nil {
		return err
	}
	network, address := p.address(d)
	var answered, sent atomic.Int64
	rounds := make(chan uint64)
	failures := make([]error, noisyAtOnce)
	var ended sync.WaitGroup
	for i := range noisyAtOnce {
		ended.Go(func() {
			for seed := range rounds {
				r := rand.New(rand.NewPCG(seed, 3))
				got, err := beNoisy(ctx, r, network, address, mutated(r, sound))
				failures[i] = errors.Join(failures[i], err)
				sent.Add(1)
				if got {
					answered.Add(1)
				}
			}
		})
	}
	beside, stop := context.WithCancel(ctx)
	politeness := make(chan error)
	go func() {
		var err error
		for err == nil && beside.Err() == nil {
			_, err = politely(ctx, polite, 20*time.Millisecond)
		}
		politeness <- err
	}()
	for n := 0; n < s.noisy && ctx.Err() == nil && d.runs(); n++ {
		rounds <- s.random.Uint64()
	}
	close(rounds)
	ended.Wait()
	stop()
	politeErr := <-politeness
	if !d.runs() {
		return fmt.Errorf("the daemon ended: %s", d.said())
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	why := "each answered as ever"
	if politeErr != nil {
		why = politeErr.Error()
	}
	s.out.check(politeErr == nil, p.name+": who asks properly is answered beside noise", "%d noisy clients, of which %d got an answer of some kind; %s", sent.Load(), answered.Load(), why)
	after, err := d.settles(ctx, before, 30*time.Second) // what half a message of HTTP is waited for
	if err != nil {
		return err
	}
	s.out.checkReturned(before, after)
	return nil
}

// beNoisy sends the bytes in pieces, and looks whether anything comes back. Half of the clients leave without having read it.
func beNoisy(ctx context.Context, r *rand.Rand, network, address string, data []byte) (answered bool, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	for len(data) > 0 {
		n := len(data)
		if r.IntN(2) == 0 {
			n = 1 + r.IntN(n)
		}
		n = min(n, 100<<10) // the largest message of a lane has more; the kernel takes it whole or not at all
		if err := conn.SetWriteDeadline(time.Now().Add(mostPatience)); err != nil {
			return false, err
		}
		if _, err := conn.Write(data[:n]); err != nil {
			break // it has hung up
		}
		data = data[n:]
	}
	if r.IntN(2) == 0 {
		return false, nil
	}
	if err := conn.SetReadDeadline(time.Now().Add(mostPatience)); err != nil {
		return false, err
	}
	n, _ := conn.Read(make([]byte, 4096)) // what it says does not matter
	return n > 0, nil
}

// mutated is the bytes with something wrong, mostly with one thing.
func mutated(r *rand.Rand, sound []byte) []byte {
	b := bytes.Clone(sound)
	for range 1 + r.IntN(3)*r.IntN(3) {
		if len(b) < 16 {
			break
		}
		at := r.IntN(len(b) - 8)
		n := 1 + r.IntN(min(64, len(b)-at))
		switch r.IntN(7) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			for i := range n {
				b[at+i] = byte(r.Uint32())
			}
		case 2: // a number that is likely to be a length, in either order
			word := binary.LittleEndian.AppendUint32(nil, uint32(words[r.IntN(len(words))]))
			if r.IntN(2) == 0 {
				word = binary.BigEndian.AppendUint32(nil, uint32(words[r.IntN(len(words))]))
			}
			copy(b[at:], word)
		case 3:
			b = append(b[:at], b[at+n:]...)
		case 4:
			b = append(b[:at+n:at+n], b[at:]...)
		case 5:
			b = b[:at]
		case 6:
			noise := make([]byte, n)
			for i := range noise {
				noise[i] = byte(r.Uint32())
			}
			b = append(b[:at:at], append(noise, b[at:]...)...)
		}
	}
	return b
}

// recorded is what a sound client sends that makes a few requests.
func (s *soak) recorded(ctx context.Context, d *daemon, p protocol) ([]byte, error) {
	if p.name == "lane" || p.name == "lane-stream" {
		return append(laneGreeting(), lanePredict(4)...), nil
	}
	network, address := p.address(d)
	listener, err := net.Listen("unix", filepath.Join(d.dir, "recorder-"+p.name))
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	var record bytes.Buffer
	done := make(chan error)
	go func() {
		done <- func() error {
			client, err := listener.Accept()
			if err != nil {
				return err
			}
			defer client.Close()
			server, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err != nil {
				return err
			}
			back := make(chan struct{})
			go func() {
				_, _ = io.Copy(client, server) // until either leaves
				close(back)
			}()
			_, _ = io.Copy(io.MultiWriter(&record, server), client) // likewise
			err = server.Close()
			<-back
			return err
		}()
	}()
	c, err := p.connect(ctx, "unix", listener.Addr().String(), "fraud", fraudFeatures)
	if err != nil {
		return nil, errors.Join(err, listener.Close(), <-done)
	}
	for range 3 {
		if _, askErr := c.predict(ctx, make([]float32, fraudFeatures)); askErr != nil {
			err = errors.Join(err, askErr)
		}
	}
	err = errors.Join(err, c.Close())
	return record.Bytes(), errors.Join(err, <-done)
}
