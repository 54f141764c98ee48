package oip

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestPathsAndMethods(t *testing.T) {
	f := start(t, Options{MaxMessage: 64 << 10}, standard(), engine.ModelOptions{})
	zeros := &bytes.Buffer{}
	compress := gzip.NewWriter(zeros)
	if _, err := compress.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := compress.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		header             []string
		status             int
		says               string
	}{
		{"GET", "/livez", "", nil, 200, `"live":true`},
		{"GET", "/readyz", "", nil, 200, `"ready":true`},
		{"GET", "/ping", "", nil, 200, `"ready":true`},
		{"GET", "/v2/", "", nil, 200, `"name":"picket"`},
		{"GET", "/v2/models/rows/versions/7", "", nil, 200, `"versions":["7"]`},
		{"GET", "/v2/models/rows/versions/8", "", nil, 404, "no version"},
		{"GET", "/v2/models/rows/config", "", nil, 200, `"dims":[3]`},
		{"GET", "/v2/models/fixed/config", "", nil, 200, `"max_batch_size":0,"input":[{"name":"image","data_type":"TYPE_UINT8","dims":[2,2]}]`},
		{"GET", "/v2/models/rows/stats", "", nil, 200, `"inference_count":0`},
		{"GET", "/v2/models/rows/ready", "", nil, 200, `"ready":true`},
		{"GET", "/v2/models/nobody/ready", "", nil, 404, "nobody"},
		{"GET", "/v2/models/rows/infer", "", nil, 405, "it takes POST"},
		{"GET", "/nowhere", "", nil, 404, "openapi.yaml"},
		{"GET", "/openapi.yaml", "", nil, 200, "openapi: 3.1.0"},
		{"GET", "/metrics", "", nil, 200, `picket_model_requests_total{model="rows",outcome="ok"}`},
		{"POST", "/v2/repository/index", "", nil, 200, `"state":"READY"`},
		{"POST", "/v2/repository/index", "[]", nil, 400, "not a JSON object"},
		{"POST", "/v2/cudasharedmemory/unregister", "", nil, 501, "GPU"},
		{"GET", "/v2/trace/setting", "", nil, 501, "trace"},
		{"GET", "/v2/logging", "", nil, 501, "log.level"},
		{"POST", "/v2/models/rows/infer", strings.Repeat(" ", 64<<10+1), nil, 413, "the limit"},
		{"POST", "/v2/models/rows/infer", zeros.String(), []string{"Content-Encoding", "gzip"}, 413, "the limit"},
		{"POST", "/v2/models/rows/infer", "no gzip", []string{"Content-Encoding", "gzip"}, 400, "could not be read"},
		{"POST", "/v2/models/rows/infer", "x", []string{"Content-Encoding", "br"}, 415, "gzip, deflate or none"},
		{"POST", "/invocations", "1,2,3\n,nan,-4\n", []string{"Content-Type", "text/csv", targetModel, "rows"}, 200, "1,2,3\nnan,nan,-4\n"},
		{"POST", "/invocations", `{"instances":[[1,2,3],[null,5,6]]}`, []string{"Content-Type", "application/json", targetModel, "rows"}, 200, `{"predictions":[[1,2,3],[null,5,6]]}`},
		{"POST", "/invocations", `[[1,2,3]]`, []string{"Content-Type", "application/json", "Accept", "text/csv", targetModel, "rows"}, 200, "1,2,3\n"},
		{"POST", "/invocations", `{"a":[1,2,3],"b":[4,5]}`, []string{targetModel, "pair"}, 200, `{"predictions":[{"a-out":[1,2,3],"b-out":[4,5]}]}`},
		{"POST", "/invocations", "1,2\n", []string{"Content-Type", "text/csv", targetModel, "rows"}, 400, "takes 3 numbers a row"},
		{"POST", "/invocations", "", []string{"Content-Type", "text/csv", targetModel, "rows"}, 400, "has no rows"},
		{"POST", "/invocations", "1,2,3", []string{"Content-Type", "text/csv"}, 400, targetModel},
		{"POST", "/invocations", "x", []string{"Content-Type", "application/x-recordio-protobuf", targetModel, "rows"}, 415, "recordio-protobuf is not supported"},
		{"POST", "/invocations", "1,2,3", []string{"Content-Type", "text/csv", "Accept", "image/png", targetModel, "rows"}, 406, "Accept"},
	} {
		a := f.do(t, c.method, c.path, c.body, c.header...)
		if a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s %s: %d %.300s; want %d with %s", c.method, c.path, a.status, a.body, c.status, c.says)
		}
	}
	f.checkServing(t)
}

func TestMetadataOverGRPC(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	ctx := t.Context()
	server, err := f.ServerMetadata(ctx, &oipapi.ServerMetadataRequest{})
	if err != nil || server.GetName() != "picket" || server.GetVersion() != "test" {
		t.Errorf("%v, %v", server, err)
	}
	for name, want := range map[string]bool{"rows": true, "nobody": false} {
		if ready, err := f.ModelReady(ctx, &oipapi.ModelReadyRequest{Name: name}); err != nil || ready.GetReady() != want {
			t.Errorf("%s: %v, %v", name, ready, err)
		}
	}
	f.checkServing(t)
	stats, err := f.ModelStatistics(ctx, &oipapi.ModelStatisticsRequest{Name: "rows"})
	if err != nil || stats.GetModelStats()[0].GetInferenceCount() != 3 || stats.GetModelStats()[0].GetInferenceStats().GetSuccess().GetCount() != 2 {
		t.Errorf("after 3 rows in 2 requests: %v, %v", stats, err)
	}
	if all, err := f.ModelStatistics(ctx, &oipapi.ModelStatisticsRequest{}); err != nil || len(all.GetModelStats()) != len(standard()) {
		t.Errorf("%v, %v", all, err)
	}
	health := healthapi.NewHealthClient(f.conn)
	for _, service := range []string{"", serviceName} {
		if h, err := health.Check(ctx, &healthapi.HealthCheckRequest{Service: service}); err != nil || h.GetStatus() != healthapi.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, h, err)
		}
	}
	if _, err := f.CudaSharedMemoryRegister(ctx, &oipapi.CudaSharedMemoryRegisterRequest{}); status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
}

func TestLoadAndUnload(t *testing.T) {
	models := standard()
	f := start(t, Options{Models: func() []Declared {
		return []Declared{{Name: "rows", Path: "rows"}, {Name: "gone", Path: "nowhere", Reason: "nothing is there"}}
	}}, models, engine.ModelOptions{})
	ctx := t.Context()
	text := func(s string) map[string]*oipapi.ModelRepositoryParameter {
		return map[string]*oipapi.ModelRepositoryParameter{"url": {ParameterChoice: &oipapi.ModelRepositoryParameter_StringParam{StringParam: s}}}
	}
	for _, c := range []struct {
		in   *oipapi.RepositoryModelLoadRequest
		code codes.Code
	}{
		{&oipapi.RepositoryModelLoadRequest{ModelName: "rows"}, codes.OK}, // again
		{&oipapi.RepositoryModelLoadRequest{ModelName: "second", Parameters: text("rows")}, codes.OK},
		{&oipapi.RepositoryModelLoadRequest{ModelName: "third", Parameters: text("nowhere")}, codes.NotFound},
		{&oipapi.RepositoryModelLoadRequest{ModelName: "third"}, codes.NotFound},
		{&oipapi.RepositoryModelLoadRequest{ModelName: "a_b"}, codes.InvalidArgument},
		{&oipapi.RepositoryModelLoadRequest{ModelName: "rows", RepositoryName: "x"}, codes.InvalidArgument},
		{&oipapi.RepositoryModelLoadRequest{ModelName: "rows", Parameters: text("pair")}, codes.FailedPrecondition}, // other tensors
	} {
		if _, err := f.RepositoryModelLoad(ctx, c.in); status.Code(err) != c.code {
			t.Errorf("%v: %v, want %v", c.in, err, c.code)
		}
	}
	if _, err := f.RepositoryModelUnload(ctx, &oipapi.RepositoryModelUnloadRequest{ModelName: "second"}); err != nil {
		t.Error(err)
	}
	if _, err := f.RepositoryModelUnload(ctx, &oipapi.RepositoryModelUnloadRequest{ModelName: "second"}); status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	index, err := f.RepositoryIndex(ctx, &oipapi.RepositoryIndexRequest{})
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{}
	for _, m := range index.GetModels() {
		states[m.GetName()] = m.GetState()
	}
	if states["rows"] != "READY" || states["gone"] != "UNAVAILABLE" || states["second"] != "" {
		t.Errorf("the index is %v", states)
	}
	f.checkServing(t)
}

// A model that is busy refuses on both protocols, and says when to try again.
func TestOverload(t *testing.T) {
	models := map[string]*copyModel{"rows": {signature: standard()["rows"].signature}}
	release, running := make(chan struct{}), make(chan struct{}, 1)
	models["rows"].onRun = func() error {
		select {
		case running <- struct{}{}:
		default:
		}
		<-release
		return nil
	}
	f := start(t, Options{}, models, engine.ModelOptions{Instances: 1, MaxQueue: 1, MaxBatchRows: 1})
	var wg sync.WaitGroup
	for i := range 2 { // one runs, one waits
		wg.Go(func() {
			if _, err := f.ModelInfer(context.Background(), request("rows", "data", "FP32", []int64{1, 3}, pattern(12))); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			<-running
		}
	}
	for f.waiting(t) == 0 {
		time.Sleep(time.Millisecond)
	}
	_, err := f.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{1, 3}, pattern(12)))
	if status.Code(err) != codes.ResourceExhausted || retryOf(err) == 0 {
		t.Errorf("gRPC: %v, to be tried again after %v", err, retryOf(err))
	}
	a := f.do(t, "POST", "/v2/models/rows/infer", string(pattern(12)), headerLength, "0")
	if a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("HTTP: %d %v %s", a.status, a.header, a.body)
	}
	close(release)
	wg.Wait()
}

// waiting is how many requests wait for the model.
func (f *fixture) waiting(t *testing.T) int {
	t.Helper()
	m, err := f.engine.Acquire("rows")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	return m.Stats().WaitingRequests
}

// A client that leaves takes its waiting request along.
func TestDisconnectCancels(t *testing.T) {
	models := map[string]*copyModel{"rows": {signature: standard()["rows"].signature}}
	release, running := make(chan struct{}), make(chan struct{}, 1)
	models["rows"].onRun = func() error {
		select {
		case running <- struct{}{}:
		default:
		}
		<-release
		return nil
	}
	f := start(t, Options{}, models, engine.ModelOptions{Instances: 1, MaxBatchRows: 1})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := f.ModelInfer(context.Background(), request("rows", "data", "FP32", []int64{1, 3}, pattern(12))); err != nil {
			t.Error(err)
		}
	})
	<-running
	ctx, leave := context.WithCancel(t.Context())
	wg.Go(func() {
		r, err := http.NewRequestWithContext(ctx, "POST", "http://picket/v2/models/rows/infer", bytes.NewReader(pattern(12)))
		if err != nil {
			t.Error(err)
			return
		}
		r.Header.Set(headerLength, "0")
		if a, err := f.http.Do(r); err == nil {
			a.Body.Close()
			t.Error("an answer came although the client left")
		}
	})
	for f.waiting(t) == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	for end := time.Now().Add(10 * time.Second); f.waiting(t) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the request of a client that left still waits")
		}
	}
	close(release)
	wg.Wait()
}

func TestBytesInFlight(t *testing.T) {
	f := start(t, Options{MaxMessage: 64 << 10, Budget: local.NewBudget(64 << 10)}, standard(), engine.ModelOptions{})
	if err := f.server.budget.Take(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{1, 3}, pattern(12))); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("gRPC: %v", err)
	}
	if a := f.do(t, "POST", "/v2/models/rows/infer", string(pattern(12)), headerLength, "0"); a.status != 429 {
		t.Errorf("HTTP: %d %s", a.status, a.body)
	}
	f.server.budget.Give(64 << 10)
	f.checkServing(t)
	f.checkNothingInFlight(t)
}

// Clients that say nothing, or not enough, keep nobody from shutting down.
func TestShutdownWithSilentClients(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	for _, said := range []string{"", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"} {
		c, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
	}
	f.checkServing(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := f.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if f.server.Ready() {
		t.Error("ready after shutting down")
	}
}

// Clients that send slowly, not at all, or do not read are disconnected, and keep
// nobody else from being served meanwhile.
func TestSlowClients(t *testing.T) {
	f := start(t, Options{patience: patience{greeting: 300 * time.Millisecond, Patience: local.Patience{Transfer: 300 * time.Millisecond, Rate: 64 << 20}}}, standard(), engine.ModelOptions{})
	f.checkServing(t)
	const each = 10
	const head = "POST /v2/models/rows/infer HTTP/1.1\r\nHost: picket\r\nInference-Header-Content-Length: 0\r\n"
	large := strings.Repeat("x", 12*1_000_000)
	var slow []net.Conn
	for range each {
		for _, said := range []string{
			"", "P", "PRI * HTTP/2.0\r\n", "GET / HT", head, head + "Content-Length: 12\r\n\r\nabc", head + "Content-Length: 12000000\r\n\r\n" + large,
			// Bodies that no handler reads, and answers that nobody does.
			"GET /livez HTTP/1.1\r\nHost: picket\r\nContent-Length: 12\r\n\r\nabc",
			"POST /nowhere HTTP/1.1\r\nHost: picket\r\nTransfer-Encoding: chunked\r\n\r\nc\r\nabc",
			"POST /invocations HTTP/1.1\r\nHost: picket\r\nContent-Type: a/b\r\nContent-Length: 12\r\n\r\nabc",
			strings.Repeat("GET /openapi.yaml HTTP/1.1\r\nHost: picket\r\n\r\n", 1000),
		} {
			c, err := net.Dial("unix", f.path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			slow = append(slow, c)
			go func() { _, _ = io.WriteString(c, said) }() // cut off where the server does not want the rest
		}
	}
	f.checkServing(t)
	open := func() int {
		f.server.mu.Lock()
		defer f.server.mu.Unlock()
		n := 0
		for _, front := range f.server.fronts {
			front.mu.Lock()
			n += len(front.open)
			front.mu.Unlock()
		}
		return n
	}
	inFlight := f.server.budget.Used
	for end := time.Now().Add(time.Minute); open() > 2 || inFlight() != 0; time.Sleep(10 * time.Millisecond) { // those of gRPC and HTTP
		if time.Now().After(end) {
			t.Fatalf("%d connections are left of %d slow ones, and %d bytes are counted as in flight", open(), len(slow), inFlight())
		}
	}
	f.checkServing(t)
}

// noted keeps the deadline that was set last.
type noted struct {
	net.Conn
	deadline time.Time
}

func (n *noted) SetDeadline(t time.Time) error {
	n.deadline = t
	return nil
}

// What gRPC waits for a greeting is no time on top of what was waited for its first bytes.
func TestGreetingHasOneDeadline(t *testing.T) {
	below := &noted{}
	c := &conn{Conn: below, front: &front{}, due: time.Now().Add(time.Minute)}
	for _, test := range []struct{ set, want time.Time }{
		{c.due.Add(time.Second), c.due}, {c.due.Add(-time.Second), c.due.Add(-time.Second)}, {time.Time{}, time.Time{}},
	} {
		if err := c.SetDeadline(test.set); err != nil || !below.deadline.Equal(test.want) {
			t.Errorf("the deadline %v became %v, %v; want %v", test.set, below.deadline, err, test.want)
		}
	}
}

// A client that announces a large body and sends nothing is not given the time for
// all of it, and takes no room from others.
func TestBodiesThatDoNotCome(t *testing.T) {
	o := Options{MaxMessage: 64 << 20, Budget: local.NewBudget(64 << 20)}
	o.patience = patience{greeting: time.Hour, Patience: local.Patience{Transfer: time.Second, Rate: 1 << 10}} // 18 hours for the body
	f := start(t, o, standard(), engine.ModelOptions{})
	var announced []net.Conn
	for range 8 {
		c, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		announced = append(announced, c)
		if _, err := io.WriteString(c, "POST /v2/models/rows/infer HTTP/1.1\r\nHost: picket\r\nContent-Length: 67108864\r\n\r\nabc"); err != nil {
			t.Fatal(err)
		}
	}
	f.checkServing(t)
	for _, c := range announced {
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 408 ")) || bytes.Contains(answer, []byte(f.path)) {
			t.Errorf("a body that did not come was answered with %q, %v", answer, err)
		}
	}
	f.checkNothingInFlight(t)
}

// Bodies of all sizes around those at which the buffer grows come whole, whether
// their length is announced or not.
func TestBodiesOfManySizes(t *testing.T) {
	const most = 5 * firstRoom
	f := start(t, Options{MaxMessage: most}, map[string]*copyModel{"bytes": {signature: sameInOut(spec("data", tensor.Uint8, -1))}}, engine.ModelOptions{})
	for _, n := range []int{1, firstRoom - 1, firstRoom, firstRoom + 1, growth*firstRoom - 1, growth * firstRoom, growth*firstRoom + 1, most - 1, most} {
		data := make([]byte, n)
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		for _, body := range []io.Reader{bytes.NewReader(data), io.MultiReader(bytes.NewReader(data))} { // of the second net/http does not know the length
			r, err := http.NewRequestWithContext(t.Context(), "POST", "http://picket/v2/models/bytes/infer", body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(headerLength, "0")
			answer, err := f.http.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err != nil || answer.StatusCode != 200 || !bytes.HasSuffix(got, data) {
				t.Errorf("%d bytes were answered with %d and %d bytes, %v", n, answer.StatusCode, len(got), err)
			}
		}
	}
	f.checkNothingInFlight(t)
}

// A body takes no more memory than is counted as in flight for it, however much was announced.
func TestBodiesTakeWhatIsCounted(t *testing.T) {
	const announced, limit = 64 << 20, 80 << 20
	for _, came := range []int{1, firstRoom, firstRoom + 1, growth * firstRoom, growth*growth*firstRoom + 1} {
		b := body{budget: local.NewBudget(limit)}
		// One that stays away after that.
		err := b.read(io.MultiReader(bytes.NewReader(make([]byte, came)), iotest.ErrReader(os.ErrDeadlineExceeded)), announced, limit)
		if err == nil || len(b.data) != came {
			t.Errorf("%d bytes of a body that ends early: %d were read, %v", came, len(b.data), err)
		}
		if counted := b.budget.Used(); int64(cap(b.room)) > max(counted, firstRoom) || counted > max(growth*int64(came), firstRoom) {
			t.Errorf("%d bytes of a body take %d and are counted as %d", came, cap(b.room), counted)
		}
		b.release()
		if left := b.budget.Used(); left != 0 {
			t.Errorf("%d bytes of a body: %d are counted after it", came, left)
		}
	}
}

// Clients that ask for the metrics and do not read them keep nobody else from them.
func TestMetricsBesideClientsThatDoNotRead(t *testing.T) {
	f := start(t, Options{patience: patience{greeting: time.Hour, Patience: local.Patience{Transfer: time.Hour, Rate: 1 << 10}}}, standard(), engine.ModelOptions{})
	for range 8 {
		c, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for err == nil { // until the server waits for this client and reads no more
			_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
			_, err = io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: picket\r\n\r\n")
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if a := f.do(t, "GET", "/metrics", ""); a.status != 200 {
		t.Errorf("the metrics were answered with %d %s", a.status, a.body)
	}
}

func TestMoreConnectionsThanAllowed(t *testing.T) {
	f := start(t, Options{MaxConnections: 3}, standard(), engine.ModelOptions{})
	f.checkServing(t) // over one of gRPC and one of HTTP
	first, err := net.Dial("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if _, err := io.WriteString(first, "GET "); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		more, err := net.Dial("unix", f.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := more.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err = more.Read(make([]byte, 1))
		more.Close()
		if errors.Is(err, io.EOF) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a fourth connection is kept: %v", err)
		}
	}
	f.checkServing(t)
}

// Over TLS both protocols are served on one port, to clients with a certificate;
// a certificate that is replaced is used without a restart; what only the Unix
// socket's clients may do is refused.
func TestTLS(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	ca := testkit.NewCertificate(t, "authority", nil)
	dir := t.TempDir()
	files := TLSFiles{Certificate: filepath.Join(dir, "c.pem"), Key: filepath.Join(dir, "k.pem"), ClientCA: ca.File}
	testkit.NewCertificate(t, "first", ca).Write(t, files.Certificate, files.Key)
	config, err := NewTLS(files, f.server.log)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l, Access{TLS: config})

	trusted := x509.NewCertPool()
	trusted.AddCert(ca.Pair.Leaf)
	client := &tls.Config{RootCAs: trusted, ServerName: "localhost", Certificates: []tls.Certificate{testkit.NewCertificate(t, "client", ca).Pair}}
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(client.Clone())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	over := oipapi.NewGRPCInferenceServiceClient(conn)
	if out, err := over.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{2, 3}, pattern(24))); err != nil || !bytes.Equal(out.GetRawOutputContents()[0], pattern(24)) {
		t.Errorf("gRPC over TLS: %v, %v", out, err)
	}
	if _, err := over.RepositoryModelUnload(t.Context(), &oipapi.RepositoryModelUnloadRequest{ModelName: "rows"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("unloading over TCP: %v", err)
	}
	if _, err := over.SystemSharedMemoryRegister(t.Context(), &oipapi.SystemSharedMemoryRegisterRequest{Name: "a", Key: "/a", ByteSize: 1}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("shared memory over TCP: %v", err)
	}
	get := func(c *tls.Config) (string, error) {
		transport := &http.Transport{TLSClientConfig: c.Clone(), ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		a, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String() + "/livez")
		if err != nil {
			return "", err
		}
		defer a.Body.Close()
		if a.StatusCode != 200 || a.ProtoMajor != 1 {
			t.Errorf("answered %v", a)
		}
		return a.TLS.PeerCertificates[0].Subject.CommonName, nil
	}
	if name, err := get(client); err != nil || name != "first" {
		t.Errorf("HTTP over TLS: %q, %v", name, err)
	}
	if name, err := get(&tls.Config{RootCAs: trusted, ServerName: "localhost"}); err == nil {
		t.Errorf("a client without a certificate was let in by %s", name)
	}

	// A key that does not fit the certificate leaves the old pair in use.
	second := testkit.NewCertificate(t, "second", ca)
	second.Write(t, files.Certificate, "")
	for !strings.Contains(f.log.String(), "the old ones stay in use") {
		if name, err := get(client); err != nil || name != "first" {
			t.Fatalf("with half of a new pair: %q, %v", name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	second.Write(t, files.Certificate, files.Key)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		name, err := get(client)
		if err == nil && name == "second" {
			break
		}
		if err != nil || time.Now().After(end) {
			t.Fatalf("after the pair was replaced: %q, %v", name, err)
		}
	}
	if _, err := NewTLS(TLSFiles{Certificate: filepath.Join(dir, "none"), Key: files.Key}, f.server.log); err == nil {
		t.Error("a certificate that is not there was read")
	}
}
