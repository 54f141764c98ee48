package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// quick is a policy for faults that the test ends itself.
func quick() cloud.Policy {
	return cloud.Policy{First: 10 * time.Millisecond, Longest: 50 * time.Millisecond, Patience: 20 * time.Second}
}

// once does not try again.
func once() cloud.Policy {
	return cloud.Policy{First: time.Millisecond, Longest: time.Millisecond, Patience: time.Nanosecond}
}

// random are bytes that no two of which are alike for long, so that a part in the wrong place is seen.
func random(n int) []byte {
	source := rand.NewChaCha8([32]byte{1, byte(n)})
	b := make([]byte, n)
	_, _ = source.Read(b) // it never fails
	return b
}

// place is a store with a bucket, a proxy before it, and a folder to pull into.
type place struct {
	t      *testing.T
	server *s3.Server
	proxy  *s3.Proxy
	bucket string
	dir    string
	root   *os.Root
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, server: s3.Start(t), dir: t.TempDir()}
	p.proxy = s3.NewProxy(t, p.server)
	p.bucket = p.server.NewBucket(t)
	p.root = openRoot(t, p.dir)
	return p
}

func openRoot(t *testing.T, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// object is one in the bucket, reached through the proxy.
func (p *place) object(key string) Object {
	p.t.Helper()
	client, err := p.proxy.Options().S3(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return Object{Client: client, Bucket: p.bucket, Key: key}
}

// push stores body with its digest, as picket does.
func (p *place) push(key string, body []byte) {
	p.t.Helper()
	file := p.file(body)
	if _, err := Push(p.t.Context(), file, Object{Client: p.server.Client(p.t), Bucket: p.bucket, Key: key}, PushOptions{Retry: once()}); err != nil {
		p.t.Fatalf("pushing %s: %v", key, err)
	}
}

func (p *place) file(body []byte) *os.File {
	p.t.Helper()
	path := filepath.Join(p.t.TempDir(), "file")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		p.t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = file.Close() })
	return file
}

// has fails unless the file is there with exactly these bytes, and nothing incomplete is left of it.
func (p *place) has(name string, body []byte) {
	p.t.Helper()
	got, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	if !bytes.Equal(got, body) {
		p.t.Errorf("%s has other bytes than the object", name)
	}
	for _, suffix := range []string{partSuffix, stateSuffix} {
		if _, err := os.Lstat(filepath.Join(p.dir, Folder, name+suffix)); err == nil {
			p.t.Errorf("%s%s is left", name, suffix)
		}
	}
}

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func TestPullAndPullAgain(t *testing.T) {
	p := newPlace(t)
	for _, size := range []int{0, 1, leafBytes - 1, leafBytes, leafBytes + 1, 5*leafBytes + 17} {
		body := random(size)
		name := "m-" + string(rune('a'+size%26)) + ".tar.gz"
		p.push(name, body)
		var last atomic.Int64
		o := PullOptions{PartBytes: leafBytes, Parallel: 3, Retry: once(), Progress: func(done, total int64) {
			if done < last.Load() || done > total || total != int64(size) {
				t.Errorf("progress %d of %d after %d", done, total, last.Load())
			}
			last.Store(done)
		}}
		got, err := Pull(t.Context(), p.object(name), p.root, name, o)
		if err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got.SHA256 != digestOf(body) || !got.Confirmed || got.Transferred != int64(size) || got.Resumed != 0 || got.Unchanged {
			t.Errorf("%d bytes: %+v", size, got)
		}
		if last.Load() != int64(size) {
			t.Errorf("%d bytes: the last progress was %d", size, last.Load())
		}
		p.has(name, body)
		again, err := Pull(t.Context(), p.object(name), p.root, name, o)
		if err != nil || !again.Unchanged || again.Transferred != 0 || again.SHA256 != got.SHA256 {
			t.Errorf("%d bytes again: %+v, %v", size, again, err)
		}
	}
}

// A file that was brought by other means is the object if its bytes are, and is otherwise left alone.
func TestPullOverFileOfOthers(t *testing.T) {
	p := newPlace(t)
	body := random(3 * leafBytes)
	p.push("m-1", body)
	path := filepath.Join(p.dir, "m-1")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once()})
	if err != nil || !got.Unchanged {
		t.Fatalf("the same bytes: %+v, %v", got, err)
	}
	for _, other := range [][]byte{[]byte("other"), append([]byte{body[0] ^ 1}, body[1:]...)} {
		if err := os.WriteFile(path, other, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once()}); !errors.Is(err, ErrOther) {
			t.Fatalf("other bytes: %v", err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, other) {
			t.Fatal("a refused pull changed the file")
		}
	}
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once(), Replace: true}); err != nil {
		t.Fatal(err)
	}
	p.has("m-1", body)
}

// Every connection is cut again and again: one call finishes all the same.
func TestPullOnBrokenLine(t *testing.T) {
	p := newPlace(t)
	body := random(20 * leafBytes)
	p.push("m-1", body)
	p.proxy.Cut(t, 3*leafBytes/2)
	got, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: 4 * leafBytes, Parallel: 3, Retry: quick()})
	if err != nil {
		t.Fatal(err)
	}
	if got.Transferred != int64(len(body)) {
		t.Errorf("%d bytes were kept of what came, the object has %d", got.Transferred, len(body))
	}
	p.has("m-1", body)
}

// The line goes down in the middle and comes back; the store is killed and comes back.
func TestPullSurvivesOutage(t *testing.T) {
	p := newPlace(t)
	body := random(32 * leafBytes)
	p.push("m-1", body)
	p.proxy.Slow(t, 2<<10) // KiB a second
	reports := 0
	policy := quick()
	var outage atomic.Bool
	policy.Report = func(err error, _ time.Duration) {
		if !cloud.Temporary(err) {
			t.Errorf("reported: %v", err)
		}
		switch reports++; reports {
		case 3:
			if err := p.server.Resume(); err != nil {
				t.Error(err)
			}
			p.proxy.Up(t)
		}
	}
	got, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: 2 * leafBytes, Parallel: 2, Retry: policy, Progress: func(done, _ int64) {
		if done > 0 && outage.CompareAndSwap(false, true) {
			p.proxy.Clear(t)
			if err := p.server.Kill(); err != nil {
				t.Error(err)
			}
			p.proxy.Down()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !outage.Load() || reports < 3 {
		t.Errorf("there was no outage: %d reports", reports)
	}
	if got.Transferred != int64(len(body)) {
		t.Errorf("%d bytes came", got.Transferred)
	}
	p.has("m-1", body)
}

func TestPullNoticesChange(t *testing.T) {
	p := newPlace(t)
	before, after := random(16*leafBytes), random(16*leafBytes+1)
	p.push("m-1", before)
	p.proxy.Slow(t, 1<<10)
	var changed atomic.Bool
	var said []string
	policy := quick()
	policy.Report = func(err error, _ time.Duration) { said = append(said, err.Error()) }
	got, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: leafBytes, Parallel: 2, Retry: policy, Progress: func(done, _ int64) {
		if done > 0 && changed.CompareAndSwap(false, true) {
			p.server.Put(t, p.bucket, "m-1", after)
			p.proxy.Clear(t)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if !changed.Load() || !strings.Contains(strings.Join(said, "\n"), "the object changed while it was fetched") {
		t.Errorf("the change was not said: %q", said)
	}
	if got.SHA256 != digestOf(after) {
		t.Error("what was pulled is not what is there now")
	}
	p.has("m-1", after)
}

// An object whose bytes are not those that its digest is of is not kept.
func TestPullRefusesOtherBytes(t *testing.T) {
	p := newPlace(t)
	body := random(3 * leafBytes)
	p.push("m-1", body)
	stored := filepath.Join(p.server.Dir, p.bucket, "m-1")
	damaged, err := os.OpenFile(stored, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := damaged.WriteAt([]byte{body[70_000] ^ 4}, 70_000); err != nil {
		t.Fatal(err)
	}
	if err := damaged.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{PartBytes: leafBytes, Retry: once()})
	if err == nil || !strings.Contains(err.Error(), "not those that were pushed") {
		t.Fatalf("a flipped bit: %v", err)
	}
	for _, name := range []string{"m-1", Folder + "/m-1" + partSuffix} {
		if _, err := os.Lstat(filepath.Join(p.dir, name)); err == nil {
			t.Errorf("%s is there", name)
		}
	}
}

func TestPullAsksBeforeTheName(t *testing.T) {
	p := newPlace(t)
	body := random(2 * leafBytes)
	p.push("m-1", body)
	no := errors.New("nobody signed it")
	seen := 0
	o := PullOptions{Retry: once(), Check: func(f *os.File) error {
		seen++
		got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("Check sees %d bytes, %v", len(got), err)
		}
		if _, err := os.Lstat(filepath.Join(p.dir, "m-1")); err == nil {
			t.Error("the file has its name before Check agreed")
		}
		return no
	}}
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", o); !errors.Is(err, no) {
		t.Fatalf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, "m-1")); err == nil || seen != 1 {
		t.Errorf("a refused file is there, Check was asked %d times", seen)
	}
}

// One pull of a file at a time; the names of others, and of what is no file here, are refused.
func TestPullNames(t *testing.T) {
	p := newPlace(t)
	p.push("m-1", random(leafBytes))
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "../a", "/a", "a\x00b"} {
		if _, err := Pull(t.Context(), p.object("m-1"), p.root, name, PullOptions{Retry: once()}); err == nil || !strings.Contains(err.Error(), "name of a file") {
			t.Errorf("%q: %v", name, err)
		}
	}
	part, about, err := lockPart(p.root, "m-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once()}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second pull: %v", err)
	}
	_, _ = part.Close(), about.Close()
	if _, err := Pull(t.Context(), p.object("m-1"), p.root, "m-1", PullOptions{Retry: once()}); err != nil {
		t.Error(err)
	}
	if _, err := Pull(t.Context(), p.object("m-2"), p.root, "m-2", PullOptions{Retry: once()}); !cloud.NotFound(err) || !strings.Contains(err.Error(), "there is no such object") {
		t.Errorf("an object that is not there: %v", err)
	}
	elsewhere := p.object("m-1")
	elsewhere.Bucket += "-none"
	if _, err := Pull(t.Context(), elsewhere, p.root, "m-3", PullOptions{Retry: once()}); !cloud.NotFound(err) || !strings.Contains(err.Error(), "no such bucket") {
		t.Errorf("a bucket that is not there: %v", err)
	}
}
