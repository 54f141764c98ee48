package lane

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/server/local"
	client "github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// Rows of every size and both ways to run a model, in every way to connect.
func TestPredict(t *testing.T) {
	for _, script := range []enginetest.Script{inline, {}} {
		f := start(t, Options{}, script)
		for _, way := range ways {
			m := f.model(t, way)
			for _, n := range []int{1, 2, 63, 64, 65, 1000, 5000, 5460, 5461, 5462, 100_000} {
				y, err := m.PredictFloat32(t.Context(), rowsFrom(n, 3))
				if err != nil {
					t.Fatalf("%d rows: %v", n, err)
				}
				checkSums(t, y, 3, n)
			}
		}
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	for _, script := range []enginetest.Script{inline, {}} {
		f := start(t, Options{}, script)
		shared := map[int]*client.Model{0: f.model(t, "unixpacket"), 2: f.model(t, overRing)}
		var clients sync.WaitGroup
		for k := range 16 {
			m := shared[k%4]
			if m == nil {
				m = f.model(t, ways[1+k/2%2])
			}
			clients.Go(func() {
				for i := range 200 {
					n, first := 1+(k+i)%7, float32(1000*k+i)
					y, err := m.PredictFloat32(t.Context(), rowsFrom(n, first))
					if err != nil {
						t.Error(err)
						return
					}
					checkSums(t, y, first, n)
				}
			})
		}
		clients.Wait()
		if s := f.stats(t, "sum"); s.Requests != 16*200 {
			t.Errorf("%d requests were counted, %d were made", s.Requests, 16*200)
		}
	}
}

// What was sent together is run together, and every request gets its own answer.
func TestFramesOfOneReadAreOneBatch(t *testing.T) {
	for _, network := range ways {
		f := start(t, Options{}, inline)
		f.load(t, "other", engine.ModelOptions{})
		c := f.greeted(t, network)
		c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("other")))
		c.receive()
		var sent []byte
		want := make(map[uint64]float32)
		for i := range uint64(20) {
			b := predictFrame(i, 3, float32(10*i))
			if i%2 == 1 {
				binary.LittleEndian.PutUint32(b[16:], 2) // the handle
			}
			if i == 10 {
				b = predictFrame(i, 3, 0)[:40] // too short, but said to be
				binary.LittleEndian.PutUint32(b[4:], 8)
			} else {
				want[i] = float32(10 * i)
			}
			sent = append(sent, b...)
		}
		before := f.stats(t, "sum").Runs
		c.send(sent)
		for range 20 {
			h, payload := c.receive()
			if h.ID == 10 {
				if h.Kind != lanewire.KindError {
					t.Errorf("a request that does not fit was answered with %+v", h)
				}
				continue
			}
			first, ok := want[h.ID]
			if !ok || h.Kind != lanewire.KindResult || h.Rows != 3 || len(payload) != 12 {
				t.Fatalf("received %+v with %d bytes", h, len(payload))
			}
			delete(want, h.ID)
			if got := math.Float32frombits(binary.LittleEndian.Uint32(payload)); got != first {
				t.Errorf("request %d got %v, want %v", h.ID, got, first)
			}
		}
		s := f.stats(t, "sum")
		if runs := s.Runs - before; runs != 1 {
			t.Errorf("%s: nine requests that came together took %d runs", network, runs)
		}
		if s.Requests != 10 || s.Failed["input"] != 1 || s.Rows != 27 {
			t.Errorf("ten requests, one bad, were counted as %d, %v, with %d rows", s.Requests, s.Failed, s.Rows)
		}
	}
}

// One request on which the model fails does not take along those that it was run
// with.
func TestOneBadRequestFailsAlone(t *testing.T) {
	for name, properties := range map[string]engine.Properties{"inline": {Inline: true}, "queued": {}} {
		t.Run(name, func(t *testing.T) {
			fail := errors.New("no")
			f := start(t, Options{}, enginetest.Script{Properties: properties, OnRun: func(rows int) error {
				if rows >= 5 {
					return fail
				}
				return nil
			}})
			c := f.greeted(t, "unixpacket")
			c.send(append(append(predictFrame(1, 2, 10), predictFrame(2, 5, 20)...), predictFrame(3, 1, 30)...))
			c.wantSums(1, 2, 10)
			if said := c.wantError(2, client.Internal); said.Sentence != "predicting: the model failed; the reason is in the daemon's log" {
				t.Errorf("the client is told %q", said.Sentence)
			}
			c.wantSums(3, 1, 30)
		})
	}
}

// Answers of models that wait come when they are there, in any order.
func TestAnswersOutOfOrder(t *testing.T) {
	running, open := make(chan struct{}, 10), make(chan struct{})
	f := start(t, Options{}, enginetest.Script{OnRun: func(rows int) error {
		if rows == 2 {
			running <- struct{}{}
			<-open
		}
		return nil
	}})
	f.load(t, "other", engine.ModelOptions{})
	c := f.greeted(t, "unixpacket")
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("other")))
	c.receive()
	c.send(predictFrame(1, 2, 10))
	<-running
	b := predictFrame(2, 1, 20)
	binary.LittleEndian.PutUint32(b[16:], 2)
	c.send(b)
	c.wantSums(2, 1, 20)
	close(open)
	c.wantSums(1, 2, 10)
}

// stuck serves a model whose runs end when open is closed.
func stuck(t *testing.T, o engine.ModelOptions) (f *fixture, running chan struct{}, open func()) {
	running = make(chan struct{}, 2*maxOutstanding)
	closed := make(chan struct{})
	open = sync.OnceFunc(func() { close(closed) })
	f = start(t, Options{}, enginetest.Script{OnRun: func(int) error { running <- struct{}{}; <-closed; return nil }})
	t.Cleanup(open)
	f.load(t, "stuck", o)
	return f, running, open
}

func TestDeadlinesAndCancellation(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{})
	m, err := f.dial(t, "unixpacket").Model(t.Context(), "stuck")
	if err != nil {
		t.Fatal(err)
	}
	var first sync.WaitGroup
	first.Go(func() {
		y, err := m.PredictFloat32(t.Context(), rowsFrom(1, 9))
		if err != nil {
			t.Error(err)
			return
		}
		checkSums(t, y, 9, 1)
	})
	<-running
	before := tensor.MemoryUsage().Live
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.PredictFloat32(ctx, rowsFrom(1, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request that waited beyond its deadline: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := m.PredictFloat32(ctx, rowsFrom(1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that was cancelled: %v", err)
	}
	waitFor(t, "both to leave the queue", func() bool { return f.stats(t, "stuck").WaitingRequests == 0 })
	waitFor(t, "their memory to come back", func() bool { return tensor.MemoryUsage().Live == before })
	open()
	first.Wait()
	if s := f.stats(t, "stuck"); s.Failed["canceled"]+s.Failed["deadline"] != 2 {
		t.Errorf("the failures are counted as %v", s.Failed)
	}
}

// Of requests that were put together one can be cancelled.
func TestCancelOneOfABatch(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{})
	c := f.greeted(t, "unixpacket")
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("stuck")))
	c.receive()
	ask := func(id uint64) []byte {
		b := predictFrame(id, 1, float32(id))
		binary.LittleEndian.PutUint32(b[16:], 2)
		return b
	}
	c.send(ask(1))
	<-running
	c.send(append(append(ask(2), ask(3)...), ask(4)...))
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindCancel, ID: 3}, nil))
	c.wantError(3, client.Canceled)
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindCancel, ID: 3}, nil))  // once more
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindCancel, ID: 99}, nil)) // never asked
	open()
	var answered []uint64
	for range 3 {
		h, payload := c.receive()
		if got := math.Float32frombits(binary.LittleEndian.Uint32(payload)); h.Kind != lanewire.KindResult || got != float32(h.ID) {
			t.Errorf("received %+v with %v", h, got)
		}
		answered = append(answered, h.ID)
	}
	slices.Sort(answered)
	if !slices.Equal(answered, []uint64{1, 2, 4}) {
		t.Errorf("answered were %v", answered)
	}
}

// A client that hangs up takes what it asked for along.
func TestClientLeaves(t *testing.T) {
	for _, network := range ways {
		f, running, open := stuck(t, engine.ModelOptions{})
		before := tensor.MemoryUsage().Live
		c := f.greeted(t, network)
		c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("stuck")))
		c.receive()
		for i := range uint64(3) {
			b := predictFrame(i, 1, 1)
			binary.LittleEndian.PutUint32(b[16:], 2)
			c.send(b)
			if i == 0 {
				<-running
			}
		}
		waitFor(t, "two requests to wait", func() bool { return f.stats(t, "stuck").WaitingRows == 2 })
		c.Close()
		waitFor(t, "them to leave the queue", func() bool { return f.stats(t, "stuck").WaitingRequests == 0 })
		waitFor(t, "all to be counted", func() bool { return f.stats(t, "stuck").Failed["canceled"] == 3 })
		waitFor(t, "the connection to be gone", func() bool { return connections(f.server) == 0 })
		open()
		waitFor(t, "the buffers to come back", func() bool { return tensor.MemoryUsage().Live == before })
	}
}

func connections(s *Server) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func TestFullQueue(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{MaxQueue: 1})
	m, err := f.dial(t, "unixpacket").Model(t.Context(), "stuck")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := m.PredictFloat32(t.Context(), rowsFrom(1, 1)); err != nil {
				t.Errorf("a request that was admitted: %v", err)
			}
		})
		if i == 0 {
			<-running
		}
	}
	waitFor(t, "the queue to be full", func() bool { return f.stats(t, "stuck").WaitingRequests == 1 })
	_, err = m.PredictFloat32(t.Context(), rowsFrom(1, 1))
	var said *client.Error
	if !errors.As(err, &said) || said.Code != client.ResourceExhausted || said.RetryAfter < minRetry || said.RetryAfter > maxRetry {
		t.Errorf("a request too many: %v", err)
	}
	open()
	wg.Wait()
}

// A connection goes on reading while the instance of a cheap model is busy for long: what is behind a request that waits for it is not kept.
func TestCheapModelThatIsBusy(t *testing.T) {
	running, closed := make(chan struct{}, 1), make(chan struct{})
	f := start(t, Options{}, enginetest.Script{Properties: engine.Properties{Inline: true}, OnRun: func(rows int) error {
		if rows == 3 {
			running <- struct{}{}
			<-closed
		}
		return nil
	}})
	release := sync.OnceFunc(func() { close(closed) })
	defer release() // or a test that fails waits for ever
	f.load(t, "busy", engine.ModelOptions{Instances: 1, MaxBatchRows: 2})
	f.load(t, "other", engine.ModelOptions{Instances: 1})
	busy, err := f.dial(t, "unixpacket").Model(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := busy.PredictFloat32(t.Context(), rowsFrom(3, 1)); err != nil {
			t.Error(err)
		}
	})
	<-running
	time.Sleep(20 * time.Millisecond) // longer than the engine expects of such a run, and than handing a request over takes
	c := f.greeted(t, "unixpacket")
	for i, name := range []string{"busy", "other"} {
		c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: uint64(i)}, []byte(name)))
		c.receive()
	}
	for id := range uint64(2) {
		b := predictFrame(id, 1, 5)
		binary.LittleEndian.PutUint32(b[16:], uint32(id)+2) // the first handle is that of a model which greeted opens
		c.send(b)
	}
	if h, _ := c.receive(); h.Kind != lanewire.KindResult || h.ID != 1 {
		t.Errorf("received %+v while the first model was busy", h)
	}
	release()
	if h, _ := c.receive(); h.Kind != lanewire.KindResult || h.ID != 0 {
		t.Errorf("received %+v when the first model was not busy any more", h)
	}
	wg.Wait()
}

// A connection that asks for more at once than it may is refused what is too much.
func TestTooManyOutstanding(t *testing.T) {
	f, running, open := stuck(t, engine.ModelOptions{MaxQueue: 1 << 20, MaxBatchRows: 1})
	c := f.greeted(t, "unix")
	c.send(frameOf(lanewire.Header{Kind: lanewire.KindOpen, ID: 8}, []byte("stuck")))
	c.receive()
	for i := range uint64(maxOutstanding + 10) {
		b := predictFrame(i, 1, float32(i))
		binary.LittleEndian.PutUint32(b[16:], 2)
		c.send(b)
		if i == 0 {
			<-running
		}
	}
	for i := range uint64(10) {
		c.wantError(maxOutstanding+i, client.ResourceExhausted)
	}
	open()
	for range maxOutstanding {
		if h, _ := c.receive(); h.Kind != lanewire.KindResult {
			t.Fatalf("received %+v", h)
		}
	}
}

// What all requests together may take is bounded, and comes back.
func TestMemoryOfAllRequests(t *testing.T) {
	running, open := make(chan struct{}, 100), make(chan struct{})
	f := start(t, Options{Budget: local.NewBudget(100 * 16)}, enginetest.Script{OnRun: func(rows int) error {
		if rows == 90 {
			running <- struct{}{}
			<-open
		}
		return nil
	}})
	m := f.model(t, "unixpacket")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := m.PredictFloat32(t.Context(), rowsFrom(90, 1)); err != nil {
			t.Error(err)
		}
	})
	<-running
	var said *client.Error
	if _, err := m.PredictFloat32(t.Context(), rowsFrom(11, 1)); !errors.As(err, &said) || said.Code != client.ResourceExhausted || said.RetryAfter == 0 {
		t.Errorf("a request beyond the memory of all: %v", err)
	}
	close(open)
	wg.Wait()
	if _, err := m.PredictFloat32(t.Context(), rowsFrom(11, 1)); err != nil {
		t.Errorf("the same request later: %v", err)
	}
	if _, err := m.PredictFloat32(t.Context(), rowsFrom(101, 1)); !errors.As(err, &said) || said.Code != client.ResourceExhausted {
		t.Errorf("a request larger than the memory of all: %v", err)
	}
}

func TestUnloadAndReplaceUnderAHandle(t *testing.T) {
	f := start(t, Options{}, inline)
	c := f.dial(t, "unixpacket")
	m, err := c.Model(t.Context(), "sum")
	if err != nil {
		t.Fatal(err)
	}
	predict := func() error {
		y, err := m.PredictFloat32(t.Context(), rowsFrom(2, 4))
		if err == nil {
			checkSums(t, y, 4, 2)
		}
		return err
	}
	if _, err := f.engine.Replace(t.Context(), "sum", "elsewhere", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := predict(); err != nil {
		t.Errorf("after a replacement: %v", err)
	}
	if err := f.engine.Unload(t.Context(), "sum"); err != nil {
		t.Fatal(err)
	}
	var said *client.Error
	if err := predict(); !errors.As(err, &said) || said.Code != client.NotFound {
		t.Errorf("after unloading: %v", err)
	}
	if _, err := c.Model(t.Context(), "sum"); !errors.As(err, &said) || said.Code != client.NotFound {
		t.Errorf("opening what was unloaded: %v", err)
	}
	f.load(t, "sum", engine.ModelOptions{})
	if err := predict(); err != nil {
		t.Errorf("after loading it again: %v", err)
	}
}

// A name that was given to a model of other tensors is refused until it is opened
// again.
func TestAnotherSignatureUnderAHandle(t *testing.T) {
	wide := engine.Signature{
		Inputs:  []engine.TensorSpec{{Name: "data", DType: tensor.FP32, Dims: []int64{engine.Variable, 5}}},
		Outputs: []engine.TensorSpec{{Name: "score", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}},
	}
	f := start(t, Options{}, inline)
	other := enginetest.New(enginetest.Script{Name: "wide", Signature: &wide, Properties: inline.Properties})
	both, err := engine.New(engine.Options{
		Host: f.engine.Host(), Backends: []engine.Backend{f.backend, other}, Source: enginetest.Source{Dir: t.TempDir()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer both.Close(context.Background())
	f.server.engine = both
	for _, backend := range []string{"fake", "wide"} {
		if backend == "wide" {
			if err := both.Unload(t.Context(), "sum"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := both.Load(t.Context(), "sum", "x", engine.ModelOptions{Backend: backend}); err != nil {
			t.Fatal(err)
		}
		if backend == "fake" {
			c := f.dial(t, "unixpacket")
			m, err := c.Model(t.Context(), "sum")
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				var said *client.Error
				if _, err := m.PredictFloat32(t.Context(), rowsFrom(1, 1)); !errors.As(err, &said) || said.Code != client.FailedPrecondition {
					t.Errorf("a model of other tensors has the name: %v", err)
				}
				again, err := c.Model(t.Context(), "sum")
				if err != nil {
					t.Fatal(err)
				}
				if y, err := again.PredictFloat32(t.Context(), []float32{1, 2, 3, 4, 5}); err != nil || y[0] != 15 {
					t.Errorf("opened again: %v, %v", y, err)
				}
				f.server.Stop()
				f.server.ended.Wait()
			}()
		}
	}
}

// Several tensors, with and without rows.
func TestSeveralTensors(t *testing.T) {
	for name, signature := range map[string]engine.Signature{
		"rows": {
			Inputs:  []engine.TensorSpec{{Name: "a", DType: tensor.FP32, Dims: []int64{-1, 2}}, {Name: "b", DType: tensor.FP32, Dims: []int64{-1, 1}}},
			Outputs: []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{-1, 1}}, {Name: "y", DType: tensor.FP32, Dims: []int64{-1, 2}}},
		},
		"fixed": {
			Inputs:  []engine.TensorSpec{{Name: "a", DType: tensor.FP32, Dims: []int64{1, 2}}, {Name: "b", DType: tensor.FP32, Dims: []int64{1, 1}}},
			Outputs: []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{1, 1}}, {Name: "y", DType: tensor.FP32, Dims: []int64{1, 2}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, enginetest.Script{Signature: &signature, Properties: inline.Properties})
			m := f.model(t, "unixpacket")
			if got := fmt.Sprint(m.Signature().Inputs); got != fmt.Sprintf("[{a FP32 %v 8} {b FP32 %v 4}]", signature.Inputs[0].Dims, signature.Inputs[1].Dims) {
				t.Errorf("the inputs are %s", got)
			}
			var wg sync.WaitGroup
			for k := range 8 {
				wg.Go(func() {
					a, b := []float32{float32(k), 1}, []float32{100}
					out, err := m.Predict(t.Context(), 1, tensor.AsBytes(a), tensor.AsBytes(b))
					if err != nil {
						t.Error(err)
						return
					}
					// See enginetest.Script.
					want := float32(k) + 1 + 200
					for i, v := range []float32{want, want + 1000, want + 1001} {
						at := append(append([]byte{}, out[0]...), out[1]...)
						if got := math.Float32frombits(binary.LittleEndian.Uint32(at[4*i:])); got != v {
							t.Errorf("value %d of client %d is %v, want %v", i, k, got, v)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
