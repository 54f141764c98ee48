package pipeline

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/moto"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// `make test-pipeline` gives these; the tests of this file are its own. They run the commands as processes, train with
// XGBoost, and kill with SIGKILL.
var (
	wholeBin  = flag.String("whole.bin", "", "the folder with picket and picketd")
	wholeData = flag.String("whole.data", "", "the folder with the generated dataset")
	wholeMoto = flag.String("whole.moto", "", "the program moto_server")
)

// whole is a pipeline that is run by the command, on real data.
type whole struct {
	t    *testing.T
	dir  string
	file string
	args []string
	env  []string
	// python is the environment that a local run has made.
	python string
}

const wholeFile = `
name: fraud
version: "1"
dataset: {train: DATA/train, validation: DATA/validation}
training:
  source: SOURCE
  framework_version: 3.0-5
  hyperparameters: {num_round: 40, max_depth: 6}
compile:
TARGETS
sign: {key: key.pem}
package: {directory: packages}
`

func newWhole(t *testing.T, targets, more string, args ...string) *whole {
	t.Helper()
	if *wholeBin == "" {
		t.Skip("a part of make test-pipeline")
	}
	// What a run that is killed leaves behind is the test's to remove.
	w := &whole{t: t, dir: t.TempDir(), args: args, env: append(os.Environ(), "TMPDIR="+t.TempDir())}
	writeKey(t, w.dir)
	text := strings.NewReplacer("DATA", *wholeData, "SOURCE", filepath.Join(testkit.ModuleRoot(), "examples/pipeline/training"), "TARGETS", targets).Replace(wholeFile)
	w.file = writeFile(t, filepath.Join(w.dir, "fraud.yaml"), text+more)
	return w
}

// writeKey makes a key pair as openssl does.
func writeKey(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	writeFile(t, filepath.Join(dir, "public.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})))
}

func (w *whole) command(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(*wholeBin, "picket"), args...)
	cmd.Env = w.env
	return cmd
}

// picket runs a command that must succeed, and gives what it prints.
func (w *whole) picket(args ...string) []byte {
	w.t.Helper()
	var stderr bytes.Buffer
	cmd := w.command(args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("picket %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// runUntil runs the pipeline and kills it when stop says so of a line of its log, or when kill is closed. It tells whether it
// was killed, and what it logged.
func (w *whole) runUntil(stop func(line string) bool, kill <-chan struct{}) (killed bool, log []string) {
	w.t.Helper()
	cmd := w.command(append([]string{"pipeline", "run", w.file}, w.args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan struct{})
	var once sync.Once
	shoot := func() { once.Do(func() { killed = true; _ = cmd.Process.Kill() }) }
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-kill:
			shoot()
		case <-ended:
		}
	})
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		log = append(log, lines.Text())
		if stop != nil && stop(lines.Text()) {
			shoot()
		}
	}
	err = cmd.Wait()
	close(ended)
	watching.Wait()
	if err != nil && !killed {
		w.t.Fatalf("running the pipeline: %v\n%s", err, strings.Join(log, "\n"))
	}
	return killed, log
}

// status is what picket pipeline status says.
func (w *whole) status() (s Status) {
	w.t.Helper()
	if err := json.Unmarshal(w.picket(append([]string{"pipeline", "status", w.file, "--json"}, w.args...)...), &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// steps are the steps of a log's lines that begin so.
func stepsOf(log []string, kind Kind) (steps []string) {
	for _, line := range log {
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("%-8s ", kind)); ok {
			step, _, _ := strings.Cut(rest, " (")
			steps = append(steps, step)
		}
	}
	return steps
}

// killAtEachStep kills the run in each of its steps, begun a moment ago, and goes on each time.
func (w *whole) killAtEachStep(moment time.Duration) {
	w.t.Helper()
	killedIn := map[string]bool{}
	done := map[string]int{}
	for {
		step := ""
		killed, log := w.runUntil(func(line string) bool {
			began := stepsOf([]string{line}, Started)
			if len(began) == 0 || killedIn[began[0]] {
				return false
			}
			step = began[0]
			killedIn[step] = true
			time.Sleep(moment)
			return true
		}, nil)
		for _, s := range stepsOf(log, Ended) {
			done[s]++
		}
		if !killed {
			break
		}
		for _, s := range w.status().Steps {
			if s.Step == step && s.State == stateRunning && w.status().Running {
				w.t.Errorf("after the run was killed in %s it looks as if it ran", step)
			}
		}
	}
	for step, n := range done {
		if n != 1 {
			w.t.Errorf("the step %s was done %d times", step, n)
		}
	}
	if len(killedIn) < len(w.status().Steps) {
		w.t.Errorf("of the steps %+v the run was killed in %v only", w.status().Steps, killedIn)
	}
}

// TestWhole runs a pipeline on this machine, and then the same at emulators of AWS, where the test does what SageMaker's
// machines would: it leaves the archives with what was made here where the requests say.
func TestWhole(t *testing.T) {
	w := newWhole(t, "  - {with: local, target: x86-64}\n  - {with: local, target: x86-64-v3, engine: simd, variant: v3}", "", "--local")
	made := filepath.Join(w.dir, ".picket/fraud/local")
	w.python = filepath.Join(made, "venv/bin/python")
	t.Run("local", func(t *testing.T) { w.onThisMachine(t) })
	if !t.Failed() {
		t.Run("AWS", func(t *testing.T) { wholeAWS(t, made, w.python) })
	}
}

// onThisMachine makes a package on this machine, killed in each step, and has a daemon answer as XGBoost does.
func (w *whole) onThisMachine(t *testing.T) {
	w.t = t
	w.killAtEachStep(100 * time.Millisecond)
	before := readAll(t, filepath.Join(w.dir, "packages", "fraud-1.tar.gz"))
	if _, log := w.runUntil(nil, nil); len(stepsOf(log, Started)) > 0 || len(stepsOf(log, Kept)) != 7 {
		t.Errorf("a second run did something:\n%s", strings.Join(log, "\n"))
	}
	if !bytes.Equal(before, readAll(t, filepath.Join(w.dir, "packages", "fraud-1.tar.gz"))) {
		t.Error("a second run changed the package")
	}
	w.interruptTraining()
	w.answersAsXGBoost(filepath.Join(w.dir, "packages"), "1")
}

// interruptTraining presses Ctrl-C while the program trains: nothing of it is left, the old package stays, and the run goes on
// to a new one.
func (w *whole) interruptTraining() {
	w.t.Helper()
	text := string(readAll(w.t, w.file))
	writeFile(w.t, w.file, strings.Replace(text, "num_round: 40", "num_round: 100000", 1))
	cmd := w.command("pipeline", "run", w.file, "--local")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	said, training := "", ""
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		said += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "features to train with") {
			training = childrenOf(cmd.Process.Pid)
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if err == nil || training == "" || !strings.Contains(said, "the next run begins it anew") {
		w.t.Errorf("interrupted: %v, children %q\n%s", err, training, said)
	}
	for _, pid := range strings.Fields(training) {
		if _, err := os.Stat("/proc/" + pid); err == nil {
			w.t.Errorf("process %s, which trains, is still there", pid)
		}
	}
	if s := w.status(); s.Steps[2].Step != stepTrain || s.Steps[2].State != stateInterrupted {
		w.t.Errorf("the record says %+v", s.Steps)
	}
	writeFile(w.t, w.file, text)
	if _, log := w.runUntil(nil, nil); !slices.Equal(stepsOf(log, Started), []string{stepTrain}) {
		w.t.Errorf("after a training that was not finished, the same model is made again, and no more:\n%s", strings.Join(log, "\n"))
	}
}

func childrenOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		data = append(append(data, ' '), more...)
	}
	return strings.TrimSpace(string(data))
}

// answersAsXGBoost starts picketd on the packages, which trusts the key alone, and compares what it answers with what XGBoost
// does, for all rows of the validation set.
func (w *whole) answersAsXGBoost(packages, version string) {
	t := w.t
	t.Helper()
	sockets, err := os.MkdirTemp("", "picket-pipeline") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(sockets)
	config := writeFile(t, filepath.Join(w.dir, "picketd.yaml"), fmt.Sprintf(
		"sockets: {dir: %s}\npackages: %s\nstate_dir: %s\ntrust: {keys: [%s]}\nmodels: [{name: fraud, path: fraud@%s}]\n",
		sockets, packages, filepath.Join(w.dir, "state"), filepath.Join(w.dir, "public.pem"), version))
	var log testkit.Output
	daemon := exec.Command(filepath.Join(*wholeBin, "picketd"), "--config", config)
	daemon.Stderr = &log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = daemon.Process.Signal(syscall.SIGTERM)
		if err := daemon.Wait(); err != nil {
			t.Errorf("picketd ended with %v\n%s", err, log.String())
		}
	}()
	rows := filepath.Join(w.dir, "rows.csv")
	expected := w.xgboost(rows)
	var out []byte
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		cmd := w.command("predict", "fraud", "--sockets", sockets, "--input", rows, "--json")
		if out, err = cmd.Output(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("picketd does not answer: %v\n%s", err, log.String())
		}
	}
	exact := 0
	answers := json.NewDecoder(bytes.NewReader(out))
	for i, want := range expected {
		var answer struct{ Outputs map[string][]float32 }
		if err := answers.Decode(&answer); err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		for _, got := range answer.Outputs {
			// Margins are the same bits; the last places of the logistic function are the C library's own.
			if d := int64(math.Float32bits(got[0])) - int64(math.Float32bits(want)); d > 2 || d < -2 {
				t.Fatalf("row %d: picketd says %v, XGBoost %v", i, got[0], want)
			} else if d == 0 {
				exact++
			}
		}
	}
	t.Logf("%d rows answered as XGBoost does, %d of them bit for bit", len(expected), exact)
}

// xgboost has XGBoost predict the validation set, and writes its rows without the label.
func (w *whole) xgboost(rows string) []float32 {
	w.t.Helper()
	const program = `
import sys, json, numpy, xgboost
sys.path.insert(0, sys.argv[1])
import glob, train
names = sorted(glob.glob(sys.argv[2] + "/*.csv"))
table = numpy.concatenate([numpy.loadtxt(train.lines(n), delimiter=",", dtype=numpy.float32) for n in names])
with open(sys.argv[4], "w") as f:
    for row in table:
        f.write(",".join(repr(float(x)) for x in row[1:]) + "\n")
booster = xgboost.Booster(model_file=sys.argv[3])
json.dump([float(x) for x in booster.predict(xgboost.DMatrix(table[:, 1:]))], sys.stdout)
`
	matches, _ := filepath.Glob(filepath.Join(w.dir, ".picket", "fraud", "*", "*", "xgboost-model"))
	if len(matches) == 0 {
		matches, _ = filepath.Glob(filepath.Join(w.dir, ".picket", "fraud", "*", "training", "model", "xgboost-model"))
	}
	cmd := exec.Command(w.python, "-c", program, filepath.Join(testkit.ModuleRoot(), "examples/pipeline/training"), filepath.Join(*wholeData, "validation"), matches[0], rows)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("asking XGBoost: %v\n%s", err, stderr.String())
	}
	var expected []float32
	if err := json.Unmarshal(out, &expected); err != nil || len(expected) < 10_000 {
		w.t.Fatalf("XGBoost gave %d answers, %v", len(expected), err)
	}
	return expected
}

// gate is a proxy before a server, which lets a test stop at a request: before it is passed on, after it was, or in the
// middle of the answer.
type gate struct {
	*httptestServer

	mu     sync.Mutex
	seen   []string // method and target or path, of what was passed on
	at     string   // the operation to stop at, or the method and a part of the path
	when   string   // "before", "after" or "within"
	struck chan struct{}
}

type httptestServer struct{ URL string }

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{httptestServer: &httptestServer{}}
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Transport: transport, ErrorLog: nil,
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },
		ModifyResponse: func(r *http.Response) error {
			if g.is(r.Request, "within") {
				r.Body = &cutBody{ReadCloser: r.Body, strike: sync.OnceFunc(g.strike)}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.URL = "http://" + listener.Addr().String()
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.is(r, "before") {
			g.strike()
			panic(http.ErrAbortHandler)
		}
		g.mu.Lock()
		g.seen = append(g.seen, describe(r))
		g.mu.Unlock()
		if g.is(r, "after") {
			proxy.ServeHTTP(&nowhere{header: http.Header{}}, r)
			g.strike()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
		transport.CloseIdleConnections()
	})
	return g
}

func describe(r *http.Request) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return strings.TrimPrefix(target, "SageMaker.")
	}
	return r.Method + " " + r.URL.Path
}

func (g *gate) is(r *http.Request, when string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	method, rest, two := strings.Cut(g.at, " ")
	if !two {
		method, rest = "", g.at
	}
	said := describe(r)
	return g.struck != nil && g.when == when && strings.HasPrefix(said, method) && strings.Contains(said, rest)
}

// strike has the process killed, and waits until it is.
func (g *gate) strike() {
	g.mu.Lock()
	if g.struck != nil {
		close(g.struck)
		g.struck = nil
	}
	g.mu.Unlock()
	time.Sleep(200 * time.Millisecond)
}

// arm sets where to stop; the channel is closed there.
func (g *gate) arm(at, when string) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.when, g.struck = at, when, make(chan struct{})
	return g.struck
}

func (g *gate) count(what string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.seen {
		if strings.Contains(s, what) {
			n++
		}
	}
	return n
}

// cutBody strikes in the middle of a body.
type cutBody struct {
	io.ReadCloser
	strike func()
}

func (c *cutBody) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p[:min(len(p), 1000)])
	c.strike()
	return n, err
}

// nowhere swallows an answer.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (n *nowhere) WriteHeader(int)             {}

// motoHas tells whether moto knows a job.
func motoHas(t *testing.T, at, name string) bool {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for operation, key := range map[string]string{"DescribeTrainingJob": "TrainingJobName", "DescribeCompilationJob": "CompilationJobName"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(fmt.Sprintf(`{%q: %q}`, key, name)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "SageMaker."+operation)
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=test/20260101/us-west-2/sagemaker/aws4_request, SignedHeaders=host, Signature=0")
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return true
		}
	}
	return false
}

// wholeAWS runs the same pipeline at moto and a real S3 store, killed at every request that matters, and finds each job
// started once. made is the folder of a local run, with python its environment.
func wholeAWS(t *testing.T, made, python string) {
	store, moto := s3.Start(t), moto.Start(t, *wholeMoto).Direct
	toStore, toMoto := newGate(t, store.Endpoint), newGate(t, moto)
	bucket := store.NewBucket(t)
	w := newWhole(t, "  - {with: local, target: x86-64-v3}\n  - {with: neo, platform: LINUX/X86_64, variant: neo}", fmt.Sprintf(`
bucket: {name: %s, prefix: picket}
aws: {region: us-west-2, endpoint: %q}
sagemaker: {role: "arn:aws:iam::123456789012:role/Picket", endpoint: %q, poll: 50ms}
`, bucket, toStore.URL, toMoto.URL))
	w.python = python
	w.env = append(w.env, store.Env()...)
	w.env = append(w.env, "AWS_ENDPOINT_URL_S3=")

	var plan []Planned
	if err := json.Unmarshal(w.picket("pipeline", "run", w.file, "--plan", "--json"), &plan); err != nil {
		t.Fatal(err)
	}
	if len(store.Keys(t, bucket, "")) > 0 || len(toStore.seen)+len(toMoto.seen) > 0 {
		t.Fatal("planning did something")
	}
	jobs := leaveArchives(t, store, bucket, plan, made)

	for _, point := range []struct {
		gate     *gate
		at, when string
	}{
		{toStore, "PUT /train/part-001.csv", "after"}, {toStore, "PUT /files.json", "before"}, {toStore, "PUT /sourcedir.tar.gz", "after"},
		{toMoto, "CreateTrainingJob", "before"}, {toMoto, "CreateTrainingJob", "after"}, {toMoto, "DescribeTrainingJob", "after"},
		{toStore, "GET /output/model.tar.gz", "within"},
		{toMoto, "CreateCompilationJob", "after"}, {toStore, "GET /model-LINUX_X86_64.tar.gz", "within"}, {toStore, "PUT /packages/fraud-1.tar.gz", "after"},
	} {
		if killed, log := w.runUntil(nil, point.gate.arm(point.at, point.when)); !killed {
			t.Fatalf("the run was not killed %s %s:\n%s", point.when, point.at, strings.Join(log, "\n"))
		}
	}
	_, log := w.runUntil(nil, nil)
	if got := stepsOf(log, Started); !slices.Equal(got, []string{stepPush}) {
		t.Errorf("the last run, after one that was killed while it pushed, did %v:\n%s", got, strings.Join(log, "\n"))
	}

	for _, job := range jobs {
		if !motoHas(t, moto, job) {
			t.Errorf("the job %s was planned, and is not there", job)
		}
	}
	if n := toMoto.count("CreateTrainingJob") + toMoto.count("CreateCompilationJob"); n != 2 {
		t.Errorf("%d jobs were started", n)
	}
	pushed := filepath.Join(w.dir, "pulled", "fraud-1.tar.gz")
	writeFile(t, pushed, string(store.Get(t, bucket, "picket/packages/fraud-1.tar.gz")))
	w.picket("package", "verify", pushed, "--key", filepath.Join(w.dir, "public.pem"))
	w.answersAsXGBoost(filepath.Dir(pushed), "1")
}

// leaveArchives does what the jobs of a plan would do, and gives the jobs' names.
func leaveArchives(t *testing.T, store *s3.Server, bucket string, plan []Planned, made string) (jobs []string) {
	t.Helper()
	for _, item := range plan {
		var request struct {
			TrainingJobName, CompilationJobName string
			OutputDataConfig                    struct{ S3OutputPath string }
			OutputConfig                        struct{ S3OutputLocation string }
		}
		if item.Request == nil {
			continue
		}
		if err := json.Unmarshal(item.Request, &request); err != nil {
			t.Fatal(err)
		}
		at, archive := request.OutputDataConfig.S3OutputPath+"/"+request.TrainingJobName+"/output/model.tar.gz", packFolder(t, filepath.Join(made, "training", "model"))
		if request.CompilationJobName != "" {
			at, archive = request.OutputConfig.S3OutputLocation+"model-LINUX_X86_64.tar.gz", packFolder(t, filepath.Join(made, "compiled", "x86-64"))
		}
		store.Put(t, bucket, strings.TrimPrefix(at, "s3://"+bucket+"/"), archive)
		jobs = append(jobs, request.TrainingJobName+request.CompilationJobName)
	}
	return jobs
}
