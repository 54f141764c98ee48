package lane

import (
	"fmt"
	"math"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/internal/testkit/collector"
	"github.com/picket-ml/picket/internal/trace"
	"github.com/picket-ml/picket/tensor"
)

func newTracer(t *testing.T, c *collector.Collector, sample float64) *trace.Tracer {
	t.Helper()
	tracer, err := trace.New(trace.Options{Endpoint: c.Endpoint, Sample: sample, Queue: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Shutdown(t.Context()) })
	return tracer
}

// sendTogether sends n requests of two rows in one write, and takes n answers.
func (c *rawConn) sendTogether(n int) {
	c.t.Helper()
	var sent []byte
	for i := range n {
		sent = append(sent, predictFrame(uint64(i), 2, float32(i))...)
	}
	c.send(sent)
	for range n {
		c.receive()
	}
}

// Every request has a span of its own, though several are run as one.
func TestTraces(t *testing.T) {
	for name, properties := range map[string]engine.Properties{"inline": {Inline: true}, "queued": {}} {
		t.Run(name, func(t *testing.T) {
			c := collector.Start(t, collector.Options{})
			tracer := newTracer(t, c, 1)
			f := start(t, Options{Tracer: tracer}, enginetest.Script{Properties: properties})
			conn := f.greeted(t, "unixpacket")
			const n = 10
			conn.sendTogether(n)
			conn.send(frameOf(lanewire.Header{Kind: lanewire.KindPredict, ID: n, Handle: 1, Rows: 1}, []byte("not a row")))
			conn.receive()
			spans := c.Wait(t, "lane/predict", n+1)
			ok := 0
			for _, s := range spans {
				if len(s.GetParentSpanId()) != 0 {
					t.Errorf("a request of the lane is %v, want a root", s)
				}
				s.CheckAttributes(t, map[string]string{
					"rpc.system.name": "picket_lane", "rpc.method": "lane/predict", "picket.protocol": "lane", "picket.model.name": "sum", "picket.model.backend": "fake",
				})
				if s.Attributes()["picket.outcome"] == "input" {
					s.CheckAttributes(t, map[string]string{"rpc.response.status_code": "INVALID_ARGUMENT", "picket.batch.rows": "", "picket.rows": "1"})
					continue
				}
				ok++
				s.CheckAttributes(t, map[string]string{
					"picket.outcome": "ok", "rpc.response.status_code": "OK", "picket.rows": "2", "picket.batch.rows": fmt.Sprint(2 * n),
					"picket.batch.requests": fmt.Sprint(n), "picket.inline": fmt.Sprint(properties.Inline),
				})
				c.CheckPhases(t, s)
			}
			if ok != n {
				t.Errorf("%d of %d answers are traced", ok, n)
			}
		})
	}
}

// Of many requests the fraction is traced, however they are put together.
func TestTracedFraction(t *testing.T) {
	const n, fraction = 20_000, 0.05
	c := collector.Start(t, collector.Options{})
	tracer := newTracer(t, c, fraction)
	f := start(t, Options{Tracer: tracer}, inline)
	conn := f.greeted(t, "unix")
	for sent := 0; sent < n; {
		size := min(1+sent%37, n-sent)
		conn.sendTogether(size)
		sent += size
	}
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Six standard deviations: once in a billion runs there are more or fewer.
	want, allowed := float64(n)*fraction, 6*math.Sqrt(n*fraction*(1-fraction))
	got := 0
	for _, s := range c.Spans() {
		if s.GetName() == "lane/predict" {
			got++
		}
	}
	if math.Abs(float64(got)-want) > allowed {
		t.Errorf("%d of %d requests are traced, want %.0f, give or take %.0f", got, n, want, allowed)
	}
}

// Of requests that are run together and fail, each is traced with its own end.
func TestTracesOfAFailure(t *testing.T) {
	c := collector.Start(t, collector.Options{})
	tracer := newTracer(t, c, 1)
	f := start(t, Options{Tracer: tracer}, enginetest.Script{Properties: engine.Properties{Inline: true}, OnRun: func(rows int) error {
		if rows > 2 {
			return fmt.Errorf("%d rows are too many", rows)
		}
		return nil
	}})
	f.greeted(t, "unixpacket").sendTogether(3)
	for _, s := range c.Wait(t, "lane/predict", 3) {
		s.CheckAttributes(t, map[string]string{"picket.outcome": "ok", "picket.rows": "2", "picket.batch.rows": "2", "picket.batch.requests": "1"})
		c.CheckPhases(t, s)
	}
}

// While it is not a request's turn, tracing costs it no allocation.
func TestUntracedDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c := collector.Start(t, collector.Options{})
	for name, properties := range map[string]engine.Properties{"inline": {Inline: true}, "queued": {}} {
		f := start(t, Options{Tracer: newTracer(t, c, 0)}, enginetest.Script{Properties: properties})
		m := f.model(t, f.path)
		in, out := [][]byte{tensor.AsBytes(rowsFrom(2, 1))}, [][]byte{make([]byte, 8)}
		if n := testing.AllocsPerRun(2000, func() {
			if err := m.PredictInto(t.Context(), 2, in, out); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: a request allocates %v times", name, n)
		}
	}
}
