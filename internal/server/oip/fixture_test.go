package oip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// copyModel answers with its inputs: output i is input i, of whatever type, so
// that a byte in the wrong place is noticed.
type copyModel struct {
	signature engine.Signature
	onRun     func() error // but at warm-up; may block
	warm      bool
	gpus      []string
}

func (m *copyModel) Signature() engine.Signature { return m.signature }
func (m *copyModel) Properties() engine.Properties {
	return engine.Properties{Inline: m.onRun == nil, Version: "7", Devices: m.gpus}
}
func (m *copyModel) NewInstance() (engine.Instance, error) { return copyInstance{m}, nil }
func (m *copyModel) Close() error                          { return nil }

type copyInstance struct{ model *copyModel }

func (i copyInstance) Run(in, out []tensor.Tensor, _ int) error {
	if i.model.onRun != nil && i.model.warm {
		if err := i.model.onRun(); err != nil {
			return err
		}
	}
	for n := range out {
		copy(out[n].Bytes(), in[n].Bytes())
	}
	return nil
}

func (copyInstance) Close() error { return nil }

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

// types are all element types that a model can have.
var types = []tensor.DType{
	tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64,
	tensor.FP16, tensor.BF16, tensor.FP32, tensor.FP64,
}

// copies is a backend and a source: the url is the name of the model.
type copies struct {
	dir    string
	models map[string]*copyModel
}

func (c *copies) Name() string               { return "copy" }
func (c *copies) Probe(*hw.Host) error       { return nil }
func (c *copies) Match(*engine.Artifact) int { return 1 }
func (c *copies) Open(_ context.Context, a *engine.Artifact, _ engine.OpenOptions) (engine.Model, error) {
	return c.models[a.URL], nil
}

// copiesSource keeps the method Open of the two interfaces apart.
type copiesSource struct{ *copies }

func (c copiesSource) Open(_ context.Context, url string) (*engine.Artifact, error) {
	if c.models[url] == nil {
		return nil, fmt.Errorf("opening the package at %q: %w: nothing is there", url, engine.ErrNotFound)
	}
	root, err := os.OpenRoot(c.dir)
	if err != nil {
		return nil, err
	}
	return engine.NewArtifact(url, root)
}

// fixture is a server on a socket of its own, and clients.
type fixture struct {
	oipapi.GRPCInferenceServiceClient
	conn   *grpc.ClientConn
	http   *http.Client
	server *Server
	engine *engine.Engine
	path   string
	log    *testkit.Output
}

// standard are the models of most tests: rows of three, a pair of inputs, a shape
// without rows, and one of each type.
func standard() map[string]*copyModel {
	models := map[string]*copyModel{
		"rows":  {signature: sameInOut(spec("data", tensor.FP32, -1, 3))},
		"pair":  {signature: sameInOut(spec("a", tensor.FP32, -1, 3), spec("b", tensor.Int64, -1, 2))},
		"fixed": {signature: sameInOut(spec("image", tensor.Uint8, 2, 2))},
	}
	for _, d := range types {
		models["all-"+d.String()] = &copyModel{signature: sameInOut(spec("x", d, -1, 2))}
	}
	return models
}

// newEngine is an engine with the models loaded.
func newEngine(t testing.TB, models map[string]*copyModel, log *slog.Logger, o engine.ModelOptions) *engine.Engine {
	t.Helper()
	source := &copies{dir: t.TempDir(), models: models}
	e, err := engine.New(engine.Options{
		Host: &hw.Host{CPU: hw.CPU{CoresAllowed: 2}}, Backends: []engine.Backend{source}, Source: copiesSource{source}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	for name, m := range models {
		if _, err := e.Load(t.Context(), name, name, o); err != nil {
			t.Fatal(err)
		}
		m.warm = true
	}
	return e
}

// start serves the models on a Unix socket.
func start(t testing.TB, o Options, models map[string]*copyModel, run engine.ModelOptions) *fixture {
	t.Helper()
	f := &fixture{log: &testkit.Output{}, path: filepath.Join(t.TempDir(), "oip.sock")}
	log := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	f.engine = newEngine(t, models, log, run)
	o.Engine, o.Log, o.Version, o.Gates = f.engine, log, "test", &local.Gates{}
	var err error
	if f.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l, Access{Access: local.Access{Control: true, Gates: o.Gates}})
	f.conn, err = grpc.NewClient("unix://"+f.path, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	f.GRPCInferenceServiceClient = oipapi.NewGRPCInferenceServiceClient(f.conn)
	f.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", f.path)
	}}}
	t.Cleanup(func() {
		f.conn.Close()
		f.http.CloseIdleConnections()
		f.server.Stop()
	})
	return f
}

// checkNothingInFlight waits until all that requests took is given back, which is after their answers.
func (f *fixture) checkNothingInFlight(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); f.server.budget.Used() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are counted as in flight", f.server.budget.Used())
		}
	}
}

// serve has the server answer on l until the end of the test.
func (f *fixture) serve(t testing.TB, l net.Listener, a Access) {
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l, a) }()
	t.Cleanup(func() {
		f.server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
}

// answerOf is what the server answered.
type answerOf struct {
	status int
	header http.Header
	body   string
}

// do sends a request over HTTP.
func (f *fixture) do(t testing.TB, method, path, body string, header ...string) answerOf {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://picket"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := f.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answerOf{answer.StatusCode, answer.Header, string(got)}
}

// request is one input as a message.
func request(model, name, datatype string, shape []int64, data []byte) *oipapi.ModelInferRequest {
	return &oipapi.ModelInferRequest{
		ModelName:        model,
		Inputs:           []*oipapi.ModelInferRequest_InferInputTensor{{Name: name, Datatype: datatype, Shape: shape}},
		RawInputContents: [][]byte{data},
	}
}

// pattern is n bytes that tell where they belong and are 0 or 1, so that they are
// elements of any type.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 3 % 2)
	}
	return b
}

// checkServing fails the test unless good requests are answered.
func (f *fixture) checkServing(t testing.TB) {
	t.Helper()
	data := pattern(24)
	out, err := f.ModelInfer(context.Background(), request("rows", "data", "FP32", []int64{2, 3}, data))
	if err != nil {
		t.Fatalf("the server does not answer a good request any more: %v", err)
	}
	if got := out.GetRawOutputContents(); len(got) != 1 || !bytes.Equal(got[0], data) {
		t.Fatalf("a good request was answered with %v, want %v", got, data)
	}
	a := f.do(t, "POST", "/v2/models/rows/infer", `{"inputs":[{"name":"data","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}`)
	if a.status != 200 || !strings.Contains(a.body, `"data":[1,2,3]`) {
		t.Fatalf("a good request over HTTP was answered with %d %s", a.status, a.body)
	}
}
