package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// world is a fleet in a folder, and the clock of everybody in it.
type world struct {
	t      *testing.T
	bucket *Folder
	dir    string // of the bucket
	keyDir string
	keys   Keys
	root   []byte
	at     time.Time
}

func (w *world) now() time.Time { return w.at }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), keyDir: t.TempDir(), at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if w.bucket, err = NewFolder(w.dir); err != nil {
		t.Fatal(err)
	}
	if w.keys, _, err = MakeKeys(w.keyDir); err != nil {
		t.Fatal(err)
	}
	if w.root, err = Init(t.Context(), w.bucket, w.keys, "pos", 1, w.now); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) publisher() *Publisher { return NewPublisher(w.bucket, w.keys, w.root, w.now) }

func (w *world) reader(file string) *Reader {
	w.t.Helper()
	r, err := NewReader(ReaderOptions{Bucket: w.bucket, Root: w.root, File: file, Now: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// publish changes the one model of the group default to a version.
func (w *world) publish(version string) {
	w.t.Helper()
	if err := w.publisher().Change(w.t.Context(), func(ctx context.Context, e *Edit) error {
		return e.SetGroup(ctx, groupOf(version))
	}); err != nil {
		w.t.Fatal(err)
	}
}

func packageOf(version string) Package {
	sum := sha256.Sum256([]byte(version))
	return Package{
		Name: "fraud", Version: version, Digest: fmt.Sprintf("sha256:%x", sum), File: "packages/fraud-" + version + ".tar.gz",
		Size: 1000, SHA256: fmt.Sprintf("%x", sum), SHA1: fmt.Sprintf("%x", sum[:20]),
	}
}

func groupOf(version string) *Group {
	return &Group{Format: 1, Fleet: "pos", Group: "default", Models: []Model{{
		Name: "fraud", Package: packageOf(version), Rollout: Rollout{ID: "r" + version, Stages: []float64{10, 100}, Health: DefaultHealth()},
	}}, Pins: []Pin{}}
}

// version is what a reader takes the group to be at.
func versionOf(t *testing.T, r *Reader) string {
	t.Helper()
	g, err := r.Group(t.Context(), "pos", "default")
	if err != nil {
		t.Fatal(err)
	}
	return g.Models[0].Package.Version
}

func refresh(t *testing.T, r *Reader) {
	t.Helper()
	if _, err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// snapshot is all files of the bucket.
func (w *world) snapshot() map[string][]byte {
	w.t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(w.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(d.Name(), ".") {
			return err
		}
		rel, _ := filepath.Rel(w.dir, path)
		all[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// restore makes the bucket hold exactly these.
func (w *world) restore(files map[string][]byte) {
	w.t.Helper()
	for name := range w.snapshot() {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			w.t.Fatal(err)
		}
	}
	for name, data := range files {
		path := filepath.Join(w.dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestDocumentsReachAReader(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	file := filepath.Join(t.TempDir(), "view.json")
	r := w.reader(file)
	refresh(t, r)
	if v := versionOf(t, r); v != "1" {
		t.Errorf("the reader sees version %s", v)
	}
	if changed, err := r.Refresh(t.Context()); changed || err != nil {
		t.Errorf("nothing has changed, and Refresh says %v, %v", changed, err)
	}
	w.publish("2")
	if changed, err := r.Refresh(t.Context()); !changed || err != nil {
		t.Errorf("something has changed, and Refresh says %v, %v", changed, err)
	}
	if v := versionOf(t, r); v != "2" {
		t.Errorf("the reader sees version %s", v)
	}
	if v := versionOf(t, w.reader(file)); v != "2" {
		t.Errorf("a reader that was started again sees version %s before it has asked", v)
	}
	if _, err := r.Group(t.Context(), "pos", "other"); !errors.Is(err, ErrAbsent) {
		t.Errorf("a group that is none: %v", err)
	}
}

// Each attack is one that whoever can write to the bucket, and has no key, can do. The
// reader must refuse it, keep what it had, and take the true documents afterwards.
func TestAttacksOnTheBucket(t *testing.T) {
	other := newWorld(t) // with keys of its own
	other.publish("6")
	foreign := other.snapshot()
	for _, test := range []struct {
		name   string
		attack func(old, now map[string][]byte) map[string][]byte
		says   error
	}{
		{"replayed old documents", func(old, _ map[string][]byte) map[string][]byte { return old }, ErrUntrusted},
		{"an old timestamp", func(old, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = old["timestamp.json"]
			return now
		}, ErrUntrusted},
		{"foreign signatures", func(_, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = foreign["timestamp.json"]
			return now
		}, ErrUntrusted},
		{"a foreign fleet", func(_, _ map[string][]byte) map[string][]byte { return foreign }, ErrUntrusted},
		{"a foreign newer root", func(_, now map[string][]byte) map[string][]byte {
			now["2.root.json"] = bytes.Replace(foreign["1.root.json"], []byte(`"version":1`), []byte(`"version":2`), 1)
			now["timestamp.json"] = bytes.Replace(now["timestamp.json"], []byte(`"version":`), []byte(`"version":1`), 1)
			return now
		}, ErrUntrusted},
		{"a mix of old and new snapshots", func(old, now map[string][]byte) map[string][]byte {
			for name := range now {
				if strings.HasSuffix(name, ".snapshot.json") && old[name] == nil {
					now[name] = old["2.snapshot.json"]
				}
			}
			return now
		}, ErrUntrusted},
		{"a mix of old and new targets", func(old, now map[string][]byte) map[string][]byte {
			for name := range now {
				if strings.HasSuffix(name, ".targets.json") && old[name] == nil {
					now[name] = old["2.targets.json"]
				}
			}
			return now
		}, ErrUntrusted},
		{"a changed document of a group", func(old, now map[string][]byte) map[string][]byte {
			for name, data := range now {
				if strings.HasPrefix(name, "targets/groups/") && old[name] == nil {
					now[name] = bytes.ReplaceAll(data, []byte("fraud"), []byte("freud"))
				}
			}
			return now
		}, ErrUntrusted},
		{"deep JSON", func(_, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = bytes.Repeat([]byte("["), 60_000)
			return now
		}, ErrUntrusted},
		{"a null where the library follows a pointer", func(_, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = []byte(`{"signed":{"_type":"timestamp","spec_version":"1.0.31","version":99,"expires":"2036-01-01T00:00:00Z","meta":{"snapshot.json":null}},"signatures":[]}`)
			return now
		}, ErrUntrusted},
		{"a timestamp that names nothing", func(_, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = []byte(`{"signed":{"_type":"timestamp","spec_version":"1.0.31","version":99,"expires":"2036-01-01T00:00:00Z","meta":{}},"signatures":[]}`)
			return now
		}, ErrUntrusted},
		{"a huge timestamp", func(_, now map[string][]byte) map[string][]byte {
			now["timestamp.json"] = bytes.Repeat([]byte(" "), maxTimestampBytes+1)
			return now
		}, nil},
		{"no timestamp", func(_, now map[string][]byte) map[string][]byte {
			delete(now, "timestamp.json")
			return now
		}, ErrAbsent},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("1")
			old := w.snapshot()
			file := filepath.Join(t.TempDir(), "view.json")
			r := w.reader(file)
			w.publish("2")
			refresh(t, r)
			if v := versionOf(t, r); v != "2" {
				t.Fatalf("the reader sees version %s", v)
			}
			w.publish("3")
			truth := w.snapshot()
			w.restore(test.attack(old, maps.Clone(truth)))
			_, err := r.Refresh(t.Context())
			if err == nil {
				_, err = r.Group(t.Context(), "pos", "default") // what only then is read
			}
			if err == nil || test.says != nil && !errors.Is(err, test.says) {
				t.Errorf("Refresh says %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("it is more than a sentence: %v", err)
			}
			// Started again, it is as careful.
			again := w.reader(file)
			if _, err := again.Refresh(t.Context()); err == nil {
				if _, err := again.Group(t.Context(), "pos", "default"); err == nil {
					t.Error("a reader that was started again takes it")
				}
			}
			w.restore(truth)
			refresh(t, r)
			if v := versionOf(t, r); v != "3" {
				t.Errorf("afterwards the reader sees version %s", v)
			}
		})
	}
}

// A mirror that never changes is noticed when its documents expire, the reader keeps
// what it had, and goes on when it thaws.
func TestFrozenMirror(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	r := w.reader(filepath.Join(t.TempDir(), "view.json"))
	refresh(t, r)
	w.at = w.at.Add(timestampLife - time.Minute)
	refresh(t, r)
	w.at = w.at.Add(2 * time.Minute)
	if _, err := r.Refresh(t.Context()); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "clock") {
		t.Errorf("of a frozen mirror Refresh says %v", err)
	}
	if v := versionOf(t, r); v != "1" {
		t.Errorf("the reader sees version %s", v)
	}
	// Setting the clock back brings them not back to life.
	later := w.at
	w.at = w.at.Add(-time.Hour)
	refresh(t, r) // they were good then, and the reader has not learnt anything later
	w.at = later
	w.publish("2")
	refresh(t, r)
	back := later.Add(-2 * timestampLife)
	w.at = back
	if got := r.clock(); got.Before(later.Add(-time.Second)) {
		t.Errorf("with the clock set back the reader takes it to be %v", got)
	}
}

// A host that was away while all keys were changed, some twice, and everything has
// expired that it has.
func TestAMonthAway(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	file := filepath.Join(t.TempDir(), "view.json")
	refresh(t, w.reader(file))
	first := w.root
	for i, role := range []string{"root", "online", "targets", "root", "online"} {
		w.at = w.at.Add(6 * 24 * time.Hour)
		root, err := w.publisher().Rotate(t.Context(), w.keyDir, role, "")
		if err != nil {
			t.Fatalf("changing the %s key: %v", role, err)
		}
		if w.keys, err = ReadKeys(w.keyDir); err != nil {
			t.Fatal(err)
		}
		w.root = root
		w.publish(fmt.Sprint(i + 2))
	}
	w.root = first
	r := w.reader(file)
	if err := r.Fresh(); !errors.Is(err, ErrExpired) {
		t.Errorf("what the host had says %v", err)
	}
	if v := versionOf(t, r); v != "1" {
		t.Errorf("before it has asked, the host sees version %s", v)
	}
	refresh(t, r)
	if v := versionOf(t, r); v != "6" {
		t.Errorf("the host sees version %s", v)
	}
	if v := r.Versions()["root"].Version; v != 6 {
		t.Errorf("the host has root %d", v)
	}
}

// interrupted is a bucket that fails: to write what wanted says, after having written it all the same where lost says so.
type interrupted struct {
	Bucket
	wanted func(key string) bool
	lost   bool
	blind  bool // and from then on it cannot be read
	cut    bool
}

var errInterrupted = errors.New("the line was cut")

func (b *interrupted) Put(ctx context.Context, key string, data []byte, c Condition) error {
	if !b.wanted(key) {
		return b.Bucket.Put(ctx, key, data, c)
	}
	if b.lost {
		if err := b.Bucket.Put(ctx, key, data, c); err != nil {
			return err
		}
	}
	b.cut = true
	return errInterrupted
}

func (b *interrupted) Get(ctx context.Context, key, etag string, limit int64) ([]byte, string, error) {
	if b.cut && b.blind && b.wanted(key) {
		return nil, "", errInterrupted
	}
	return b.Bucket.Get(ctx, key, etag, limit)
}

// A beginning that was interrupted is gone on with, with the same keys and no others.
func TestInterruptedBeginning(t *testing.T) {
	for name, wanted := range map[string]func(key string) bool{
		"after the root":       func(key string) bool { return key != versionedKey(1, "root") },
		"before the timestamp": func(key string) bool { return key == timestampKey },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			folder, err := NewFolder(dir)
			if err != nil {
				t.Fatal(err)
			}
			w := &world{t: t, bucket: folder, dir: dir, keyDir: t.TempDir(), at: time.Now()}
			if w.keys, _, err = MakeKeys(w.keyDir); err != nil {
				t.Fatal(err)
			}
			if _, err := Init(t.Context(), &interrupted{Bucket: folder, wanted: wanted}, w.keys, "pos", 1, w.now); !errors.Is(err, errInterrupted) {
				t.Fatalf("the first try says %v", err)
			}
			others, _, err := MakeKeys(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			mixed := w.keys
			mixed.Online = others.Online
			for _, keys := range []Keys{others, mixed} {
				if _, err := Init(t.Context(), folder, keys, "pos", 1, w.now); err == nil || !strings.Contains(err.Error(), "with other keys") {
					t.Errorf("with other keys: %v", err)
				}
			}
			if w.root, err = Init(t.Context(), folder, w.keys, "pos", 1, w.now); err != nil {
				t.Fatal(err)
			}
			w.publish("1")
			r := w.reader("")
			refresh(t, r)
			if v := versionOf(t, r); v != "1" {
				t.Errorf("afterwards the reader sees version %s", v)
			}
			if _, err := Init(t.Context(), folder, w.keys, "pos", 1, w.now); err == nil || !strings.Contains(err.Error(), "there is one already") {
				t.Errorf("once it is begun: %v", err)
			}
		})
	}
}

// Whenever a change of keys is interrupted, the key that counts is in the folder, and the fleet can go on with it.
func TestInterruptedChangesOfKeys(t *testing.T) {
	newRoot := func(key string) bool { return key == versionedKey(2, "root") }
	for name, c := range map[string]struct {
		bucket interrupted
		role   string
		says   string // of the error; empty for none
		place  string // of the new key; empty for none
	}{
		"before the root": {interrupted{wanted: newRoot}, "targets", "the new key stays in", targetsKeyFile + ".new"},
		"its answer lost": {interrupted{wanted: newRoot, lost: true}, "targets", "", targetsKeyFile},
		"and all cut off": {interrupted{wanted: newRoot, lost: true, blind: true}, "targets", "the new key stays in", targetsKeyFile + ".new"},
		"after the root":  {interrupted{wanted: func(key string) bool { return key == timestampKey }}, "targets", "run picket fleet refresh", targetsKeyFile},
		"the online key":  {interrupted{wanted: func(key string) bool { return key == timestampKey }}, "online", "run picket fleet refresh", onlineKeyFile},
		"of the root":     {interrupted{wanted: newRoot, lost: true}, "root", "", rootKeyPrefix + ".pem"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.publish("1")
			sound := w.bucket
			c.bucket.Bucket = sound
			root, err := NewPublisher(&c.bucket, w.keys, w.root, w.now).Rotate(t.Context(), w.keyDir, c.role, "")
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %v, want %q", err, c.says)
			}
			if (root != nil) != (err == nil) {
				t.Errorf("the root document has %d bytes beside %v", len(root), err)
			}
			key, err := readKey(filepath.Join(w.keyDir, c.place))
			if err != nil {
				t.Fatalf("the new key: %v", err)
			}
			if c.bucket.lost && c.bucket.blind { // the owner does what the error says
				if err := os.Rename(key.File, filepath.Join(w.keyDir, targetsKeyFile)); err != nil {
					t.Fatal(err)
				}
			}
			if w.keys, err = ReadKeys(w.keyDir); err != nil {
				t.Fatal(err)
			}
			if root != nil {
				w.root = root
			}
			w.publish("2")
			r := w.reader("")
			refresh(t, r)
			if v := versionOf(t, r); v != "2" {
				t.Errorf("afterwards the reader sees version %s", v)
			}
		})
	}
}

// A key that somebody else's root leaves no place for is not kept.
func TestTwoChangesOfKeysAtOnce(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	taken := &interrupted{Bucket: w.bucket, wanted: func(key string) bool { return key == versionedKey(2, "root") }}
	if err := w.bucket.Put(t.Context(), versionedKey(2, "root"), []byte("another"), Condition{}); err != nil {
		t.Fatal(err)
	}
	p := w.publisher()
	if put, err := p.putRoot(t.Context(), 2, []byte("ours")); put != refused || !errors.Is(err, ErrConflict) {
		t.Errorf("over another's root: %v, %v", put, err)
	}
	p.bucket = taken
	if put, err := p.putRoot(t.Context(), 2, []byte("ours")); put != refused || !errors.Is(err, errInterrupted) {
		t.Errorf("over another's root, with the answer lost: %v, %v", put, err)
	}
}

// An online key that was stolen and replaced is worth nothing, and the version that it
// was driven to does not stand in the way.
func TestStolenOnlineKey(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	stolen := w.keys
	r := w.reader("")
	refresh(t, r)
	root, err := w.publisher().Rotate(t.Context(), w.keyDir, "online", "")
	if err != nil {
		t.Fatal(err)
	}
	sound := w.snapshot()
	thief := NewPublisher(w.bucket, Keys{Online: stolen.Online}, w.root, w.now)
	if err := thief.Change(t.Context(), func(ctx context.Context, e *Edit) error {
		return e.SetProgress(ctx, &Progress{Fleet: "pos", Group: "default", Rollouts: []RolloutState{{Model: "fraud", Rollout: "r1", State: Done}}})
	}); err != nil {
		t.Fatalf("the thief can write, which this test wants: %v", err)
	}
	if _, err := r.Refresh(t.Context()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("of documents by the thief Refresh says %v", err)
	}
	// The owner shuts the thief out of the bucket, puts the timestamp back, and goes on.
	w.restore(sound)
	w.root = root
	if w.keys, err = ReadKeys(w.keyDir); err != nil {
		t.Fatal(err)
	}
	w.publish("2")
	refresh(t, r)
	if v := versionOf(t, r); v != "2" {
		t.Errorf("afterwards the reader sees version %s", v)
	}
}

// With the online key alone no group can be changed.
func TestOnlineKeyCannotSayWhatRuns(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	p := NewPublisher(w.bucket, Keys{Online: w.keys.Online}, w.root, w.now)
	err := p.Change(t.Context(), func(ctx context.Context, e *Edit) error { return e.SetGroup(ctx, groupOf("9")) })
	if err == nil || !strings.Contains(err.Error(), targetsKeyFile) {
		t.Errorf("Change says %v", err)
	}
	if err := p.Change(t.Context(), func(ctx context.Context, e *Edit) error {
		return e.SetProgress(ctx, &Progress{Fleet: "pos", Group: "default", Rollouts: []RolloutState{}})
	}); err != nil {
		t.Errorf("the progress, which it may change: %v", err)
	}
	// Nor by signing the targets with the wrong key.
	forger := NewPublisher(w.bucket, Keys{Online: w.keys.Online, Targets: w.keys.Online}, w.root, w.now)
	if err := forger.Change(t.Context(), func(ctx context.Context, e *Edit) error { return e.SetGroup(ctx, groupOf("9")) }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reader("").Refresh(t.Context()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("of forged targets Refresh says %v", err)
	}
}

func TestSeveralWriters(t *testing.T) {
	w := newWorld(t)
	const writers, each = 3, 3
	done := make(chan error, writers)
	for i := range writers {
		go func() {
			p := w.publisher()
			for j := range each {
				if err := p.Change(t.Context(), func(ctx context.Context, e *Edit) error {
					d, err := e.Reader.Devices(ctx)
					if err != nil {
						return err
					}
					d.Devices[fmt.Sprintf("device-%d-%d", i, j)] = "default"
					return e.SetDevices(ctx, d)
				}); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	r := w.reader("")
	refresh(t, r)
	d, err := r.Devices(t.Context())
	if err != nil || len(d.Devices) != writers*each {
		t.Errorf("%d devices are there, %v", len(d.Devices), err)
	}
}

// What was signed anew keeps devices going without the targets key.
func TestRenew(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	p := NewPublisher(w.bucket, Keys{Online: w.keys.Online}, w.root, w.now)
	renew := func() (needed bool) {
		if err := p.Change(t.Context(), func(_ context.Context, e *Edit) error {
			if needed = e.Renew(); !needed {
				return errors.New("nothing to do")
			}
			return nil
		}); needed && err != nil {
			t.Fatal(err)
		}
		return needed
	}
	if renew() {
		t.Error("fresh documents are signed anew")
	}
	r := w.reader("")
	for range 8 {
		w.at = w.at.Add(timestampLife - time.Hour)
		if !renew() {
			t.Fatal("documents that will expire in an hour are not signed anew")
		}
		refresh(t, r)
	}
}

func TestDamagedView(t *testing.T) {
	w := newWorld(t)
	w.publish("1")
	file := filepath.Join(t.TempDir(), "view.json")
	refresh(t, w.reader(file))
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{nil, data[:len(data)/2], bytes.Replace(data, []byte(`"root"`), []byte(`"toor"`), 1)} {
		if err := os.WriteFile(file, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewReader(ReaderOptions{Bucket: w.bucket, Root: w.root, File: file, Now: w.now}); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("of a damaged view NewReader says %v", err)
		}
	}
}

func TestStagesNest(t *testing.T) {
	r := Rollout{Stages: []float64{1, 5, 25, 60, 100}}
	counts := make([]int, len(r.Stages))
	const devices = 20_000
	for i := range devices {
		name, in := fmt.Sprintf("pos-%d", i), false
		for stage := range r.Stages {
			now := r.Reaches(stage, name)
			if in && !now {
				t.Fatalf("%s is in a stage and not in the next", name)
			}
			if in = now; now {
				counts[stage]++
			}
		}
		if !in {
			t.Fatalf("%s is in no stage", name)
		}
	}
	for stage, want := range r.Stages {
		got := float64(counts[stage]) / devices * 100
		if diff := got - want; diff < -1.5 || diff > 1.5 { // four standard deviations of the hash, which never changes
			t.Errorf("stage %v has %v percent of the devices", want, got)
		}
	}
}

func TestWhatADeviceWants(t *testing.T) {
	g := groupOf("2")
	before := packageOf("1")
	g.Models[0].Previous = &before
	early, late := "", ""
	for i := 0; early == "" || late == ""; i++ {
		name := fmt.Sprintf("device-%d", i)
		if g.Models[0].Rollout.Reaches(0, name) {
			early = name
		} else {
			late = name
		}
	}
	progress := func(stage int, s State) *Progress {
		return &Progress{Rollouts: []RolloutState{{Model: "fraud", Rollout: "r2", Stage: stage, State: s}}}
	}
	for _, test := range []struct {
		device string
		p      *Progress
		want   string
	}{
		{early, nil, "1"}, {early, progress(0, Running), "2"}, {late, progress(0, Running), "1"}, {late, progress(1, Running), "2"},
		{early, progress(0, Paused), "2"}, {late, progress(0, Paused), "1"}, {early, progress(1, Halted), "1"}, {late, progress(0, Done), "2"},
		{early, &Progress{Rollouts: []RolloutState{{Model: "fraud", Rollout: "another", Stage: 1, State: Done}}}, "1"},
	} {
		all := g.For(test.device, test.p)
		if len(all) != 1 || all[0].Package.Version != test.want {
			t.Errorf("%s wants %+v, should version %s", test.device, all, test.want)
		}
	}
	g.Pins = []Pin{{ID: "p1", Model: "fraud", Package: packageOf("7")}, {ID: "p2", Device: late, Model: "fraud", Package: packageOf("8")}}
	if v := g.For(late, nil)[0].Package.Version; v != "8" {
		t.Errorf("a pinned device wants %s", v)
	}
	if v := g.For(early, progress(1, Done))[0].Package.Version; v != "7" {
		t.Errorf("a device of a pinned group wants %s", v)
	}
}

func FuzzDocuments(f *testing.F) {
	g, _ := encode(groupOf("1"))
	f.Add(g)
	p, _ := encode(&Progress{Format: 1, Fleet: "pos", Group: "default", Rollouts: []RolloutState{{Model: "fraud", Rollout: "r1", State: Halted, Reason: "why"}}})
	f.Add(p)
	d, _ := encode(&Devices{Format: 1, Fleet: "pos", Devices: map[string]string{"a": "b"}})
	f.Add(d)
	f.Add([]byte(`{"picket_group":1,"fleet":"a","group":"b","models":null,"pins":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if g, err := parse[Group](data); err == nil {
			roundTrip(t, g)
			g.For("device", nil)
		}
		if p, err := parse[Progress](data); err == nil {
			roundTrip(t, p)
		}
		if d, err := parse[Devices](data); err == nil {
			roundTrip(t, d)
		}
	})
}

// roundTrip wants a document that was read to be written and read as the same.
func roundTrip[T document](t *testing.T, doc *T) {
	t.Helper()
	data, err := encode(doc)
	if err != nil {
		t.Fatalf("what was read cannot be written: %v", err)
	}
	again, err := parse[T](data)
	if err != nil {
		t.Fatalf("what was written cannot be read: %v", err)
	}
	if second, err := encode(again); err != nil || !bytes.Equal(data, second) {
		t.Fatalf("written again it is %s, not %s; %v", second, data, err)
	}
}

// FuzzView has the documents of TUF be anything: a reader must not take any that its
// root has not signed, and must not end.
func FuzzView(f *testing.F) {
	dir := f.TempDir()
	b, err := NewFolder(dir)
	if err != nil {
		f.Fatal(err)
	}
	keys, _, err := MakeKeys(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	root, err := Init(f.Context(), b, keys, "pos", 1, time.Now)
	if err != nil {
		f.Fatal(err)
	}
	for _, key := range []string{"timestamp.json", "1.snapshot.json", "1.targets.json", "1.progress.json", "1.root.json"} {
		data, _, err := b.Get(f.Context(), key, "", 1<<20)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range []string{"timestamp.json", "1.snapshot.json", "1.targets.json", "2.root.json"} {
			r, err := NewReader(ReaderOptions{Bucket: one{b, key, data}, Root: root})
			if err != nil {
				t.Fatal(err)
			}
			was, _, err := b.Get(t.Context(), key, "", 1<<20)
			same := err == nil && sameJSON(was, data)
			if _, err := r.Refresh(t.Context()); err == nil && !same {
				t.Fatalf("%s is taken: %s", key, data)
			}
		}
	})
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return bytes.Equal(p, q)
}

// one is a bucket with another content for one key.
type one struct {
	Bucket
	key  string
	data []byte
}

func (o one) Get(ctx context.Context, key, etag string, limit int64) ([]byte, string, error) {
	if key == o.key {
		return o.data, "", nil
	}
	return o.Bucket.Get(ctx, key, etag, limit)
}
