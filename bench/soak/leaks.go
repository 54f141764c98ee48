package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/testkit"
)

// What is promised of memory.
const (
	mostGrowth   = 4 << 20 // over all requests, after the first tenth
	mostPerCycle = 1 << 10 // bytes a cycle of loading and unloading
	// Over few cycles the collector's own ups and downs are more than that a cycle; then only what no collector explains is judged.
	fewCycles, mostPerFew = 1000, 32 << 10
)

// leaks is the part: many requests over each protocol, and many loads with each backend, after which everything is as before.
func leaks(ctx context.Context, s *soak) error {
	fraud, err := s.fraudFolder()
	if err != nil {
		return err
	}
	data := filepath.Join(testkit.ModuleRoot(), "internal", "testkit", "testdata")
	libdlr, onnxRuntime, err := libraries()
	if err != nil {
		return err
	}
	config := fmt.Sprintf("backends: {libdlr: %q, onnxruntime: %q}\nmodels:\n- {name: fraud, path: %q}\n", libdlr, onnxRuntime, fraud)
	cycled := []struct{ backend, folder string }{
		{"forest", fraud},
		{"treelite", filepath.Join(data, "treelite", "fraud-tl2.4.0")},
		{"dlr", filepath.Join(data, "tvm", "mlp_b1-v3")},
		{"tvm", filepath.Join(data, "tvm", "cnn-v3")},
		{"onnx", filepath.Join(testkit.ModuleRoot(), "backends", "onnx", "testdata", "nets", "cnn")},
	}
	for _, c := range cycled {
		config += fmt.Sprintf("- {name: %s, path: %q, backend: %s}\n", c.backend, c.folder, c.backend)
	}
	d, err := s.start(ctx, "leaks", config)
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	for _, p := range protocols {
		if p.name == "tcp" {
			continue // it is the same as oip-http from the front on
		}
		if err := s.manyRequests(ctx, d, p); err != nil {
			return fmt.Errorf("over %s: %w", p.name, err)
		}
	}
	for _, c := range cycled {
		if err := s.manyLoads(ctx, d, c.backend); err != nil {
			return fmt.Errorf("loading with %s: %w", c.backend, err)
		}
	}
	return nil
}

// manyRequests asks for predictions over one protocol, and wants the daemon's memory to stay flat and the rest to return.
func (s *soak) manyRequests(ctx context.Context, d *daemon, p protocol) error {
	n, burst := s.calls, burstOfCalls
	if p.name == "lane" || p.name == "lane-stream" {
		n, burst = s.requests, burstOfFrames
		if p.name == "lane-stream" {
			n /= 10 // the lane's own server on another kind of socket
		}
	}
	var before usage
	var lowest, highest int64 = math.MaxInt64, 0
	const samples = 100
	began := time.Now()
	done := 0
	for i := range samples {
		if i == samples/10 {
			var err error
			if before, err = d.settles(ctx, before, time.Second); err != nil { // what the first tenth left behind is not counted
				return err
			}
		}
		more := (i+1)*n/samples - done
		if err := burst(ctx, d, p, more); err != nil {
			return err
		}
		done += more
		resident, err := d.resident()
		if err != nil {
			return err
		}
		if i >= samples/10 {
			lowest, highest = min(lowest, resident), max(highest, resident)
		}
	}
	took := time.Since(began)
	after, err := d.settles(ctx, before, 10*time.Second)
	if err != nil {
		return err
	}
	s.out.check(highest-lowest <= 2*mostGrowth, p.name+": memory stays flat", "from %.1f to %.1f MiB over %d requests, %.0f a second",
		float64(lowest)/(1<<20), float64(highest)/(1<<20), n, float64(n)/took.Seconds())
	s.out.checkReturned(before, after)
	return nil
}

// burstOfFrames makes n requests over the lane on a connection of its own: windows of frames, each written at once.
func burstOfFrames(ctx context.Context, d *daemon, p protocol, n int) error {
	network, address := p.address(d)
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return err
	}
	defer conn.Close()
	const window = 128
	buffer := make([]byte, 2*lanewire.MaxMessage) // room for a message behind part of a frame
	var unread []byte
	// answers reads so many frames, of which each must be of the kind.
	answers := func(n int, kind lanewire.Kind) error {
		for n > 0 {
			for len(unread) >= lanewire.HeaderSize && n > 0 {
				var h lanewire.Header
				if err := h.Parse(unread); err != nil {
					return err
				}
				size := lanewire.HeaderSize + int(h.Payload)
				if len(unread) < size {
					break
				}
				if h.Kind != kind {
					return fmt.Errorf("a request was answered with a frame of kind %d: %q", h.Kind, unread[lanewire.HeaderSize:size])
				}
				unread, n = unread[size:], n-1
			}
			if n == 0 {
				return nil
			}
			got, err := conn.Read(buffer[copy(buffer, unread):])
			if err != nil {
				return err
			}
			unread = buffer[:len(unread)+got]
		}
		return nil
	}
	if _, err := conn.Write(laneGreeting()); err != nil {
		return err
	}
	if err := errors.Join(answers(1, lanewire.KindWelcome), answers(1, lanewire.KindModel)); err != nil {
		return err
	}
	frames := lanePredict(window)
	size := len(frames) / window
	for n > 0 && ctx.Err() == nil {
		now := min(n, window)
		if _, err := conn.Write(frames[:now*size]); err != nil {
			return err
		}
		if err := answers(now, lanewire.KindResult); err != nil {
			return err
		}
		n -= now
	}
	return ctx.Err()
}

// burstOfCalls makes n calls, by a few clients with a connection each.
func burstOfCalls(ctx context.Context, d *daemon, p protocol, n int) error {
	const clients = 4
	x := make([]float32, fraudFeatures)
	failures := make([]error, clients)
	var ended sync.WaitGroup
	for i := range clients {
		ended.Go(func() {
			c, err := p.client(ctx, d, "fraud", fraudFeatures)
			if err != nil {
				failures[i] = err
				return
			}
			defer c.Close()
			for range n / clients {
				if _, failures[i] = c.predict(ctx, x); failures[i] != nil {
					return
				}
			}
		})
	}
	ended.Wait()
	return errors.Join(failures...)
}

// manyLoads loads and unloads the model that is declared for the backend.
func (s *soak) manyLoads(ctx context.Context, d *daemon, backend string) error {
	if err := d.unload(ctx, backend); err != nil { // it was loaded at start
		return err
	}
	cycle := func() error {
		return errors.Join(d.load(ctx, backend, ""), d.unload(ctx, backend))
	}
	warm := max(10, s.cycles/10)
	for range warm {
		if err := cycle(); err != nil {
			return err
		}
	}
	before, err := d.settles(ctx, usage{}, time.Second)
	if err != nil {
		return err
	}
	var line leastSquares
	for i := range s.cycles {
		if err := cycle(); err != nil {
			return err
		}
		resident, err := d.resident()
		if err != nil {
			return err
		}
		line.add(float64(i), float64(resident))
	}
	after, err := d.settles(ctx, before, 10*time.Second)
	if err != nil {
		return err
	}
	most := float64(mostPerCycle)
	if s.cycles < fewCycles {
		most = mostPerFew
	}
	slope := line.slope()
	s.out.check(slope <= most, backend+": memory a cycle", "%.0f bytes a load and unload, of %.0f allowed, over %d after %d", slope, most, s.cycles, warm)
	s.out.checkReturned(before, after)
	return nil
}

// leastSquares fits a line to points.
type leastSquares struct{ n, x, y, xx, xy float64 }

func (l *leastSquares) add(x, y float64) {
	l.n++
	l.x, l.y, l.xx, l.xy = l.x+x, l.y+y, l.xx+x*x, l.xy+x*y
}

// slope is that of the line that fits best; 0 for fewer than two points.
func (l *leastSquares) slope() float64 {
	if below := l.n*l.xx - l.x*l.x; below > 0 {
		return (l.n*l.xy - l.x*l.y) / below
	}
	return 0
}
