package lane_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	server "github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// folder is a source of one artifact.
type folder string

func (f folder) Open(_ context.Context, url string) (*engine.Artifact, error) {
	root, err := os.OpenRoot(string(f))
	if err != nil {
		return nil, err
	}
	return engine.NewArtifact(url, root)
}

const features = 30

// newEngine serves a real model, trained by XGBoost, as "fraud", and gives its
// answers to rows in process.
func newEngine(t testing.TB) (*engine.Engine, func(rows []float32) []float32) {
	t.Helper()
	e, err := engine.New(engine.Options{
		Host: hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}), Backends: []engine.Backend{forest.New()}, Source: folder(modelFolder(t)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if _, err := e.Load(t.Context(), "fraud", "fraud", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	return e, func(rows []float32) []float32 {
		s, err := e.Acquire("fraud")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Release()
		r, err := s.NewRequest(len(rows) / features)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Release()
		copy(r.Inputs[0].Bytes(), tensor.AsBytes(rows))
		if err := r.Predict(t.Context()); err != nil {
			t.Fatal(err)
		}
		out := make([]float32, len(rows)/features)
		copy(tensor.AsBytes(out), r.Outputs[0].Bytes())
		return out
	}
}

// serve serves e at path until the function is called.
func serve(t testing.TB, e *engine.Engine, network, path string) (stop func()) {
	t.Helper()
	s, err := server.New(server.Options{Engine: e, MaxRings: 8})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, local.Access{}) }()
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-served); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func same(t testing.TB, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d scores, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("the score of row %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// ways are the networks and options of clients.
var ways = []struct {
	network string
	options lane.Options
}{{"unixpacket", lane.Options{}}, {"unix", lane.Options{}}, {"unixpacket", lane.Options{Ring: true}}, {"unix", lane.Options{Ring: true}}}

// A real model over both types of sockets, and over rings, gives the bytes of the
// backend.
func TestServesARealModel(t *testing.T) {
	e, truth := newEngine(t)
	rows := testkit.Rows(2000, features)
	want := truth(rows)
	for _, way := range ways {
		path := filepath.Join(t.TempDir(), "lane.sock")
		serve(t, e, way.network, path)
		c, err := lane.Dial(t.Context(), path, way.options)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.HasRing() != way.options.Ring {
			t.Errorf("asked for a ring: %v, it has one: %v", way.options.Ring, c.HasRing())
		}
		m, err := c.Model(t.Context(), "fraud")
		if err != nil {
			t.Fatal(err)
		}
		if in := m.Signature().Inputs; len(in) != 1 || in[0].DType != tensor.FP32 || in[0].RowBytes != 4*features {
			t.Errorf("the inputs are %+v", in)
		}
		var callers sync.WaitGroup
		for k := range 8 {
			callers.Go(func() {
				for at := k; at+k < 2000; at += 8 + k {
					got, err := m.PredictFloat32(t.Context(), rows[at*features:(at+k+1)*features])
					if err != nil {
						t.Error(err)
						return
					}
					same(t, got, want[at:at+k+1])
				}
			})
		}
		callers.Wait()
		got, err := m.PredictFloat32(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
}

// A daemon that is started again is found again, and what was under way is asked
// once more.
func TestReconnects(t *testing.T) {
	for _, way := range ways {
		t.Run(fmt.Sprintf("%s, ring %v", way.network, way.options.Ring), func(t *testing.T) { testReconnects(t, way.network, way.options) })
	}
}

func testReconnects(t *testing.T, network string, o lane.Options) {
	e, truth := newEngine(t)
	path := filepath.Join(t.TempDir(), "lane.sock")
	stop := serve(t, e, network, path)
	c, err := lane.Dial(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := c.Model(t.Context(), "fraud")
	if err != nil {
		t.Fatal(err)
	}
	rows := testkit.Rows(1, features)
	want := truth(rows)
	for range 5 {
		got, err := m.PredictFloat32(t.Context(), rows)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
		stop()
		// Without a deadline nobody is waited for.
		if _, err := m.PredictFloat32(t.Context(), rows); !errors.Is(err, lane.ErrUnavailable) {
			t.Fatalf("nobody listens: %v", err)
		}
		started := make(chan func(), 1)
		time.AfterFunc(20*time.Millisecond, func() { started <- serve(t, e, network, path) })
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		got, err = m.PredictFloat32(ctx, rows)
		cancel()
		stop = <-started
		if err != nil {
			t.Fatalf("with a deadline, the daemon is waited for: %v", err)
		}
		same(t, got, want)
	}
}

func TestNobodyThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lane.sock")
	if _, err := lane.Dial(t.Context(), path, lane.Options{}); !errors.Is(err, lane.ErrUnavailable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is no socket: %v", err)
	}
	// A server that accepts and says nothing.
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := lane.Dial(t.Context(), path, lane.Options{Timeout: 20 * time.Millisecond}); !errors.Is(err, lane.ErrUnavailable) {
		t.Errorf("a server that says nothing: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lane.Dial(ctx, path, lane.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

func TestInputsThatDoNotFit(t *testing.T) {
	e, _ := newEngine(t)
	path := filepath.Join(t.TempDir(), "lane.sock")
	serve(t, e, "unixpacket", path)
	c, err := lane.Dial(t.Context(), path, lane.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Model(t.Context(), "fraud")
	if err != nil {
		t.Fatal(err)
	}
	row, score := make([]byte, 4*features), make([]byte, 4)
	for what, err := range map[string]error{
		"no rows":        m.PredictInto(t.Context(), 0, [][]byte{row}, [][]byte{score}),
		"negative rows":  m.PredictInto(t.Context(), -1, [][]byte{row}, [][]byte{score}),
		"other rows":     m.PredictInto(t.Context(), 2, [][]byte{row}, [][]byte{score}),
		"a short row":    m.PredictInto(t.Context(), 1, [][]byte{row[1:]}, [][]byte{score}),
		"no inputs":      m.PredictInto(t.Context(), 1, nil, [][]byte{score}),
		"two outputs":    m.PredictInto(t.Context(), 1, [][]byte{row}, [][]byte{score, score}),
		"a short output": m.PredictInto(t.Context(), 1, [][]byte{row}, [][]byte{score[1:]}),
		"half a row": func() error {
			_, err := m.PredictFloat32(t.Context(), make([]float32, features/2))
			return err
		}(),
	} {
		var said *lane.Error
		if !errors.As(err, &said) || said.Code != lane.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
	var said *lane.Error
	if _, err := c.Model(t.Context(), "none"); !errors.As(err, &said) || said.Code != lane.NotFound {
		t.Errorf("no such model: %v", err)
	}
	if err := m.PredictInto(t.Context(), 1, [][]byte{row}, [][]byte{score}); err != nil {
		t.Error(err)
	}
	c.Close()
	if err := m.PredictInto(t.Context(), 1, [][]byte{row}, [][]byte{score}); !errors.Is(err, lane.ErrUnavailable) {
		t.Errorf("after closing: %v", err)
	}
}

// modelFolder has a model that XGBoost trained, of 30 features.
func modelFolder(t testing.TB) string {
	t.Helper()
	model, err := os.ReadFile(testkit.Path(t, "models/xgboost/fraud-1.7.6.ubj"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fraud.ubj"), model, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
