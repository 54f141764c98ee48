package pipeline

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// fakeSageMaker answers the four calls as SageMaker does, for what no emulator can be made to do: to fail, to be busy, to lose
// answers. The archives that jobs leave are put into a real store. `make test-pipeline` runs against an emulator.
type fakeSageMaker struct {
	*httptest.Server

	t      *testing.T
	store  *s3.Server
	bucket string

	mu    sync.Mutex
	calls []string                     // operation and name, in order
	jobs  map[string]map[string]string // by name: what the service says of it
	sent  map[string]string            // by name: the request that created it
	// fault may answer a call itself, before or after it had its effect.
	fault func(operation, name string, w http.ResponseWriter) (handled bool)
	lose  func(operation, name string) bool // the effect is there, the answer is not
	// ends is what a new job will say of itself: nothing for Completed.
	ends map[string]string
	// archive is what a training job leaves; compiled what a compilation job does.
	archive, compiled []byte
}

func newFakeSageMaker(t *testing.T) *fakeSageMaker {
	t.Helper()
	f := &fakeSageMaker{t: t, store: s3.Start(t), jobs: map[string]map[string]string{}, sent: map[string]string{}, ends: map[string]string{}}
	f.bucket = f.store.NewBucket(t)
	for _, variable := range f.store.Env() {
		name, value, _ := strings.Cut(variable, "=")
		t.Setenv(name, value)
	}
	artifact, model := neoModel(t)
	f.archive = packFiles(t, map[string]string{"xgboost-model": string(readAll(t, testkit.Path(t, model.Files[0])))})
	f.compiled = packFolder(t, testkit.Path(t, artifact.Dir))
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// neoModel is an artifact of the Treelite that Neo had, and the model it was compiled from.
func neoModel(t *testing.T) (testkit.Artifact, testkit.Model) {
	t.Helper()
	for _, a := range testkit.Artifacts(t) {
		if a.Name == "fraud-tl0.93" {
			return a, testkit.ModelNamed(t, a.Model)
		}
	}
	t.Fatal("the artifact fraud-tl0.93 is not there")
	panic("not reached")
}

// ServeHTTP implements http.Handler.
func (f *fakeSageMaker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "SageMaker.")
	body, err := io.ReadAll(r.Body)
	var request struct {
		TrainingJobName, CompilationJobName string
		OutputDataConfig                    struct{ S3OutputPath string }
		OutputConfig                        struct {
			S3OutputLocation string
			TargetDevice     string
			TargetPlatform   *platform
		}
	}
	if err != nil || json.Unmarshal(body, &request) != nil || !strings.Contains(r.Header.Get("Authorization"), "/us-west-2/sagemaker/aws4_request") {
		http.Error(w, "{}", http.StatusBadRequest)
		return
	}
	name := request.TrainingJobName + request.CompilationJobName
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, operation+" "+name)
	if f.fault != nil && f.fault(operation, name, w) {
		return
	}
	job, exists := f.jobs[name]
	switch {
	case strings.HasPrefix(operation, "Create") && exists:
		refuse(w, http.StatusBadRequest, "ResourceInUse", "Job name must be unique within an AWS account and region, and a job with this name already exists")
		return
	case strings.HasPrefix(operation, "Create"):
		job = maps.Clone(f.ends)
		f.jobs[name], f.sent[name] = job, string(body)
		location := strings.TrimSuffix(request.OutputDataConfig.S3OutputPath, "/") + "/" + name + "/output/model.tar.gz"
		archive := f.archive
		if operation == "CreateCompilationJob" {
			target := Target{Device: request.OutputConfig.TargetDevice}
			if p := request.OutputConfig.TargetPlatform; p != nil {
				target.Platform = strings.TrimSuffix(p.Os+"/"+p.Arch+"/"+p.Accelerator, "/")
			}
			location, archive = request.OutputConfig.S3OutputLocation+target.archive(), f.compiled
		}
		job["artifact"] = location
		f.store.Put(f.t, f.bucket, strings.TrimPrefix(location, "s3://"+f.bucket+"/"), archive)
	case !exists:
		refuse(w, http.StatusBadRequest, "ValidationException", "Requested resource not found.")
		return
	}
	if f.lose != nil && f.lose(operation, name) {
		panic(http.ErrAbortHandler)
	}
	status := job["status"]
	if status == "" {
		status = "Completed"
	}
	answer := map[string]any{"FailureReason": job["reason"], "ModelArtifacts": map[string]string{"S3ModelArtifacts": job["artifact"]}}
	if strings.Contains(operation, "Compilation") {
		answer["CompilationJobStatus"] = strings.ToUpper(status)
	} else {
		answer["TrainingJobStatus"], answer["SecondaryStatus"] = status, status
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"__type":%q,"message":%q}`, code, message)
}

// created are the jobs that were started, by their names.
func (f *fakeSageMaker) created() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.jobs))
}

// asked is how often SageMaker was asked since the last time.
func (f *fakeSageMaker) asked() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

// packFiles makes an archive of plain files as GNU tar makes one.
func packFiles(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var headers []*tar.Header
	for _, name := range slices.Sorted(maps.Keys(files)) {
		headers = append(headers, &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644})
	}
	return packHeaders(t, headers, files)
}

func packHeaders(t *testing.T, headers []*tar.Header, files map[string]string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	out := tar.NewWriter(zipped)
	for _, h := range headers {
		h.Size = int64(len(files[h.Name]))
		if err := out.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(out, files[h.Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

func packFolder(t *testing.T, dir string) []byte {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, path))
		files[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packFiles(t, files)
}

// testPipeline is a pipeline in a folder of its own.
type testPipeline struct {
	t    *testing.T
	dir  string
	path string
	text string

	events []Event
}

// rowsFor is a dataset of a label and that many features.
func rowsFor(features int) string {
	var out strings.Builder
	rows := testkit.RowsNoMissing(50, features)
	for i := range 50 {
		fmt.Fprint(&out, i%2)
		for _, x := range rows[i*features : (i+1)*features] {
			fmt.Fprintf(&out, ",%g", x)
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

const cloudPipeline = `
name: fraud
version: "1"
dataset: {train: rows/train, validation: rows/validation.csv}
training: {hyperparameters: {num_round: 10}, framework_version: 1.3-1}
compile:
  - {with: neo, platform: LINUX/X86_64, variant: neo}
package: {warmup: false}
bucket: {name: BUCKET, prefix: models}
aws: {region: us-west-2, endpoint: STORE}
sagemaker: {role: "arn:aws:iam::123456789012:role/Test", endpoint: SAGEMAKER, poll: 10ms, patience: 1m}
`

// newPipelineAt makes a pipeline that trains and compiles at f.
func newPipelineAt(t *testing.T, f *fakeSageMaker) *testPipeline {
	t.Helper()
	p := &testPipeline{t: t, dir: t.TempDir()}
	_, model := neoModel(t)
	features := model.Features
	writeFile(t, filepath.Join(p.dir, "rows", "train", "a.csv"), rowsFor(features))
	writeFile(t, filepath.Join(p.dir, "rows", "train", "more", "b.csv"), rowsFor(features))
	writeFile(t, filepath.Join(p.dir, "rows", "validation.csv"), rowsFor(features))
	p.write(strings.NewReplacer("BUCKET", f.bucket, "STORE", f.store.Endpoint, "SAGEMAKER", f.URL).Replace(cloudPipeline))
	return p
}

func (p *testPipeline) write(text string) {
	p.t.Helper()
	p.text = text
	p.path = writeFile(p.t, filepath.Join(p.dir, "pipeline.yaml"), text)
}

// change replaces a part of the file.
func (p *testPipeline) change(from, to string) {
	p.t.Helper()
	if !strings.Contains(p.text, from) {
		p.t.Fatalf("there is no %q in the pipeline's file", from)
	}
	p.write(strings.Replace(p.text, from, to, 1))
}

// compileHereToo adds a target that takes a compiler, and a second.
func (p *testPipeline) compileHereToo(target string) {
	p.t.Helper()
	p.change("compile:\n", "compile:\n  - {with: local, target: "+target+"}\n")
}

func (p *testPipeline) options() Options {
	p.events = nil
	return Options{Progress: func(e Event) { p.events = append(p.events, e) }}
}

// run runs it, and must succeed.
func (p *testPipeline) run() *Result {
	p.t.Helper()
	// One that would wait for ever is to fail, and not to end all tests and leave their folders.
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer cancel()
	result, err := Run(ctx, p.path, p.options())
	if err != nil {
		p.t.Fatalf("running the pipeline: %v", err)
	}
	return result
}

// fails runs it, and must not succeed: the error has all of those words.
func (p *testPipeline) fails(ctx context.Context, words ...string) {
	p.t.Helper()
	result, err := Run(ctx, p.path, p.options())
	if err == nil {
		p.t.Fatalf("the pipeline ran: %+v", result)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			p.t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// steps are those that an event of that kind was told of.
func (p *testPipeline) steps(kind Kind) []string {
	var list []string
	for _, e := range p.events {
		if e.Kind == kind && !slices.Contains(list, e.Step) {
			list = append(list, e.Step)
		}
	}
	slices.Sort(list)
	return list
}
