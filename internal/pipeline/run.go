package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/picket-ml/picket/internal/hw"
)

// Options say how a pipeline is run, beside its file.
type Options struct {
	// Local has everything done on this machine; nothing of AWS is asked.
	Local bool
	// Work is the folder for the record and for what the steps make; empty: .picket/NAME beside the file.
	Work string
	// Host is the machine that the model is asked on; nil: this one, as internal/hw sees it.
	Host *hw.Host
	// Progress is told what happens, by one goroutine at a time; nil for nobody.
	Progress func(Event)
}

// Kind is what an Event tells.
type Kind string

// Kinds of events.
const (
	Started Kind = "started" // the step begins
	Working Kind = "working" // something of the step
	Ended   Kind = "done"    // the step is done, and on record
	Kept    Kind = "kept"    // the step was done before, from the same inputs
	Failed  Kind = "failed"  // the step failed, and that is on record
)

// Event is something that happened in a step.
type Event struct {
	Step string `json:"step"`
	Kind Kind   `json:"event"`
	Text string `json:"text"`
}

// Result is what a pipeline made.
type Result struct {
	// Package is the file, Digest the package's.
	Package string `json:"package"`
	Digest  string `json:"digest"`
	// Signer is who signed it, empty for nobody.
	Signer string `json:"signer"`
	// Object is where it was pushed to, empty for nowhere.
	Object string `json:"object"`
	// Done are the names of the steps that were done this time, in order.
	Done []string `json:"done"`
}

// Run does what the pipeline in the file still needs. Ending ctx ends it in a state from which the next Run goes on. One Run
// at a time works in one folder; others are refused. Nothing that it started still runs when it returns, save jobs at
// SageMaker.
func Run(ctx context.Context, path string, o Options) (*Result, error) {
	spec, err := Load(path)
	if err != nil {
		return nil, err
	}
	r, err := newRun(spec, path, o)
	if err != nil {
		return nil, err
	}
	if r.journal, err = openJournal(r.work, spec.Name); err != nil {
		return nil, err
	}
	defer r.journal.close()
	if !o.Local {
		disconnect, err := r.connect(ctx)
		if err != nil {
			return nil, err
		}
		defer disconnect()
	}
	return r.all(ctx)
}

// run is a run of a pipeline.
type run struct {
	spec    *Spec
	options Options
	work    string
	journal *journal

	// Of AWS; nil for a local run.
	service *service
	client  *s3.Client

	host *hw.Host

	mu   sync.Mutex // of what follows, and of Progress
	done []string
}

func newRun(spec *Spec, path string, o Options) (*run, error) {
	work, err := workFolder(spec, path, o)
	if err != nil {
		return nil, err
	}
	r := &run{spec: spec, options: o, work: work, host: o.Host}
	if !o.Local {
		return r, spec.needsAWS()
	}
	if spec.Training.Source == "" {
		return nil, errors.New("--local trains with a program of yours, and the file names none: give training.source, as the built-in algorithm is SageMaker's own")
	}
	if len(r.targets()) == 0 {
		return nil, errors.New("--local compiles on this machine, and the file names only targets of Neo: add one with: local")
	}
	return r, nil
}

// workFolder is where the record and the makings of a run lie. What is done here and what is done there are two things:
// changing between them undoes neither.
func workFolder(spec *Spec, path string, o Options) (string, error) {
	work := o.Work
	if work == "" {
		work = filepath.Join(filepath.Dir(path), ".picket", spec.Name)
	}
	work, err := filepath.Abs(filepath.Join(work, mode(o.Local)))
	if err != nil {
		return "", fmt.Errorf("finding the pipeline's folder: %w", err)
	}
	return work, nil
}

func mode(local bool) string {
	if local {
		return "local"
	}
	return "aws"
}

// targets are those that this run compiles for: Neo is not asked in a local one.
func (r *run) targets() []Target {
	var list []Target
	for _, t := range r.spec.Compile {
		if !r.options.Local || t.With == withLocal {
			list = append(list, t)
		}
	}
	return list
}

func (r *run) tell(step string, kind Kind, text string) {
	if r.options.Progress != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.options.Progress(Event{Step: step, Kind: kind, Text: text})
	}
}

// path is a file or folder of the run.
func (r *run) path(parts ...string) string {
	return filepath.Join(append([]string{r.work}, parts...)...)
}

// all does one step after the other.
func (r *run) all(ctx context.Context) (*Result, error) {
	data, err := r.dataset(ctx)
	if err != nil {
		return nil, err
	}
	var m model
	if r.options.Local {
		m, err = r.trainHere(ctx, data)
	} else {
		m, err = r.trainThere(ctx, data)
	}
	if err != nil {
		return nil, err
	}
	builds, err := r.compile(ctx, data, m)
	if err != nil {
		return nil, err
	}
	base, err := r.baseline(ctx, data)
	if err != nil {
		return nil, err
	}
	return r.publish(ctx, builds, base)
}

// step does what is named unless it was done from the same: from is all that it is made of, and whole tells whether what it
// made is still there (nil: there is nothing to look at). do puts what it made into result. The record is on disk before
// do begins, and again before step returns.
func (r *run) step(ctx context.Context, name string, from, result any, whole func() bool, do func(ctx context.Context, rec *record) error) error {
	key, err := keyOf(name, from)
	if err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return fmt.Errorf("%s: interrupted before it began; run again to go on: %w", name, err)
	}
	rec := r.journal.step(name)
	if rec != nil && rec.Key == key && rec.State == stateDone && json.Unmarshal(rec.Result, result) == nil && (whole == nil || whole()) {
		r.tell(name, Kept, "nothing has changed")
		return nil
	}
	if rec == nil {
		rec = &record{}
	}
	if rec.Key != key {
		rec.Job = nil
	}
	// What it made before stays known until it has made something else.
	*rec = record{Key: key, State: stateRunning, Began: time.Now().UTC(), Job: rec.Job, Result: rec.Result}
	if err := r.journal.put(name, rec); err != nil {
		return err
	}
	r.tell(name, Started, "")
	err = do(ctx, rec)
	if err == nil {
		var made []byte
		if made, err = json.Marshal(result); err == nil {
			rec.Result = made
		}
	}
	rec.Ended = time.Now().UTC()
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		rec.State, rec.Error = stateFailed, oneLine(err.Error())
		if ctx.Err() != nil {
			rec.State = stateInterrupted
		}
		r.tell(name, Failed, rec.Error)
		return errors.Join(err, r.journal.put(name, rec))
	}
	rec.State = stateDone
	if err := r.journal.put(name, rec); err != nil {
		return err
	}
	r.mu.Lock()
	r.done = append(r.done, name)
	r.mu.Unlock()
	r.tell(name, Ended, fmt.Sprintf("in %.1f s", rec.Ended.Sub(rec.Began).Seconds()))
	return nil
}

// fresh gives an empty folder of the run in which something is made that keep then puts in its place. What a run that was
// killed has left there is removed.
func (r *run) fresh(name string) (string, error) {
	dir := r.path("." + name)
	if err := removeAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	return dir, nil
}

// keep puts what was made in a folder of fresh in place of what was there.
func (r *run) keep(name string) (string, error) {
	to := r.path(name)
	if err := removeAll(to); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return "", fmt.Errorf("making a folder: %w", err)
	}
	if err := os.Rename(r.path("."+name), to); err != nil {
		return "", fmt.Errorf("putting what was made in its place: %w", err)
	}
	return to, nil
}

// removeAll is os.RemoveAll for what packaging has unpacked, too, in which nobody may write.
func removeAll(dir string) error {
	_ = filepath.WalkDir(dir, func(at string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = os.Chmod(at, 0o700)
		}
		return err
	}) // RemoveAll says what stands in the way
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing what an earlier run has left: %w", err)
	}
	return nil
}
