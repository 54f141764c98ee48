package application

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
)

const (
	defaultSample = 50
	maxSample     = 200
	maxStreams    = 64
	// slowest is how long a stream's reader may take for one event.
	slowest = 5 * time.Second
)

// hub passes decisions to those who watch. Nobody who decides waits for anybody who watches.
type hub struct {
	watchers atomic.Int32
	mu       sync.Mutex
	streams  map[*stream]struct{}
	ended    chan struct{}
	once     sync.Once
}

// stream is one reader.
type stream struct {
	events chan event
	stats  chan event // the last one only, so that it is never missed
	every  time.Duration
	next   time.Time // when another decision is due
}

type event struct {
	name string
	data []byte
}

func newHub() *hub { return &hub{streams: map[*stream]struct{}{}, ended: make(chan struct{})} }

func (h *hub) close() { h.once.Do(func() { close(h.ended) }) }

// watched tells whether there is anybody to tell.
func (h *hub) watched() bool { return h.watchers.Load() > 0 }

// join adds a reader, or gives nil where there are too many.
func (h *hub) join(sample int) *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.streams) >= maxStreams {
		return nil
	}
	s := &stream{events: make(chan event, 2*maxSample), stats: make(chan event, 1), every: time.Second / time.Duration(sample)}
	h.streams[s] = struct{}{}
	h.watchers.Store(int32(len(h.streams)))
	return s
}

func (h *hub) leave(s *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.streams, s)
	h.watchers.Store(int32(len(h.streams)))
}

// decision shows a decision to those for whom one is due.
func (h *hub) decision(e api.Entry) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	var data []byte
	for s := range h.streams {
		if now.Before(s.next) {
			continue
		}
		if data == nil {
			data = encode(e)
		}
		s.next = later(s.next.Add(s.every), now.Add(-s.every))
		s.send(event{"decision", data})
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// outcome shows to all what became of a transaction.
func (h *hub) outcome(e api.Entry) {
	if !h.watched() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	data := encode(e)
	for s := range h.streams {
		s.send(event{"outcome", data})
	}
}

// statistics shows statistics to all, in the place of those that were not read yet.
func (h *hub) statistics(a api.Statistics) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := event{"statistics", encode(a)}
	for s := range h.streams {
		select {
		case <-s.stats:
		default:
		}
		s.stats <- e
	}
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a message of ours is no JSON: " + err.Error())
	}
	return data
}

// send drops the event where the reader is slow.
func (s *stream) send(e event) {
	select {
	case s.events <- e:
	default:
	}
}

// stream sends server-sent events until the reader or the session ends.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	sample := defaultSample
	if text := r.FormValue("sample"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxSample {
			refuse(w, http.StatusBadRequest, `streaming decisions: "sample" must be 1 to 200`)
			return
		}
		sample = n
	}
	one := s.hub.join(sample)
	if one == nil {
		refuse(w, http.StatusServiceUnavailable, "too many pages watch already")
		return
	}
	defer s.hub.leave(one)
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	check := time.NewTicker(30 * time.Second)
	defer check.Stop()
	send := func(name string, data []byte) bool {
		// A server without deadlines for writing, such as a test's recorder, is as good.
		_ = control.SetWriteDeadline(time.Now().Add(slowest))
		for _, part := range [...]string{"event: ", name, "\ndata: ", string(data), "\n\n"} {
			if _, err := w.Write([]byte(part)); err != nil {
				return false
			}
		}
		return control.Flush() == nil
	}
	if !send("statistics", encode(s.statistics())) {
		return
	}
	for {
		var e event
		select {
		case <-r.Context().Done():
			return
		case <-s.hub.ended:
			return
		case <-check.C:
			if _, err := s.sessionOf(r); err != nil {
				return
			}
			continue
		case e = <-one.stats:
		case e = <-one.events:
		}
		if !send(e.name, e.data) {
			return
		}
	}
}
