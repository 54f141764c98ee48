package device_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/fleettest"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// home is a fleet in a folder, with one device.
type home struct {
	t         *testing.T
	bucket    fleet.Bucket
	place     string
	rootFile  string
	root      []byte
	dir       string
	files     string
	publisher *fleet.Publisher
	loader    *fleettest.Loader
}

func newHome(t *testing.T) *home {
	t.Helper()
	place := t.TempDir()
	b, err := fleet.NewFolder(place)
	if err != nil {
		t.Fatal(err)
	}
	h := homeIn(t, b)
	h.place = place
	return h
}

func homeIn(t *testing.T, b fleet.Bucket) *home {
	t.Helper()
	h := &home{t: t, bucket: b, dir: t.TempDir(), files: t.TempDir(), loader: &fleettest.Loader{}}
	keys, _, err := fleet.MakeKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if h.root, err = fleet.Init(t.Context(), b, keys, "pos", 1, nil); err != nil {
		t.Fatal(err)
	}
	h.rootFile = filepath.Join(h.files, "root.json")
	if err := os.WriteFile(h.rootFile, h.root, 0o600); err != nil {
		t.Fatal(err)
	}
	h.publisher = fleet.NewPublisher(b, keys, h.root, nil)
	return h
}

// want has the fleet want a version everywhere at once.
func (h *home) want(version string, size int) fleet.Package {
	h.t.Helper()
	p, err := fleettest.Publish(h.t.Context(), h.bucket, h.files, version, size)
	if err != nil {
		h.t.Fatal(err)
	}
	err = fleettest.Begin(h.t.Context(), h.publisher, "r"+version, p, nil, []float64{100}, fleet.Health{SilenceSeconds: 60}, time.Now().UTC())
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *home) agent(b fleet.Bucket) *device.Agent {
	h.t.Helper()
	a, err := device.New(device.Options{Name: "till-1", Fleet: "pos", Group: "default", Bucket: b, Root: h.root, Dir: h.dir, Loader: h.loader, Interval: time.Second})
	if err != nil {
		h.t.Fatal(err)
	}
	a.Start(h.t.Context())
	return a
}

// child is a device in a process of its own.
type child struct {
	command *exec.Cmd
	lines   *bufio.Scanner
}

func (h *home) child(deadly string) *child {
	h.t.Helper()
	c := exec.Command(os.Args[0], h.place, h.rootFile, h.dir, deadly)
	c.Env = append(os.Environ(), asDevice+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := c.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		h.t.Fatal(err)
	}
	one := &child{c, bufio.NewScanner(out)}
	h.t.Cleanup(one.kill)
	return one
}

// until reads what the device says until it is that, or it ends.
func (c *child) until(t *testing.T, want string) bool {
	t.Helper()
	for c.lines.Scan() {
		line := c.lines.Text()
		if strings.HasPrefix(line, "failed:") || strings.HasPrefix(line, "problem:") {
			t.Fatalf("the device says %q", line)
		}
		if line == want {
			return true
		}
	}
	return false
}

// TestKilledAtAnyMoment: a device is killed again and again while the fleet changes what it wants. Whenever it starts it
// can read what it kept, serves something that was wanted, and in the end what is wanted.
func TestKilledAtAnyMoment(t *testing.T) {
	h := newHome(t)
	h.want("1", 64<<10)
	c := h.child("none")
	if !c.until(t, "serving 1") {
		t.Fatal("the device ended")
	}
	last := 1
	for range 15 {
		last++
		h.want(fmt.Sprint(last), 64<<10)
		time.Sleep(time.Duration(rand.IntN(12)) * time.Millisecond)
		c.kill()
		c = h.child("none")
		if !c.lines.Scan() {
			t.Fatal("the device does not start")
		}
		if first := c.lines.Text(); first != fmt.Sprintf("serving %d", last) && first != fmt.Sprintf("serving %d", last-1) {
			t.Fatalf("killed while it went from %d to %d, the device says %q when it starts", last-1, last, first)
		}
		if !c.until(t, fmt.Sprintf("serving %d", last)) {
			t.Fatal("the device ended")
		}
	}
}

// kill ends the device as a loss of power would, but for what the system has not written yet.
func (c *child) kill() {
	_ = c.command.Process.Kill() // of no effect on one that has ended
	for c.lines.Scan() {
		continue // what it had said
	}
	_ = c.command.Wait() // it was killed
}

// TestPackageThatEndsTheDaemon: it is loaded twice, and then the device serves on and says that it failed.
func TestPackageThatEndsTheDaemon(t *testing.T) {
	h := newHome(t)
	h.want("1", 1000)
	first := h.child("none")
	if !first.until(t, "serving 1") {
		t.Fatal("the device ended")
	}
	first.kill()
	h.want("2", 1000)
	for try := range 2 {
		c := h.child("2")
		if c.until(t, "serving 2") {
			t.Fatal("a package that ends the daemon is served")
		}
		if err := c.command.Wait(); c.command.ProcessState.ExitCode() != 139 {
			t.Fatalf("at try %d the device ended with %v", try, err)
		}
	}
	c := h.child("2")
	for range 5 {
		if !c.until(t, "serving 1") {
			t.Fatal("the device ended a third time")
		}
	}
	c.kill()
	state, err := os.ReadFile(filepath.Join(h.dir, "device.json"))
	if err != nil || !strings.Contains(string(state), "ended 2 times") {
		t.Errorf("the device keeps %s, %v", state, err)
	}
}

// faulty is a bucket whose downloads go wrong.
type faulty struct {
	fleet.Bucket
	spoil func(path string) error
}

func (f *faulty) Download(ctx context.Context, key, path string, size int64) error {
	if err := f.Bucket.Download(ctx, key, path, size); err != nil {
		return err
	}
	return f.spoil(path)
}

// What goes wrong on the way of a package is no failure of it: the device serves on, and the next try finishes.
func TestPackageThatDoesNotArrive(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"a line that breaks": func(string) error { return errors.New("connection reset") },
		"another file of that size": func(path string) error {
			return os.WriteFile(path, []byte(strings.Repeat("x", 5000)), 0o600)
		},
		"a file that is cut": func(path string) error { return os.Truncate(path, 100) },
	} {
		h := newHome(t)
		one := h.want("1", 5000)
		if err := h.agent(h.bucket).Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.want("2", 5000)
		broken := h.agent(&faulty{h.bucket, spoil})
		for range 3 {
			if err := broken.Poll(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: Poll says %v", name, err)
			}
			if v := h.loader.Version("fraud"); v != one.Version {
				t.Errorf("%s: the device serves %s", name, v)
			}
		}
		if s := broken.Status(); s.Problem == "" || s.Models["fraud"] != "fraud@1" {
			t.Errorf("%s: the status is %+v", name, s)
		}
		if err := h.agent(h.bucket).Poll(t.Context()); err != nil || h.loader.Version("fraud") != "2" {
			t.Errorf("%s: afterwards the device serves %s, %v", name, h.loader.Version("fraud"), err)
		}
	}
}

// The store goes away while a device follows: it serves on, and follows again.
func TestStoreThatGoesAway(t *testing.T) {
	server := s3.Start(t)
	b, err := fleet.Open(t.Context(), "s3://"+server.NewBucket(t)+"/f", server.Options())
	if err != nil {
		t.Fatal(err)
	}
	h := homeIn(t, b)
	h.want("1", 5000)
	a := h.agent(h.bucket)
	if err := a.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Started again while nobody answers.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	h.loader = &fleettest.Loader{}
	a = h.agent(h.bucket)
	if err := a.Poll(ctx); err == nil {
		t.Error("nobody answers, and Poll says nothing")
	}
	cancel()
	if v := h.loader.Version("fraud"); v != "1" {
		t.Errorf("the device serves %q", v)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	h.want("2", 5000)
	if err := a.Poll(t.Context()); err != nil || h.loader.Version("fraud") != "2" {
		t.Errorf("afterwards the device serves %s, %v", h.loader.Version("fraud"), err)
	}
}
