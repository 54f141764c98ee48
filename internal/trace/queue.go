package trace

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

const (
	// batchSpans is the most spans that are sent together, batchTime the longest
	// that a span waits for others.
	batchSpans = 512
	batchTime  = time.Second
	// After an export that failed the next waits, twice as long each time.
	minPause = time.Second
	maxPause = 30 * time.Second
	// logInterval keeps a collector that is away from filling the log.
	logInterval = time.Minute
)

// queue is the spans that wait to be sent, and the goroutine that sends them. It
// implements sdktrace.SpanProcessor. The SDK's own does not tell what it drops.
type queue struct {
	exporter sdktrace.SpanExporter
	log      *slog.Logger
	timeout  time.Duration
	spans    chan sdktrace.ReadOnlySpan

	stop   chan struct{} // closed: send what waits and end
	ended  chan struct{} // closed: the goroutine has ended
	ctx    context.Context
	cancel context.CancelFunc // ends the export under way

	exported, dropped, failed atomic.Uint64

	mu     sync.RWMutex // closed does not change while a span is put in
	closed bool
	once   sync.Once

	// The rest is the goroutine's.
	pause    time.Duration // 0 while exports succeed
	lastSaid time.Time
	lost     uint64 // dropped and failed when it was last said
}

func newQueue(e sdktrace.SpanExporter, o Options) *queue {
	q := &queue{
		exporter: e, log: o.Log, timeout: o.Timeout, spans: make(chan sdktrace.ReadOnlySpan, o.Queue),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements sdktrace.SpanProcessor.
func (q *queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor. It never waits.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if !q.closed {
		select {
		case q.spans <- s:
			return
		default:
		}
	}
	q.dropped.Add(1)
}

// ForceFlush implements sdktrace.SpanProcessor. Nobody calls it: spans leave within
// batchTime, and with Shutdown.
func (q *queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdktrace.SpanProcessor. Only the first call does anything.
func (q *queue) Shutdown(ctx context.Context) (err error) {
	q.once.Do(func() { err = q.shutdown(ctx) })
	return err
}

func (q *queue) shutdown(ctx context.Context) error {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	close(q.stop)
	var err error
	select {
	case <-q.ended:
	case <-ctx.Done():
		err = fmt.Errorf("the collector did not take them in time: %w", ctx.Err())
		q.cancel()
		<-q.ended
	}
	q.cancel()
	if closing := q.exporter.Shutdown(ctx); err == nil && ctx.Err() == nil {
		err = closing
	}
	return err
}

func (q *queue) counts() Counts {
	return Counts{
		Exported: q.exported.Load(), Dropped: q.dropped.Load(), Failed: q.failed.Load(),
		Waiting: len(q.spans), Limit: cap(q.spans),
	}
}

// run sends batches until the queue is closed and empty.
func (q *queue) run() {
	defer close(q.ended)
	batch := make([]sdktrace.ReadOnlySpan, 0, batchSpans)
	for {
		batch = q.collect(batch[:0])
		if len(batch) > 0 {
			q.export(batch)
			clear(batch)
		}
		select {
		case <-q.stop:
			if q.pause > 0 {
				// The collector is away, and there is no time to wait for it.
				q.dropAll()
			}
			if len(q.spans) == 0 {
				return
			}
		case <-time.After(q.pause):
		}
	}
}

// collect waits for spans: until there are as many as are sent together, until the
// first has waited long enough, or until the queue is closed.
func (q *queue) collect(batch []sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	select {
	case s := <-q.spans:
		batch = append(batch, s)
	case <-q.stop:
	}
	timer := time.NewTimer(batchTime)
	defer timer.Stop()
	stop := q.stop
	for len(batch) < batchSpans {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
			continue
		default:
		}
		if stop == nil {
			return batch // closed, and nothing is left
		}
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-timer.C:
			return batch
		case <-stop:
			stop = nil
		}
	}
	return batch
}

// export sends one batch, once.
func (q *queue) export(batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(q.ctx, q.timeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	if err == nil {
		q.exported.Add(uint64(len(batch)))
		if q.pause > 0 {
			q.log.Info("traces are taken again", "lost", q.dropped.Load()+q.failed.Load()-q.lost)
			q.pause, q.lastSaid = 0, time.Time{}
		}
		return
	}
	q.failed.Add(uint64(len(batch)))
	q.pause = min(max(2*q.pause, minPause), maxPause)
	if now := time.Now(); now.Sub(q.lastSaid) > logInterval {
		lost := q.dropped.Load() + q.failed.Load()
		q.log.Warn("sending traces failed: spans are lost until the collector takes them; requests are answered as ever", "error", err, "lost", lost-q.lost)
		q.lastSaid, q.lost = now, lost
	}
}

// dropAll drops what waits.
func (q *queue) dropAll() {
	for {
		select {
		case <-q.spans:
			q.dropped.Add(1)
		default:
			return
		}
	}
}
