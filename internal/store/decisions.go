package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/osfile"
)

const (
	// decisionsFolder is where they lie in the state directory.
	decisionsFolder = "decisions"
	decisionFormat  = 1
	// maxDecisionBytes is many times a decision among all backends.
	maxDecisionBytes = 64 << 10
	// maxDecisions bounds the folder: each version of each model leaves a file.
	// When there are more, the oldest go, down to keepDecisions.
	maxDecisions  = 1000
	keepDecisions = 900
)

// Decisions implements engine.Decisions with one small JSON file for each, in
// the folder "decisions" of the daemon's state directory. It may be used by many
// goroutines at once, and by several daemons that share the directory.
//
// A file appears whole or not at all to whoever reads while it is written. It is
// not forced to disk: after a power failure it may be empty, which is noticed,
// and all it costs is to time the backends once more.
type Decisions struct {
	root *os.Root
	mu   sync.Mutex // one writer at a time
}

// decisionFile is what a file holds.
type decisionFile struct {
	Format   int              `json:"picket_decision"`
	Key      string           `json:"key"`
	Decision *engine.Decision `json:"decision"`
}

// OpenDecisions opens the decisions in the state directory, which is made if it
// is not there. A folder into which other users can put files is refused: a
// decision says which backend answers. The caller closes them.
func OpenDecisions(state string) (*Decisions, error) {
	dir := filepath.Join(state, decisionsFolder)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder for decisions: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the folder of decisions: %w", err)
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkPrivate(info, os.Geteuid())
	}
	if err != nil {
		_ = root.Close() // nothing was written
		return nil, fmt.Errorf("opening the folder of decisions %s: %w", dir, err)
	}
	return &Decisions{root: root}, nil
}

// checkPrivate refuses a folder that others than the user euid and root can
// write to.
func checkPrivate(info fs.FileInfo, euid int) error {
	uid, known := osfile.Owner(info)
	if !known {
		return nil
	}
	if uid != 0 && int(uid) != euid {
		return fmt.Errorf("it belongs to user %d and the daemon runs as %d: remove it, or chown it to %d", uid, euid, euid)
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("its mode %04o lets other users write to it: remove it, or chmod it to 0700", mode)
	}
	return nil
}

// Close closes the folder.
func (d *Decisions) Close() error { return d.root.Close() }

// Recall implements engine.Decisions. An error says what is wrong with the file.
func (d *Decisions) Recall(key string) (*engine.Decision, error) {
	name, err := decisionName(key)
	if err != nil {
		return nil, err
	}
	// Without O_NONBLOCK a named pipe in the file's place would hold the load up.
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening a decision in %s: %w", d.root.Name(), err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("opening a decision: %s is not a regular file; remove it", d.path(name))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxDecisionBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading a decision: %w", err)
	}
	decision, err := parseDecision(data, key)
	if err != nil {
		return nil, fmt.Errorf("reading the decision in %s: %w", d.path(name), err)
	}
	return decision, nil
}

// parseDecision reads the content of the file for key.
func parseDecision(data []byte, key string) (*engine.Decision, error) {
	if len(data) > maxDecisionBytes {
		return nil, fmt.Errorf("it is larger than %d bytes", maxDecisionBytes)
	}
	var file decisionFile
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if decoder.More() || file.Decision == nil {
		return nil, errors.New("it is damaged: it does not hold one decision")
	}
	if file.Format != decisionFormat {
		return nil, fmt.Errorf("it is of format %d, not %d", file.Format, decisionFormat)
	}
	if file.Key != key {
		return nil, errors.New("it is the decision for another key")
	}
	return file.Decision, nil
}

// Remember implements engine.Decisions.
func (d *Decisions) Remember(key string, decision engine.Decision) error {
	name, err := decisionName(key)
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(decisionFile{decisionFormat, key, &decision}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing a decision: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.replace(name, append(data, '\n')); err != nil {
		return fmt.Errorf("writing a decision into %s: %w", d.root.Name(), err)
	}
	if err := d.prune(); err != nil {
		return fmt.Errorf("removing old decisions from %s: %w", d.root.Name(), err)
	}
	return nil
}

// path is where the file lies, for messages: those of a Root have the name alone.
func (d *Decisions) path(name string) string { return filepath.Join(d.root.Name(), name) }

// replace writes the file beside its place and moves it there.
func (d *Decisions) replace(name string, data []byte) error {
	temporary := fmt.Sprintf("%s.%016x", name, rand.Uint64()) // another daemon's is another
	f, err := d.root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(temporary, name)
	}
	if err != nil {
		_ = d.root.Remove(temporary) // the first error tells more
	}
	return err
}

// prune removes the oldest decisions where there are too many, what a daemon that
// was killed had not moved to its place among them. What has another name is not
// this package's and stays.
func (d *Decisions) prune() error {
	dir, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.Type().IsRegular() || !fileName.MatchString(e.Name()) })
	if len(entries) <= maxDecisions {
		return nil
	}
	var files []fs.FileInfo
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil { // else it is gone
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(x, y fs.FileInfo) int { return y.ModTime().Compare(x.ModTime()) })
	for _, old := range files[min(keepDecisions, len(files)):] {
		if err := d.root.Remove(old.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fileName is the form of the files' names, while they are written as well.
var fileName = regexp.MustCompile(`^[0-9a-f]{64}\.json(\.[0-9a-f]{16})?$`)

// decisionName is the file for key.
func decisionName(key string) (string, error) {
	if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
		return "", fmt.Errorf("finding a decision: the key %q is not 64 hexadecimal digits", key)
	}
	return key + ".json", nil
}
