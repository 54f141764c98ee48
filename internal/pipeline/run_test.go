package pipeline

import (
	"archive/tar"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging"
)

var cloudSteps = slices.Sorted(slices.Values([]string{"compile neo", "compile " + hostTarget(), "dataset", "model", "package", "place", "push", "train"}))

// A pipeline runs from the dataset to the package in the bucket; what was planned is what was sent; and nothing is done twice.
func TestRunAtSageMaker(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	p.change("package: {warmup: false}\n", "")
	p.compileHereToo(hostTarget())
	plan, err := Plan(t.Context(), p.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(p.dir, ".picket")); !errors.Is(err, os.ErrNotExist) || len(f.asked()) > 0 || len(f.store.Keys(t, f.bucket, "")) > 0 {
		t.Fatal("planning did something")
	}

	result := p.run()
	if got := p.steps(Ended); !slices.Equal(got, cloudSteps) {
		t.Errorf("done were %v", got)
	}
	if len(f.created()) != 2 {
		t.Errorf("the jobs are %v", f.created())
	}
	planned := map[string]string{}
	for _, item := range plan {
		if item.Object != "" && !slices.Contains(f.store.Keys(t, f.bucket, ""), strings.TrimPrefix(item.Object, "s3://"+f.bucket+"/")) {
			t.Errorf("%s was planned and is not there", item.Object)
		}
		if item.Operation != "" {
			planned[item.Operation] = string(item.Request)
		}
	}
	for _, name := range f.created() {
		if !legalName.MatchString(name) || len(name) > maxJobName {
			t.Errorf("a job is called %q", name)
		}
		if request := f.sent[name]; request != planned["CreateTrainingJob"] && request != planned["CreateCompilationJob"] {
			t.Errorf("what was sent was not planned:\n%s\n%v", request, planned)
		}
	}
	file, err := os.Open(result.Package)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	a, err := packaging.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.Digest() != result.Digest || len(a.Manifest.Variants) != 2 || a.Manifest.Warmup == nil || a.Manifest.Source == nil {
		t.Errorf("the package is %+v", a.Manifest)
	}
	local, err := os.ReadFile(result.Package)
	if err != nil {
		t.Fatal(err)
	}
	if pushed := f.store.Get(t, f.bucket, "models/packages/fraud-1.tar.gz"); string(pushed) != string(local) {
		t.Error("the package in the bucket is another one")
	}

	f.asked()
	p.run()
	if kept, calls := p.steps(Kept), f.asked(); !slices.Equal(kept, cloudSteps) || len(p.steps(Started)) > 0 || len(calls) > 0 {
		t.Errorf("the second run kept %v, began %v and asked %v", kept, p.steps(Started), calls)
	}

	// The record is lost: the jobs are found by their names, and the dataset by its digest.
	if err := os.RemoveAll(filepath.Join(p.dir, ".picket")); err != nil {
		t.Fatal(err)
	}
	p.run()
	if len(f.created()) != 2 || slices.ContainsFunc(f.asked(), func(call string) bool { return strings.HasPrefix(call, "Create") }) {
		t.Errorf("without a record other jobs were started: %v", f.created())
	}
	if slices.ContainsFunc(p.events, func(e Event) bool { return e.Step == stepDataset && strings.Contains(e.Text, " bytes") }) {
		t.Error("without a record the dataset was uploaded again")
	}
}

// A step is done again when what it is made from has changed, and only then.
func TestWhatAChangeTouches(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	p.compileHereToo("x86-64")
	p.run()
	fromTraining := []string{"compile neo", "model", "package", "place", "push", "train"} // the same model comes back
	for _, change := range []struct {
		what string
		do   func()
		want []string
	}{
		{"a hyperparameter", func() { p.change("num_round: 10", "num_round: 11"); p.change(`version: "1"`, `version: "2"`) }, fromTraining},
		{"the dataset", func() {
			writeFile(t, filepath.Join(p.dir, "rows", "train", "a.csv"), strings.Repeat(string(readAll(t, filepath.Join(p.dir, "rows", "train", "a.csv"))), 2))
			p.change(`version: "2"`, `version: "3"`)
		}, append([]string{"dataset"}, fromTraining...)},
		{"what a target asks of a host", func() {
			p.change("target: x86-64}", "target: x86-64, needs: x86-64-v2}")
			p.change(`version: "3"`, `version: "4"`)
		},
			fromTraining},
		{"a file that a step made", func() {
			if err := os.Remove(filepath.Join(p.dir, ".picket", "fraud", "aws", "compiled", "x86-64", "compiled.so")); err != nil {
				t.Fatal(err)
			}
		}, []string{"compile x86-64"}},
		{"a damaged package", func() {
			writeFile(t, filepath.Join(p.dir, ".picket", "fraud", "aws", "unsigned", "fraud-4.tar.gz"), "x")
		}, []string{"package"}},
		{"nothing", func() {}, nil},
	} {
		change.do()
		p.run()
		slices.Sort(change.want)
		if got := p.steps(Ended); !slices.Equal(got, change.want) {
			t.Errorf("after a change of %s the steps %v were done, want %v", change.what, got, change.want)
		}
	}
}

// Whatever SageMaker and the network do, a job is started once.
func TestFaultsOnTheWay(t *testing.T) {
	throttled := map[string]int{}
	for name, prepare := range map[string]func(f *fakeSageMaker){
		"answers are lost": func(f *fakeSageMaker) {
			lost := map[string]bool{}
			f.lose = func(operation, name string) bool {
				first := !lost[operation+name]
				lost[operation+name] = true
				return first
			}
		},
		"it is busy": func(f *fakeSageMaker) {
			f.fault = func(operation, name string, w http.ResponseWriter) bool {
				throttled[operation+name]++
				switch throttled[operation+name] {
				case 1:
					refuse(w, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
				case 2:
					refuse(w, http.StatusServiceUnavailable, "", "")
				case 3:
					refuse(w, http.StatusInternalServerError, "InternalFailure", "oops")
				default:
					return false
				}
				return true
			}
		},
		"the store is away": func(f *fakeSageMaker) {
			f.fault = func(operation, _ string, _ http.ResponseWriter) bool {
				if operation == "CreateCompilationJob" && throttled["away"] == 0 {
					throttled["away"] = 1
					if err := f.store.Kill(); err != nil {
						f.t.Error(err)
					}
					if err := f.store.Resume(); err != nil {
						f.t.Error(err)
					}
				}
				return false
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeSageMaker(t)
			p := newPipelineAt(t, f)
			prepare(f)
			p.run()
			if created := f.created(); len(created) != 2 {
				t.Errorf("the jobs are %v", created)
			}
		})
	}
}

// A job that fails is told once, with its reason; the next run starts another.
func TestFailedJob(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	f.ends = map[string]string{"status": "Failed", "reason": "AlgorithmError: Label must be\nnumeric, exit code: 1"}
	p.fails(t.Context(), "train: the training job picket-fraud-1-", "failed: AlgorithmError: Label must be numeric, exit code: 1", "/aws/sagemaker/TrainingJobs")
	s, err := Look(p.path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if last := s.Steps[len(s.Steps)-1]; last.Step != "train" || last.State != stateFailed || !strings.Contains(last.Error, "AlgorithmError") || last.Job == "" || s.Running {
		t.Errorf("the record says %+v", s)
	}
	f.ends = map[string]string{}
	p.run()
	created := f.created()
	if len(created) != 3 || !strings.HasSuffix(created[2], "-2") && !slices.ContainsFunc(created, func(n string) bool { return strings.HasSuffix(n, "-2") }) {
		t.Errorf("the jobs are %v", created)
	}

	// Another machine with the same file finds the second job, and starts none.
	other := newPipelineAt(t, f)
	f.asked()
	other.run()
	if now := f.created(); !slices.Equal(now, created) {
		t.Errorf("another machine started %v", now)
	}
}

// A run that ends while a job runs leaves the job alone, and the next one waits for it.
func TestInterruptedWhileAJobRuns(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	f.ends = map[string]string{"status": "InProgress"}
	ctx, cancel := context.WithCancel(t.Context())
	f.fault = func(operation, _ string, _ http.ResponseWriter) bool {
		if operation == "DescribeTrainingJob" && len(f.jobs) == 1 {
			cancel()
		}
		return false
	}
	p.fails(ctx, "interrupted while the training job picket-fraud-1-", "it goes on there")
	f.fault = nil
	s, err := Look(p.path, Options{})
	if err != nil || s.Steps[1].State != stateInterrupted {
		t.Errorf("the record says %+v, %v", s, err)
	}
	f.mu.Lock()
	for _, job := range f.jobs {
		job["status"] = "Completed"
	}
	f.ends = map[string]string{}
	f.mu.Unlock()
	p.run()
	if created := f.created(); len(created) != 2 {
		t.Errorf("the jobs are %v", created)
	}
}

// What SageMaker refuses for good ends the run with its words.
func TestRefusals(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	for code, want := range map[string]string{
		"AccessDeniedException": "the credentials may not do this (User: x is not authorized)",
		"ResourceLimitExceeded": "a limit of the account is reached (User: x is not authorized)",
		"ValidationException":   "SageMaker refuses it (ValidationException: User: x is not authorized)",
		"ExpiredTokenException": "the credentials have expired",
	} {
		f.fault = func(operation, _ string, w http.ResponseWriter) bool {
			if operation != "CreateTrainingJob" {
				return false
			}
			refuse(w, http.StatusBadRequest, "com.amazon.coral#"+code, "User: x is not\n authorized")
			return true
		}
		p.fails(t.Context(), want)
	}
	if len(f.created()) > 0 {
		t.Errorf("jobs were started: %v", f.created())
	}
}

// Nothing in the archive that training left is believed.
func TestHostileArchives(t *testing.T) {
	f := newFakeSageMaker(t)
	outside := filepath.Join(t.TempDir(), "outside")
	model := string(readAll(t, testkit.Path(t, "models/xgboost/binary-1.3.3.json")))
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"no archive":    {[]byte("hello"), "not compressed with gzip"},
		"cut":           {f.archive[:len(f.archive)/2], "it ends in the middle"},
		"empty":         {packFiles(t, nil), "it holds no file"},
		"a way out":     {packFiles(t, map[string]string{"../../outside": "x"}), "leads out of the package"},
		"absolute":      {packFiles(t, map[string]string{"/outside": "x"}), "is absolute"},
		"a link":        {packHeaders(t, []*tar.Header{{Typeflag: tar.TypeSymlink, Name: "xgboost-model", Linkname: outside}}, nil), "is a symbolic link"},
		"a hard link":   {packHeaders(t, []*tar.Header{{Typeflag: tar.TypeLink, Name: "xgboost-model", Linkname: "/etc/passwd"}}, nil), "is a hard link"},
		"a device":      {packHeaders(t, []*tar.Header{{Typeflag: tar.TypeBlock, Name: "x"}}, nil), "is a device"},
		"no model":      {packFiles(t, map[string]string{"notes.txt": "x"}), "training has left no model of trees"},
		"two models":    {packFiles(t, map[string]string{"a.json": model, "b.json": model}), "training has left 2 model files"},
		"another file":  {packFiles(t, map[string]string{"xgboost-model": "\x80\x03cxgboost"}), "training has left no model of trees"},
		"two of a name": {packHeaders(t, []*tar.Header{{Typeflag: tar.TypeReg, Name: "a"}, {Typeflag: tar.TypeReg, Name: "a"}}, map[string]string{"a": "x"}), "is there twice"},
		"hidden":        {packFiles(t, map[string]string{".x": "x"}), "begins with a dot"},
		"set-user-ID":   {packHeaders(t, []*tar.Header{{Typeflag: tar.TypeReg, Name: "a", Mode: 0o4755}}, map[string]string{"a": "x"}), "the mode 4755"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPipelineAt(t, f)
			p.compileHereToo("x86-64")
			f.t = t
			p.change("num_round: 10", "num_round: 10, name: "+strings.ReplaceAll(name, " ", "-"))
			f.archive = c.archive
			p.fails(t.Context(), "model: ", c.want)
			if _, err := os.Lstat(outside); err == nil {
				t.Error("something was written outside")
			}
			if left, _ := filepath.Glob(filepath.Join(p.dir, ".picket", "fraud", "aws", "*trained*")); len(left) > 0 && !strings.Contains(c.want, "training has left") {
				t.Errorf("it was kept: %v", left)
			}
		})
	}
}

// A version that hosts may have is never another package's.
func TestVersionsAreNotReplaced(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	f.store.Put(t, f.bucket, "models/packages/fraud-1.tar.gz", []byte("another"))
	p.fails(t.Context(), "push: ", "never overwrites one", "raise the version")
	p.change(`version: "1"`, `version: "2"`)
	writeFile(t, filepath.Join(p.dir, "packages", "fraud-2.tar.gz"), "another")
	p.fails(t.Context(), "place: ", "fraud-2.tar.gz is there already, and is another package: raise the version")
	p.change(`version: "2"`, `version: "3"`)
	p.run()
	if got := string(f.store.Get(t, f.bucket, "models/packages/fraud-1.tar.gz")); got != "another" {
		t.Errorf("it was overwritten: %.20q", got)
	}
}

// The package tells what the training set was like, where that is asked for.
func TestBaseline(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	baselineOf := func() []packaging.File {
		t.Helper()
		file, err := os.Open(p.run().Package)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		a, err := packaging.Open(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Close()
		return a.Manifest.Baseline()
	}
	if got := baselineOf(); len(got) != 0 {
		t.Errorf("a baseline that nobody asked for: %v", got)
	}
	p.write(p.text + "baseline: {enabled: true}\n")
	p.change(`version: "1"`, `version: "2"`)
	if got := baselineOf(); len(got) != 2 {
		t.Errorf("the baseline is %v", got)
	}
	statistics, err := monitor.ParseStatistics(readAll(t, filepath.Join(p.dir, ".picket", "fraud", "aws", "baseline", monitor.StatisticsFile)))
	if err != nil {
		t.Fatal(err)
	}
	if _, model := neoModel(t); statistics.Dataset.ItemCount != 100 || len(statistics.Features) != model.Features {
		t.Errorf("the baseline is of %v rows of %d features", statistics.Dataset.ItemCount, len(statistics.Features))
	}
	if baselineOf(); slices.Contains(p.steps(Started), stepBaseline) {
		t.Error("the baseline was computed twice")
	}
}

// A dataset that the built-in algorithm would misread is refused before anything is uploaded.
func TestDatasetsThatAreRefused(t *testing.T) {
	f := newFakeSageMaker(t)
	for text, want := range map[string]string{
		"label,amount\n0,1\n": `has "label" in column 1 of its first line`,
		"0,1\n":               "columns and",
		"":                    "its first line is empty",
	} {
		p := newPipelineAt(t, f)
		writeFile(t, filepath.Join(p.dir, "rows", "train", "0.csv"), text)
		p.fails(t.Context(), "reading the dataset: ", want)
	}
	if keys := f.store.Keys(t, f.bucket, ""); len(keys) > 0 || len(f.asked()) > 0 {
		t.Errorf("something was done: %v", keys)
	}
	p := newPipelineAt(t, f)
	p.change("dataset: {", "dataset: {features: 3, ")
	p.fails(t.Context(), "compile neo: ", "and the dataset has 3 columns beside the label: give dataset.features: ")
}

// Patience ends, and the next run goes on.
func TestPatience(t *testing.T) {
	f := newFakeSageMaker(t)
	p := newPipelineAt(t, f)
	p.change("patience: 1m", "patience: 1s")
	f.fault = func(_, _ string, w http.ResponseWriter) bool {
		refuse(w, http.StatusServiceUnavailable, "", "")
		return true
	}
	began := time.Now()
	p.fails(t.Context(), "SageMaker is busy or broken (status 503); given up after 1s")
	if time.Since(began) < time.Second {
		t.Error("it was given up before its time")
	}
	f.fault = nil
	p.run()
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
