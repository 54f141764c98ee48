package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

// Progress of a step.
const (
	stateRunning     = "running"
	stateDone        = "done"
	stateFailed      = "failed"
	stateInterrupted = "interrupted"
)

// record is what is on disk of a step.
type record struct {
	// Key is the digest of what the step is made from.
	Key   string `json:"key"`
	State string `json:"state"`
	// Began and Ended are of the last time that it was done; Ended is the zero time while it runs, or where it was killed.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended,omitzero"`
	// Error is the sentence that it failed with.
	Error string `json:"error,omitempty"`
	// Job is what runs at SageMaker for it.
	Job *job `json:"job,omitempty"`
	// Result is what the step made, in a form of its own.
	Result json.RawMessage `json:"result,omitempty"`
}

// job is a job at SageMaker. Name is on record before the job is started, and Told is set with the failure that it ended with:
// the next run starts another.
type job struct {
	Name string `json:"name"`
	Try  int    `json:"try"`
	Told bool   `json:"told,omitempty"`
}

// stateDocument is the file.
type stateDocument struct {
	Format int                `json:"format"`
	Name   string             `json:"pipeline"`
	Steps  map[string]*record `json:"steps"`
	// Seen are the digests of large files by what the file system says of them.
	Seen map[string]seen `json:"seen,omitempty"`
}

const (
	stateFormat  = 1
	stateFile    = "state.json"
	lockFile     = "lock"
	maxStateFile = 64 << 20
)

// journal is the record of a pipeline on disk. Its methods may be called by any goroutine.
type journal struct {
	dir  string
	root *os.Root
	lock *os.File

	mu       sync.Mutex
	document stateDocument
}

// openJournal opens the record in a folder, which it makes if need be, and keeps others from working on it until it is closed.
func openJournal(dir, name string) (_ *journal, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the pipeline's folder: %w", err)
	}
	j := &journal{dir: dir}
	defer func() {
		if err != nil {
			j.close()
		}
	}()
	if j.root, err = os.OpenRoot(dir); err != nil {
		return nil, fmt.Errorf("opening the pipeline's folder: %w", err)
	}
	if j.lock, err = j.root.OpenFile(lockFile, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("locking the pipeline's folder: %w", err)
	}
	if err := lockJournal(j.lock); err != nil {
		if !errors.Is(err, osfile.ErrLocked) {
			return nil, fmt.Errorf("locking the pipeline's folder %s: %w", dir, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(j.lock, 20)) // who it is is said only to help
		return nil, fmt.Errorf("the pipeline is run already, by process %s in %s: wait for it, or end it", holder, dir)
	}
	_, err = j.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	if err = errors.Join(err, j.lock.Truncate(int64(len(strconv.Itoa(os.Getpid()))+1))); err != nil {
		return nil, fmt.Errorf("locking the pipeline's folder: %w", err)
	}
	j.document, err = readState(dir, name)
	return j, err
}

// isLocked tells whether a run works in a folder. It takes no lock to find out, which could keep a run from beginning.
func isLocked(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return false
	}
	defer f.Close()
	return journalIsLocked(f)
}

// readState reads the record in a folder without locking it, an empty one where there is none.
func readState(dir, name string) (stateDocument, error) {
	empty := stateDocument{Format: stateFormat, Name: name, Steps: map[string]*record{}, Seen: map[string]seen{}}
	path := filepath.Join(dir, stateFile)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("reading the pipeline's record: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err != nil {
		return empty, fmt.Errorf("reading the pipeline's record: %w", err)
	}
	d := empty
	if err := json.Unmarshal(data, &d); err != nil || len(data) > maxStateFile {
		return empty, fmt.Errorf("the pipeline's record %s is damaged: remove it, and every step is done again (jobs at SageMaker are found by their names)", path)
	}
	for name, r := range d.Steps {
		if r == nil {
			delete(d.Steps, name)
		}
	}
	switch {
	case d.Format != stateFormat:
		return empty, fmt.Errorf("the pipeline's record %s is of format %d, which this program does not know", path, d.Format)
	case d.Name != name:
		return empty, fmt.Errorf("the folder %s is that of the pipeline %q and not of %q: name another with --work", dir, d.Name, name)
	}
	return d, nil
}

func (j *journal) close() {
	if j.lock != nil {
		_ = j.lock.Close() // which unlocks it
	}
	if j.root != nil {
		_ = j.root.Close()
	}
}

// step is the record of a step, a copy; nil where there is none.
func (j *journal) step(name string) *record {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r := j.document.Steps[name]; r != nil {
		return r.clone()
	}
	return nil
}

func (r *record) clone() *record {
	c := *r
	if r.Job != nil {
		job := *r.Job
		c.Job = &job
	}
	return &c
}

// put makes r the record of a step. When it returns without an error, that is on disk and outlives a power failure.
func (j *journal) put(name string, r *record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	before := j.document.Steps[name]
	j.document.Steps[name] = r.clone()
	if err := j.save(); err != nil {
		if j.document.Steps[name] = before; before == nil {
			delete(j.document.Steps, name)
		}
		return err
	}
	return nil
}

// save replaces the file as a whole. A crash leaves the old one or the new one.
func (j *journal) save() error {
	data, err := json.MarshalIndent(&j.document, "", " ")
	if err != nil {
		return fmt.Errorf("writing the pipeline's record: %w", err)
	}
	if err := durable.WriteFileIn(j.root, stateFile, data, 0o644); err != nil {
		return fmt.Errorf("writing the pipeline's record in %s: %w", j.dir, err)
	}
	return nil
}

// keyOf is the digest of what a step is made from: a value whose JSON has all of it. It begins with the step's name, so that
// two steps never share one.
func keyOf(step string, from any) (string, error) {
	data, err := json.Marshal(struct {
		Step string `json:"step"`
		From any    `json:"from"`
	}{step, from})
	if err != nil {
		return "", fmt.Errorf("taking the digest of what %s is made from: %w", step, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// seen gives what is known of files, a copy.
func (j *journal) seen() map[string]seen {
	j.mu.Lock()
	defer j.mu.Unlock()
	known := maps.Clone(j.document.Seen)
	if known == nil {
		known = map[string]seen{}
	}
	return known
}

// remember keeps what is known of files. It is written with the next record: losing it costs no more than reading again.
func (j *journal) remember(known map[string]seen) {
	j.mu.Lock()
	defer j.mu.Unlock()
	maps.DeleteFunc(known, func(path string, _ seen) bool { _, err := os.Lstat(path); return err != nil })
	j.document.Seen = known
}
