package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(taskEnv); task != "" {
		runTask(task)
		return
	}
	testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// copyModel answers with its inputs: output i is input i, of whatever type, so
// that a byte in the wrong place is noticed.
type copyModel struct {
	signature  engine.Signature
	properties engine.Properties
	openErr    error
	onRun      func() error // after warm-up; may block
}

func (m *copyModel) Signature() engine.Signature           { return m.signature }
func (m *copyModel) Properties() engine.Properties         { return m.properties }
func (m *copyModel) NewInstance() (engine.Instance, error) { return copyInstance{m}, nil }
func (m *copyModel) Close() error                          { return nil }
func (copyInstance) Close() error                          { return nil }

type copyInstance struct{ model *copyModel }

func (i copyInstance) Run(in, out []tensor.Tensor, _ int) error {
	if i.model.onRun != nil && !bytes.Equal(in[0].Bytes(), make([]byte, in[0].Size())) && !isWarmUp(in[0]) {
		if err := i.model.onRun(); err != nil {
			return err
		}
	}
	for n := range out {
		copy(out[n].Bytes(), in[n].Bytes())
	}
	return nil
}

func isWarmUp(t tensor.Tensor) bool {
	values, err := tensor.View[float32](t)
	return err == nil && values[0] == 0.5
}

// sameInOut is a signature whose outputs are its inputs.
func sameInOut(specs ...engine.TensorSpec) engine.Signature {
	s := engine.Signature{Inputs: specs}
	for _, spec := range specs {
		spec.Name += "-out"
		s.Outputs = append(s.Outputs, spec)
	}
	return s
}

func spec(name string, d tensor.DType, dims ...int64) engine.TensorSpec {
	return engine.TensorSpec{Name: name, DType: d, Dims: dims}
}

// rowsOf3 is the signature of most tests: rows of three float32, 12 bytes each.
var rowsOf3 = sameInOut(spec("data", tensor.FP32, -1, 3))

// copies is a backend and a source: a url is a key of the map.
type copies struct {
	dir    string
	mu     sync.Mutex
	models map[string]*copyModel
	errs   map[string]error // what the source answers for a url
}

func (c *copies) Name() string                { return "copy" }
func (c *copies) Probe(*hw.Host) error        { return nil }
func (c *copies) Match(*engine.Artifact) int  { return 1 }
func (c *copies) model(url string) *copyModel { c.mu.Lock(); defer c.mu.Unlock(); return c.models[url] }
func (c *copies) Open(_ context.Context, a *engine.Artifact, _ engine.OpenOptions) (engine.Model, error) {
	m := c.model(a.URL)
	if m.openErr != nil {
		return nil, m.openErr
	}
	return m, nil
}

// copiesSource keeps the method Open of the two interfaces apart.
type copiesSource struct{ *copies }

func (c copiesSource) Open(_ context.Context, url string) (*engine.Artifact, error) {
	if err := c.errs[url]; err != nil {
		return nil, fmt.Errorf("opening the package at %q: %w", url, err)
	}
	if c.model(url) == nil {
		return nil, fmt.Errorf("opening the package at %q: %w: nothing is there", url, engine.ErrNotFound)
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, err
	}
	return engine.NewArtifact(url, root)
}

// fixture is a server on a socket of its own, and a client.
type fixture struct {
	agentapi.AgentClient
	control controlapi.ControlClient
	conn    *grpc.ClientConn
	server  *Server
	engine  *engine.Engine
	source  *copies
	path    string
	log     *testkit.Output
}

// start serves the models by their urls; one called "fraud" is loaded under
// that name as well.
func start(t testing.TB, o Options, models map[string]*copyModel) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{source: &copies{dir: dir, models: models, errs: map[string]error{}}, log: &testkit.Output{}, path: filepath.Join(dir, "agent.sock")}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	setup := engine.Options{
		Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}, Backends: []engine.Backend{f.source}, Source: copiesSource{f.source}, Log: log,
	}
	if o.Tracer != nil {
		setup.Observer = o.Tracer
	}
	var err error
	f.engine, err = engine.New(setup)
	if err != nil {
		t.Fatal(err)
	}
	o.Engine, o.Log = f.engine, log
	if f.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l, local.Access{Control: true}) }()
	f.conn = dial(t, f.path)
	f.AgentClient, f.control = agentapi.NewAgentClient(f.conn), controlapi.NewControlClient(f.conn)
	t.Cleanup(func() {
		f.conn.Close()
		f.server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := f.engine.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if models["fraud"] != nil {
		if _, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "fraud", Url: "fraud"}); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func startRowsOf3(t testing.TB, o Options) *fixture {
	t.Helper()
	return start(t, o, map[string]*copyModel{"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true}}})
}

func dial(t testing.TB, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// tensorOf is a tensor of a request; without name, type and shape it has no
// metadata.
func tensorOf(name string, d agentapi.DataType, shape []int32, data []byte) *agentapi.Tensor {
	t := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: data}}
	if name != "" || d != 0 || shape != nil {
		t.TensorMetadata = &agentapi.TensorMetadata{Name: []byte(name), DataType: d, Shape: shape}
	}
	return t
}

// pattern is n bytes that tell where they belong.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 1)
	}
	return b
}

// checkServing fails the test unless a good request is answered.
func (f *fixture) checkServing(t testing.TB) {
	t.Helper()
	data := pattern(24)
	out, err := f.Predict(context.Background(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, data)}})
	if err != nil {
		t.Fatalf("the server does not answer a good request any more: %v", err)
	}
	if got := out.GetTensors()[0].GetByteData(); !bytes.Equal(got, data) {
		t.Fatalf("a good request was answered with %v, want %v", got, data)
	}
}

var errTest = errors.New("the disk /dev/sda1 is on fire")
