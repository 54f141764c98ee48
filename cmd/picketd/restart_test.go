//go:build cgo && linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// envRestarts is how many times TestRestartUnderLoad restarts the daemon; a few by
// default.
const envRestarts = "PICKET_TEST_RESTARTS"

// envAdopts says that the tests were started as what orphans come to: scripts/arm64 does it, where they cannot ask for it themselves.
const envAdopts = "PICKET_TEST_ADOPTS_ORPHANS"

// reign is a daemon whose process changes. All processes write to p.stderr.
type reign struct {
	*process
	pid int // of the last process; 0 when it has ended and was waited for
}

// startReign follows a daemon through restarts. What it leaves behind becomes the
// test's own child, and ends with the test.
func startReign(t *testing.T, p *process) *reign {
	t.Helper()
	if os.Getenv(envAdopts) == "" {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	r := &reign{process: p, pid: p.cmd.Process.Pid}
	t.Cleanup(func() {
		if r.pid != 0 && r.pid != p.cmd.Process.Pid { // whose end is the process's own affair
			_ = syscall.Kill(r.pid, syscall.SIGKILL)
		}
	})
	return r
}

var startedPID = regexp.MustCompile(`msg="a new process was started" pid=(\d+)`)

// restart waits until another process is the daemon and the old one has ended.
func (r *reign) restart(t *testing.T) {
	t.Helper()
	before := r.stderr.String()
	seen, old := len(startedPID.FindAllString(before, -1)), r.pid
	more := func(now, text string) bool { return strings.Count(now, text) > strings.Count(before, text) }
	if err := syscall.Kill(old, restartSignal); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		log := r.stderr.String()
		if all := startedPID.FindAllStringSubmatch(log, -1); len(all) > seen {
			r.pid, _ = strconv.Atoi(all[seen][1])
		}
		if more(log, "msg=ready") && more(log, "msg=stopped") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the daemon has not restarted:\n%s", log)
		}
	}
	if old == r.cmd.Process.Pid {
		return // its end is waited for by the process itself
	}
	r.reap(t, old)
}

// reap wants a process that ends to end well.
func (r *reign) reap(t *testing.T, pid int) {
	t.Helper()
	var status unix.WaitStatus
	_, err := unix.Wait4(pid, &status, 0, nil)
	// It is the test's child when the process that has started it has ended.
	for end := time.Now().Add(time.Minute); errors.Is(err, unix.ECHILD) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		_, err = unix.Wait4(pid, &status, 0, nil)
	}
	if err != nil || status.ExitStatus() != exitDone {
		t.Errorf("process %d ended with %d, %v:\n%s", pid, status.ExitStatus(), err, &r.stderr)
	}
	if err == nil && pid == r.pid {
		r.pid = 0 // by now it may be another's
	}
}

// stop ends the last process, after which nothing is left.
func (r *reign) stop(t *testing.T) {
	t.Helper()
	if r.pid == r.cmd.Process.Pid {
		r.process.stop(t)
		return
	}
	if err := syscall.Kill(r.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.reap(t, r.pid)
	if code := r.wait(t); code != exitDone {
		t.Errorf("the first process ended with %d:\n%s", code, &r.stderr)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(r.path), "*.sock*")); err != nil || len(left) != 0 {
		t.Errorf("the last process left %v, %v", left, err)
	}
}

// Clients of every protocol, those that keep their connection and those that make one
// for each request, notice nothing of restarts.
func TestRestartUnderLoad(t *testing.T) {
	restarts := 5
	if text := os.Getenv(envRestarts); text != "" {
		var err error
		if restarts, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", envRestarts, err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf("sockets: {dir: %s}\ntcp: {listen: [\"127.0.0.1:0\"]}\nmodels: [{name: fraud, path: %s}]\nunsigned: true\n", dir, fraudModel(t))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	r := startReign(t, p)
	// A model that a client has loaded is served on.
	if _, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "second", Url: fraudModel(t)}); err != nil {
		t.Fatal(err)
	}
	_, ready, _ := strings.Cut(p.stderr.String(), "msg=ready")
	port := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(ready)

	load := newLoad(t, dir, port)
	for range restarts {
		before := load.counts()
		r.restart(t)
		load.waitForAll(t, before, 10)
	}
	load.stop()
	for _, err := range load.failures {
		t.Error(err)
	}
	var total int64
	for name, n := range load.counts() {
		total += n
		t.Logf("%-28s %d requests", name, n)
	}
	t.Logf("%d restarts, %d requests, %d failed", restarts, total, len(load.failures))
	r.stop(t)
}

// load is clients that ask until they are stopped.
type load struct {
	done     chan struct{}
	clients  sync.WaitGroup
	answered map[string]*atomic.Int64

	mu       sync.Mutex
	failures []error
}

// newLoad starts one client of each kind.
func newLoad(t *testing.T, dir, port string) *load {
	t.Helper()
	l := &load{done: make(chan struct{}), answered: map[string]*atomic.Int64{}}
	rows, want := testkit.Rows(10000, fraudFeatures)[:3*fraudFeatures], testkit.ReadF32(t, fraudPrediction)[:3]
	request := predictRows("fraud", rows)
	infer := &oipapi.ModelInferRequest{
		ModelName:        "second",
		Inputs:           []*oipapi.ModelInferRequest_InferInputTensor{{Name: "data", Datatype: "FP32", Shape: []int64{3, fraudFeatures}}},
		RawInputContents: [][]byte{tensor.AsBytes(rows)},
	}
	agentOf := func(path string) (*grpc.ClientConn, func(context.Context) error) {
		conn := dialGRPC(t, "unix://"+path)
		client := agentapi.NewAgentClient(conn)
		return conn, func(ctx context.Context) error {
			out, err := client.Predict(ctx, request)
			if err != nil {
				return err
			}
			return sameScores(out, want)
		}
	}
	inferOf := func(target string) (*grpc.ClientConn, func(context.Context) error) {
		conn := dialGRPC(t, target)
		client := oipapi.NewGRPCInferenceServiceClient(conn)
		return conn, func(ctx context.Context) error {
			out, err := client.ModelInfer(ctx, infer)
			if err != nil {
				return err
			}
			return sameBytes(out.GetRawOutputContents()[0], want)
		}
	}
	// once makes a connection for each request.
	once := func(of func(string) (*grpc.ClientConn, func(context.Context) error), target string) func(context.Context) error {
		return func(ctx context.Context) error {
			conn, ask := of(target)
			defer conn.Close()
			return ask(ctx)
		}
	}
	agentPath, oipPath := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "oip.sock")
	agentConn, agentAsk := agentOf(agentPath)
	oipConn, oipAsk := inferOf("unix://" + oipPath)
	tcpConn, tcpAsk := inferOf(port)
	t.Cleanup(func() { agentConn.Close(); oipConn.Close(); tcpConn.Close() })
	l.start("agent", agentAsk)
	l.start("agent, new connections", once(agentOf, agentPath))
	l.start("oip gRPC", oipAsk)
	l.start("oip gRPC, new connections", once(inferOf, "unix://"+oipPath))
	l.start("oip gRPC over TCP", tcpAsk)
	dialUnix := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", oipPath)
	}
	for name, client := range map[string]*http.Transport{
		"oip HTTP":                           {DialContext: dialUnix},
		"oip HTTP, new connections":          {DialContext: dialUnix, DisableKeepAlives: true},
		"oip HTTP over TCP":                  {},
		"oip HTTP over TCP, new connections": {DisableKeepAlives: true},
	} {
		t.Cleanup(client.CloseIdleConnections)
		l.start(name, func(ctx context.Context) error { return inferHTTP(ctx, client, port, rows, want) })
	}
	laneModel := func(name string, o lane.Options) *lane.Model {
		client, err := lane.Dial(t.Context(), filepath.Join(dir, name), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		model, err := client.Model(t.Context(), "fraud")
		if err != nil {
			t.Fatal(err)
		}
		return model
	}
	ring := laneModel("lane.sock", lane.Options{Ring: true})
	l.start("lane.sock, ring", func(ctx context.Context) error { return predictLane(ctx, ring, rows, want) })
	for _, name := range []string{"lane.sock", "lane-stream.sock"} {
		path, model := filepath.Join(dir, name), laneModel(name, lane.Options{})
		l.start(name, func(ctx context.Context) error { return predictLane(ctx, model, rows, want) })
		// Without a deadline it asks once more, and no longer.
		l.start(name+", no deadline", func(ctx context.Context) error {
			return predictLane(context.WithoutCancel(ctx), model, rows, want)
		})
		l.start(name+", new connections", func(ctx context.Context) error {
			client, err := lane.Dial(ctx, path, lane.Options{})
			if err != nil {
				return err
			}
			defer client.Close()
			model, err := client.Model(ctx, "second")
			if err != nil {
				return err
			}
			return predictLane(ctx, model, rows, want)
		})
	}
	return l
}

func dialGRPC(t *testing.T, target string) *grpc.ClientConn {
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Error(err) // not Fatal: clients call it, too
	}
	return conn
}

func predictLane(ctx context.Context, model *lane.Model, rows, want []float32) error {
	got, err := model.PredictFloat32(ctx, rows)
	if err != nil {
		return err
	}
	return sameBytes(tensor.AsBytes(got), want)
}

func inferHTTP(ctx context.Context, client *http.Transport, port string, rows, want []float32) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+port+"/v2/models/fraud/infer", bytes.NewReader(tensor.AsBytes(rows)))
	if err != nil {
		return err
	}
	r.Header.Set("Inference-Header-Content-Length", "0")
	answer, err := client.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || len(body) < 4*len(want) {
		return fmt.Errorf("status %d %q, %w", answer.StatusCode, body, err)
	}
	return sameBytes(body[len(body)-4*len(want):], want)
}

func sameBytes(data []byte, want []float32) error {
	return sameScores(&agentapi.PredictResponse{Tensors: []*agentapi.Tensor{{
		TensorMetadata: &agentapi.TensorMetadata{Shape: []int32{int32(len(want)), 1}},
		Data:           &agentapi.Tensor_ByteData{ByteData: data},
	}}}, want)
}

// start has a client ask again and again.
func (l *load) start(name string, ask func(context.Context) error) {
	n := new(atomic.Int64)
	l.answered[name] = n
	l.clients.Go(func() {
		for {
			select {
			case <-l.done:
				return
			case <-time.After(time.Millisecond): // all clients share few cores
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			if err := ask(ctx); err != nil {
				l.mu.Lock()
				l.failures = append(l.failures, fmt.Errorf("%s at %v: %w", name, time.Now().Format("15:04:05.000"), err))
				l.mu.Unlock()
			} else {
				n.Add(1)
			}
			cancel()
		}
	})
}

func (l *load) counts() map[string]int64 {
	all := map[string]int64{}
	for name, n := range l.answered {
		all[name] = n.Load()
	}
	return all
}

// waitForAll waits until every client was answered so many times since.
func (l *load) waitForAll(t *testing.T, since map[string]int64, times int64) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		behind := ""
		for name, n := range l.counts() {
			if n < since[name]+times {
				behind = name
			}
		}
		if behind == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the client %s is not answered", behind)
		}
	}
}

func (l *load) stop() {
	close(l.done)
	l.clients.Wait()
}

// A new process that cannot serve leaves everything as it was.
func TestRestartThatFails(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	good := fmt.Sprintf("sockets: {dir: %s}\nmodels: [{name: fraud, path: %s}]\nunsigned: true\nrestart: {timeout: 1m}\n", dir, fraudModel(t))
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	r := startReign(t, p)
	failures := 0
	fails := func(why string) {
		t.Helper()
		p.signal(t, restartSignal)
		failures++
		for end := time.Now().Add(time.Minute); strings.Count(p.stderr.String(), "this one serves on") < failures; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the failure is not logged:\n%s", &p.stderr)
			}
		}
		lines := strings.Split(p.stderr.String(), "this one serves on")
		if said, _, _ := strings.Cut(lines[len(lines)-1], "\n"); !strings.Contains(said, why) {
			t.Errorf("the log says %q, want %q", said, why)
		}
		p.checkScores(t, "fraud", 10)
		for _, name := range []string{"agent.sock", "oip.sock", "lane.sock", "lane-stream.sock"} {
			isSocket(t, filepath.Join(dir, name))
		}
	}

	write(good + "nonsense: true\n")
	fails("nonsense")
	write(strings.Replace(good, fraudModel(t), t.TempDir(), 1))
	fails("fraud")
	write(strings.Replace(good, "models:", fmt.Sprintf("tcp: {listen: [%q]}\nmodels:", occupied(t)), 1))
	fails("address already in use")
	// Another socket that it opens for itself, before it fails.
	write(strings.Replace(strings.Replace(good, fraudModel(t), t.TempDir(), 1), "sockets: {", "sockets: {oip: {paths: [other.sock]}, ", 1))
	fails("fraud")
	if _, err := os.Lstat(filepath.Join(dir, "other.sock")); err == nil {
		t.Error("a new process that failed has left its socket")
	}
	// A model that a client has loaded from a folder that is gone.
	gone := filepath.Join(t.TempDir(), "gone")
	if err := os.CopyFS(gone, os.DirFS(fraudModel(t))); err != nil {
		t.Fatal(err)
	}
	if _, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "client", Url: gone}); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}
	write(good)
	fails("unload it first")
	p.checkScores(t, "client", 10)
	if _, err := p.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: "client"}); err != nil {
		t.Fatal(err)
	}
	r.restart(t)
	r.checkScores(t, "fraud", 10)
	r.stop(t)
}

// occupied is an address that somebody listens at until the end of the test.
func occupied(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// A restart has the sockets that the configuration says now.
func TestRestartWithOtherSockets(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	write := func(sockets string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("sockets: {dir: "+dir+sockets+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "--config", file)
	p.connect(t)
	r := startReign(t, p)
	write(", agent: {mode: 0600}, oip: {paths: [a.sock, b.sock]}, lane: {paths: []}")
	r.restart(t)
	r.checkAnswers(t)
	if info := isSocket(t, p.path); info.Mode().Perm() != 0o600 {
		t.Errorf("after the restart the mode is %v", info.Mode())
	}
	for _, name := range []string{"a.sock", "b.sock", "lane-stream.sock"} {
		c, err := net.Dial("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	for _, name := range []string{"oip.sock", "oip.sock.lock", "lane.sock", "lane.sock.lock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
	// The lock is still held: another daemon does not get in between.
	launch(t, p.path, nil, "--sockets", dir).checkRefused(t, exitFailed, "another picketd serves "+p.path)
	r.stop(t)
}

// A restart starts what is installed now, where the daemon was started by a link.
func TestRestartOfAnotherVersion(t *testing.T) {
	dir := t.TempDir()
	link, newer := filepath.Join(dir, "picketd"), filepath.Join(dir, "newer")
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	copyFile(t, binary, newer)
	p := &process{path: filepath.Join(dir, "agent.sock"), exited: make(chan error, 1)}
	p.cmd = exec.Command(link, "--sockets", dir)
	p.cmd.Env = []string{"PICKET_IMDS=off", "PATH=" + os.Getenv("PATH")}
	p.run(t)
	p.connect(t)
	r := startReign(t, p)
	if err := os.Symlink(newer, link+"2"); err != nil {
		t.Fatal(err)
	}
	rename(t, link+"2", link)
	r.restart(t)
	if runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", r.pid)); err != nil || runs != newer {
		t.Errorf("the new process runs %s, want %s (%v)", runs, newer, err)
	}
	r.stop(t)
}

// A process that is killed while its successor loads leaves everything to that.
func TestPredecessorIsKilled(t *testing.T) {
	dir := t.TempDir()
	p := startDaemon(t, dir)
	r := startReign(t, p)
	p.signal(t, restartSignal)
	// The new process knows what there is to know when it logs.
	for end := time.Now().Add(time.Minute); strings.Count(p.stderr.String(), "every package will be refused") < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no new process starts:\n%s", &p.stderr)
		}
	}
	_ = p.cmd.Process.Kill() // unless it has ended
	started := startedPID.FindStringSubmatch(p.stderr.String())
	r.pid, _ = strconv.Atoi(started[1])
	for end := time.Now().Add(time.Minute); strings.Count(p.stderr.String(), "msg=ready") < 2; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("nobody serves:\n%s", &p.stderr)
		}
	}
	r.checkAnswers(t)
	if err := syscall.Kill(r.pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.reap(t, r.pid)
	r.wait(t)
	if left, err := filepath.Glob(filepath.Join(dir, "*.sock*")); err != nil || len(left) != 0 {
		t.Errorf("the last process left %v, %v", left, err)
	}
}

// What the service manager has passed stays its own when a new process takes over.
func TestRestartOfAnActivatedDaemon(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := activate(t, at("a"), []passed{
		{"agent", listenUnixAt(t, "unix", at("a"))}, {"tcp", tcp.(*net.TCPListener)}, {"lane", listenUnixAt(t, "unixpacket", at("l"))},
	}, "--sockets", at("run"))
	p.connect(t)
	r := startReign(t, p)
	for range 2 {
		r.restart(t)
		r.checkAnswers(t)
		answer, err := http.Get("http://" + tcp.Addr().String() + "/readyz")
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("over TCP: %v, %v", answer, err)
		}
		answer.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	if sockets := regexp.MustCompile(`msg=ready.*`).FindAllString(p.stderr.String(), -1); len(sockets) != 3 || strings.Contains(sockets[2], "run/agent.sock") {
		t.Errorf("the daemons say %q", sockets)
	}
	r.stop(t)
	isSocket(t, at("a"))
	isSocket(t, at("l"))
}
