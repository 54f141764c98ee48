package capture_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
	lanesrv "github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// newEngine has a model "sum" with the tap.
func newEngine(t testing.TB, tap *capture.Tap, script enginetest.Script) *engine.Engine {
	t.Helper()
	e := enginetest.NewEngine(t, script, engine.Options{Tap: tap})
	if _, err := e.Load(t.Context(), "sum", "sum", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	return e
}

// predict asks for the sum of rows of three.
func predict(t testing.TB, e *engine.Engine, id string, values ...float32) (float32, error) {
	t.Helper()
	m, err := e.Acquire("sum")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	r, err := m.NewRequest(len(values) / 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	copy(r.Inputs[0].Bytes(), tensor.AsBytes(values))
	if m.Tapped() {
		r.Identify([]byte(id))
	}
	if err := r.Predict(t.Context()); err != nil {
		return 0, err
	}
	out, err := tensor.View[float32](r.Outputs[0])
	if err != nil {
		t.Fatal(err)
	}
	return out[0], nil
}

// kept is a Sink in memory.
type kept struct {
	mu      sync.Mutex
	records []capture.Record
	puts    int
	refuse  error
	tried   bool          // TryPut takes entries, as the spool does that nobody else uses
	tries   int           // records that it has taken so
	held    chan struct{} // what Put waits for, after it has closed holds
	holds   chan struct{}
	once    sync.Once
}

func (k *kept) TryPut(e capture.Encoder) (bool, error) {
	if !k.tried {
		return false, nil
	}
	k.mu.Lock()
	k.tries += e.Len()
	k.mu.Unlock()
	return true, k.take(e)
}

func (k *kept) Put(entries ...*capture.Entry) error {
	if k.held != nil {
		k.once.Do(func() { close(k.holds) })
		<-k.held
	}
	all := make([]capture.Encoder, len(entries))
	for i, e := range entries {
		all[i] = e
	}
	return k.take(all...)
}

func (k *kept) take(entries ...capture.Encoder) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refuse != nil {
		return k.refuse
	}
	k.puts++
	for _, e := range entries {
		size := e.Size()
		b := capture.Draft{B: make([]byte, 1, 1+size), Summed: 1} // as a room is, long enough
		if err := e.AppendTo(&b); err != nil {
			return err
		}
		if len(b.B) != 1+size {
			return fmt.Errorf("an entry of %d bytes says that it has %d", len(b.B)-1, size)
		}
		b.SumUp()
		if want := crc32.Checksum(b.B[1:], crc32.MakeTable(crc32.Castagnoli)); b.Sum != want {
			return fmt.Errorf("an entry's checksum is %#x, it should be %#x", b.Sum, want)
		}
		again, err := capture.ParseEntry(b.B[1:])
		if err != nil {
			return err
		}
		k.records = append(k.records, again.Records(capture.ID{Spool: 1, Sequence: uint64(len(k.records)) + 1})...)
	}
	return nil
}

var errModel = errors.New("the model failed")

// serveLane serves e's models and is a client of it.
func serveLane(t testing.TB, e *engine.Engine) *lane.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "lane.sock")
	s, err := lanesrv.New(lanesrv.Options{Engine: e, MaxRings: 4})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, local.Access{}) }()
	c, err := lane.Dial(t.Context(), path, lane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return c
}

func openSpool(t testing.TB, o spool.Options) *spool.Spool {
	t.Helper()
	o.Dir = filepath.Join(t.TempDir(), "capture")
	s, err := spool.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
