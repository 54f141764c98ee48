package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/picket-ml/picket/internal/testkit"
)

// What is promised of artifacts that are malformed.
const (
	mostToRefuse   = 64 << 20 // bytes of memory, at its peak
	mostSentence   = 1 << 10
	leastSpecimens = 500
)

// mostUnpacked is what the daemon keeps of packages, in files and folders: 32 of them, each with a manifest and a model.
const mostUnpacked = 32 * 3

// lastBreath is how long a daemon that ends may need for it.
const lastBreath = 5 * time.Second

// artifacts is the part: a daemon is asked to load, in the place of a sound model of each kind, hundreds that are malformed. It must refuse each with a
// sentence and serve on, the old model and another one; and when they are all gone, nothing of them is left.
func artifacts(ctx context.Context, s *soak) error {
	kinds, err := specimens(ctx, s.dir)
	if err != nil {
		return err
	}
	fraud, err := s.fraudFolder()
	if err != nil {
		return err
	}
	libdlr, onnxRuntime, err := libraries()
	if err != nil {
		return err
	}
	state := filepath.Join(s.dir, "artifacts-state")
	config := fmt.Sprintf("state_dir: %q\nbackends: {libdlr: %q, onnxruntime: %q}\nmodels:\n- {name: fraud, path: %q}\n", state, libdlr, onnxRuntime, fraud)
	if s.kind != "" {
		if kinds = slices.DeleteFunc(kinds, func(k *specimen) bool { return k.name != s.kind }); len(kinds) == 0 {
			return fmt.Errorf("there are no artifacts of kind %q", s.kind)
		}
	}
	for _, kind := range kinds {
		if err := kind.put(s.dir, kind.files); err != nil {
			return err
		}
		config += fmt.Sprintf("- {name: %s, path: %q, backend: %q}\n", kind.name, kind.place(s.dir), kind.backend)
	}
	d, err := s.start(ctx, "artifacts", config)
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	trial := &artifactTrial{soak: s, d: d, state: state}
	if trial.other, err = d.askZeros(ctx, "fraud"); err != nil {
		return fmt.Errorf("asking another model: %w", err)
	}
	for _, kind := range kinds {
		// Each kind has a sequence of chance of its own, so that one more case of one changes no other.
		list := kind.damage(kind, rand.New(rand.NewPCG(s.seed, uint64(len(kind.name)))))
		trial.specimens += len(list)
		if s.every > 1 {
			from := int(s.seed % uint64(s.every))
			var some []damaged
			for i := from; i < len(list); i += s.every {
				some = append(some, list[i])
			}
			list = some
		}
		if err := trial.kind(ctx, kind, list); err != nil {
			return fmt.Errorf("malformed %s: %w", kind.name, err)
		}
	}
	s.out.check(s.kind != "" || trial.specimens >= leastSpecimens, "there are enough malformed artifacts", "%d, of which %d were tried", trial.specimens, trial.tried)
	s.out.tell("the slowest", "%v until %s was answered", trial.slowest.Round(time.Millisecond), trial.slowestOf)
	return nil
}

// libraries are those of others that backends load.
func libraries() (libdlr, onnxRuntime string, err error) {
	libdlr = filepath.Join(testkit.ModuleRoot(), ".cache", "libdlr", "1.6.0", "libdlr.so")
	onnxRuntime = filepath.Join(testkit.ModuleRoot(), ".cache", "onnxruntime", testkit.ONNXRuntimeVersion, "libonnxruntime.so")
	for _, library := range []string{libdlr, onnxRuntime} {
		if _, err := os.Stat(library); err != nil {
			return "", "", fmt.Errorf("looking for a library: %w; make fixtures fetches it", err)
		}
	}
	return libdlr, onnxRuntime, nil
}

// place is where the daemon finds the artifact.
func (s *specimen) place(dir string) string {
	dir = filepath.Join(dir, "specimens", s.name)
	if _, ok := s.files[packageFile]; ok {
		return filepath.Join(dir, packageFile)
	}
	return dir
}

// put makes the artifact's folder anew. Files that a library has mapped are not changed, but removed.
func (s *specimen) put(dir string, files map[string][]byte) error {
	folder := filepath.Join(dir, "specimens", s.name)
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("removing an artifact: %w", err)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("writing an artifact: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			return fmt.Errorf("writing an artifact: %w", err)
		}
	}
	return nil
}

// artifactTrial is what the kinds have in common.
type artifactTrial struct {
	*soak
	d         *daemon
	state     string
	other     string // what another model answers
	specimens int
	tried     int
	slowest   time.Duration
	slowestOf string
}

// kind tries the artifacts of one kind.
func (t *artifactTrial) kind(ctx context.Context, kind *specimen, list []damaged) error {
	sound, err := t.d.askZeros(ctx, kind.name)
	if err != nil {
		return fmt.Errorf("asking the sound model: %w", err)
	}
	// Once more, so that what stays after the first time is not counted.
	if err := t.d.load(ctx, kind.name, ""); err != nil {
		return fmt.Errorf("loading the sound model again: %w", err)
	}
	before, err := t.d.settles(ctx, usage{}, time.Second)
	if err != nil {
		return err
	}
	kept, err := filesBelow(t.state)
	if err != nil {
		return err
	}
	var wrong []string
	var peak int64
	peakOf := "nothing"
	ran := 0
	for _, one := range list {
		t.tried++
		if err := kind.put(t.dir, one.files); err != nil {
			return err
		}
		begun := time.Now()
		took, loaded, err := t.try(ctx, kind, one)
		if e := time.Since(begun); e > t.slowest {
			t.slowest, t.slowestOf = e, kind.name+", "+one.what
		}
		if !t.d.runs() {
			return fmt.Errorf("the daemon ended when it was to load this: %s\n%s", one.what, t.d.said())
		}
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s: %v", one.what, err))
		}
		if took > peak {
			peak, peakOf = took, one.what
		}
		if loaded {
			ran++
			if err := kind.put(t.dir, kind.files); err != nil {
				return err
			}
			if err := t.d.load(ctx, kind.name, ""); err != nil {
				return fmt.Errorf("loading the sound model after %s: %w", one.what, err)
			}
		}
		for name, want := range map[string]string{kind.name: sound, "fraud": t.other} {
			if got, err := t.d.askZeros(ctx, name); err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: after it model %s fails: %v", one.what, name, err))
			} else if got != want {
				wrong = append(wrong, fmt.Sprintf("%s: after it model %s answers %s, not %s", one.what, name, got, want))
			}
		}
	}
	if err := kind.put(t.dir, kind.files); err != nil {
		return err
	}
	if err := t.d.load(ctx, kind.name, ""); err != nil {
		wrong = append(wrong, fmt.Sprintf("the sound one is refused afterwards: %v", err))
	}
	most := 8
	why := ""
	if len(wrong) > 0 {
		why = "; the first that were not:\n    " + strings.Join(wrong[:min(most, len(wrong))], "\n    ")
	}
	t.out.check(len(wrong) == 0, kind.name+": each malformed one is refused with a sentence, and the others serve on",
		"%d of %d, and %d that chance left sound enough to run%s", len(list)-ran-min(len(wrong), len(list)-ran), len(list)-ran, ran, why)
	t.out.check(peak <= mostToRefuse, kind.name+": memory to refuse one", "at most %.1f MiB more, for %s", float64(peak)/(1<<20), peakOf)
	after, err := t.d.settles(ctx, before, 10*time.Second)
	if err != nil {
		return err
	}
	t.out.checkReturned(before, after)
	left, err := filesBelow(t.state)
	if err != nil {
		return err
	}
	most = kept
	if _, packed := kind.files[packageFile]; packed {
		most += mostUnpacked // a package that is in order is unpacked before the model in it is looked at
	}
	t.out.check(left <= most, kind.name+": nothing of them is kept that should not be", "%d files in the daemon's state before, %d after, of %d allowed", kept, left, most)
	children, err := t.d.children()
	if err != nil {
		return err
	}
	t.out.check(children == 0, kind.name+": no process is left", "the daemon has %d children", children)
	return nil
}

// try has one loaded. It tells how much more memory that took at its peak, and whether it was loaded; how it was answered is the error.
func (t *artifactTrial) try(ctx context.Context, kind *specimen, one damaged) (took int64, loaded bool, err error) {
	before, err := t.d.beginPeak()
	if err != nil {
		return 0, false, err
	}
	code, text, err := t.d.request(ctx, http.MethodPost, "/v2/repository/models/"+kind.name+"/load", "{}")
	if err != nil {
		// It takes a while to write down why it ends.
		select {
		case <-t.d.ended:
		case <-time.After(lastBreath):
		}
		return 0, false, fmt.Errorf("it is not answered: %w", err)
	}
	peak, err := t.d.peak()
	if err != nil {
		return 0, false, err
	}
	took = peak - before
	if code == http.StatusOK {
		if !one.mayRun {
			return took, true, errors.New("it was loaded")
		}
		// What it answers is nobody's business, but it must be answered.
		if _, err := t.d.askZeros(ctx, kind.name); err != nil && !errors.Is(err, errAnswered) {
			return took, true, fmt.Errorf("it was loaded, and then: %w", err)
		}
		return took, true, nil
	}
	if code >= http.StatusInternalServerError && code != http.StatusServiceUnavailable {
		return took, false, fmt.Errorf("it is answered with %d, as if the daemon were at fault: %s", code, text)
	}
	return took, false, checkSentence(text)
}

// checkSentence fails unless the body of an answer is an error of one sentence.
func checkSentence(body []byte) error {
	var answer struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("the answer is not JSON: %.200q", body)
	}
	text := answer.Error
	switch {
	case len(strings.Fields(text)) < 5 || strings.HasSuffix(text, "."):
		return fmt.Errorf("the answer is no sentence: %q", text)
	case len(text) > mostSentence || strings.ContainsAny(text, "\n\r\x00") || !utf8.ValidString(text):
		return fmt.Errorf("the answer is more than a sentence: %.300q", text)
	case strings.Contains(text, "runtime error") || strings.Contains(text, "goroutine") || strings.Contains(text, "panic"):
		return fmt.Errorf("the answer tells of a fault in the daemon: %q", text)
	}
	return nil
}

// errAnswered is a request that was refused or failed, but was answered.
var errAnswered = errors.New("answered with an error")

// askZeros asks a model for what it makes of a row of zeros, as the text that comes.
func (d *daemon) askZeros(ctx context.Context, model string) (string, error) {
	code, text, err := d.request(ctx, http.MethodGet, "/v2/models/"+model, "")
	if err != nil {
		return "", err
	}
	if code != http.StatusOK {
		return "", fmt.Errorf("its metadata are %w: %d: %s", errAnswered, code, text)
	}
	var about struct {
		Inputs []struct {
			Name, Datatype string
			Shape          []int64
		}
	}
	if err := json.Unmarshal(text, &about); err != nil {
		return "", fmt.Errorf("reading its metadata: %w", err)
	}
	var inputs []string
	for _, in := range about.Inputs {
		const most = 1 << 20
		n := int64(1)
		for i, size := range in.Shape {
			if size < 0 {
				in.Shape[i], size = 1, 1
			}
			if n *= size; n > most {
				return "", fmt.Errorf("%w: it takes more than is worth asking", errAnswered)
			}
		}
		shape, err := json.Marshal(in.Shape)
		if err != nil {
			return "", err
		}
		name, err := json.Marshal(in.Name)
		if err != nil {
			return "", err
		}
		zeros := strings.TrimSuffix(strings.Repeat("0,", int(n)), ",")
		inputs = append(inputs, fmt.Sprintf(`{"name":%s,"datatype":%q,"shape":%s,"data":[%s]}`, name, in.Datatype, shape, zeros))
	}
	code, text, err = d.request(ctx, http.MethodPost, "/v2/models/"+model+"/infer", `{"inputs":[`+strings.Join(inputs, ",")+`]}`)
	if err != nil {
		return "", err
	}
	if code != http.StatusOK {
		return "", fmt.Errorf("its prediction is %w: %d: %s", errAnswered, code, text)
	}
	var answer struct{ Outputs json.RawMessage }
	if err := json.Unmarshal(text, &answer); err != nil {
		return "", fmt.Errorf("reading an answer: %w", err)
	}
	return string(answer.Outputs), nil
}

// beginPeak has the kernel measure the daemon's memory at its peak anew, and gives what it is now.
func (d *daemon) beginPeak() (int64, error) {
	const resetPeak = "5" // proc_pid_clear_refs(5)
	if err := os.WriteFile(d.proc("clear_refs"), []byte(resetPeak), 0); err != nil {
		return 0, fmt.Errorf("looking at the daemon's memory: %w", err)
	}
	return d.peak()
}

// peak is the most memory that the daemon had since beginPeak, in bytes; its program and libraries count.
func (d *daemon) peak() (int64, error) {
	text, err := os.ReadFile(d.proc("status"))
	if err != nil {
		return 0, fmt.Errorf("looking at the daemon's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("looking at the daemon's memory: the kernel does not tell its peak")
}

// children counts the processes that the daemon has started and that are there, dead or alive.
func (d *daemon) children() (int, error) {
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	n := 0
	for _, p := range processes {
		stat, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended meanwhile
		}
		// pid (name) state parent; a name may hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(d.pid) {
			n++
		}
	}
	return n, nil
}

// filesBelow counts what is in a folder and those below it.
func filesBelow(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error {
		n++
		return err
	})
	return n, err
}

func sha256Hex(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
