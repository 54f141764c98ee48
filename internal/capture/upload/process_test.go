package upload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/tensor"
)

// envServe has the test binary prepare, as a program of that version.
const envServe = "PICKET_TEST_SERVE_PREPARING"

func serve(version string) int {
	if err := Serve(os.Stdin, os.Stdout, version, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// otherProcess is a Preparer of which this binary, as a program of that version, is the other process.
func otherProcess(t *testing.T, r *Recipe, version string, log *slog.Logger) *Process {
	p := &Process{Version: "1", Recipe: *r, Log: log, Command: func() *exec.Cmd {
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), envServe+"="+version)
		command.Stderr = os.Stderr
		return command
	}}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// recipeOf lets all of a model leave but what it hashes, drops and buckets.
func recipeOf(c Compression, objectBytes int) *Recipe {
	return &Recipe{
		Residency: residency.Options{Version: "7", Salt: []byte("0123456789abcdef"), Models: []residency.ModelRule{
			{
				Model: "fraud", Samples: true, Otherwise: residency.Allow, Outputs: residency.Allow, Auxiliary: residency.Allow, Truth: residency.Allow, IDs: residency.Hash,
				Features: []residency.FeatureRule{{Feature: "1", Action: residency.Hash}, {Feature: "2", Action: residency.Bucket, Bounds: []float64{0, 10.5}}},
			},
			{Model: "two", Samples: true, Otherwise: residency.Allow, IDs: residency.Allow},
		}},
		Format: format.Options{Prefix: "p", Fleet: "fleet", Device: "device", Embed: 64},
		Base:   "s3://bucket/",
		Kinds:  []format.Kind{format.Endpoint}, KindsOf: map[string][]format.Kind{"fraud": {format.Edge, format.Endpoint, format.Parquet}},
		Compression: c, ObjectBytes: objectBytes,
	}
}

// allSorts fills a spool with records of each sort, and returns its segments.
func allSorts(t *testing.T, s *spool.Spool) []spool.Segment {
	t.Helper()
	at := time.Date(2026, 3, 4, 5, 59, 59, 0, time.UTC)
	var some []*capture.Entry
	for n := range 120 {
		e := event([]string{"fraud", "two", "withheld"}[n%3], n, at.Add(time.Duration(n)*10*time.Millisecond))
		switch r := &e.Record; {
		case n%10 == 0:
			r.Kind, r.AuxInputs = capture.Explicit, []capture.Payload{{Name: "picture", Encoding: capture.Base64, Data: []byte("AAAA")}}
			r.Inputs = append(r.Inputs, tensorOf("large", 300), capture.Tensor{Name: "text", DType: tensor.Bytes, Shape: []int64{1}, Data: []byte{0xff, 'x'}})
		case n%7 == 0:
			*e = *capture.Single(&capture.Record{Inference: fmt.Sprint(n), Time: r.Time, Model: r.Model, Kind: capture.Truth, AuxOutputs: []capture.Payload{{Encoding: capture.CSV, Data: []byte("1")}}})
		}
		if some = append(some, e); n%20 == 19 {
			if err := s.Append(t.Context(), some...); err != nil {
				t.Fatal(err)
			}
			some = nil
		}
	}
	within(t, "the segments are sealed", func() bool {
		records := int64(0)
		for _, g := range s.Segments() {
			records += g.Records
		}
		return records == 120
	})
	return s.Segments()
}

func tensorOf(name string, n int) capture.Tensor {
	data := []byte{}
	for i := range n {
		data = binary.LittleEndian.AppendUint32(data, uint32(i))
	}
	return capture.Tensor{Name: name, DType: tensor.Int32, Shape: []int64{1, int64(n)}, Data: data}
}

// inMemory is the Work of a segment, which keeps the objects.
type inMemory struct {
	*spool.Spool
	next    func() (*spool.Payload, error, bool)
	onNext  func() error
	objects []Object
}

// Next implements Work.
func (m *inMemory) Next() (*spool.Payload, error) {
	if m.onNext != nil {
		if err := m.onNext(); err != nil {
			return nil, err
		}
	}
	p, err, more := m.next()
	if !more {
		return nil, nil
	}
	return p, err
}

// Object implements Work.
func (m *inMemory) Object(o *Object) error {
	c := *o
	c.Items = slices.Clone(o.Items)
	m.objects = append(m.objects, c)
	return nil
}

// workOf is a segment, with a batch of nonsense behind it.
func workOf(t *testing.T, s *spool.Spool, g spool.Segment) *inMemory {
	nonsense := &spool.Payload{Segment: g.Number, Sequence: 1 << 40, Count: 3, Bytes: append([]byte{4, 0, 0, 0, 3, 0, 0, 0}, "what"...)}
	all := func(yield func(*spool.Payload, error) bool) {
		for p, err := range s.Payloads(g) {
			if !yield(p, err) {
				return
			}
		}
		yield(nonsense, nil)
	}
	m := &inMemory{Spool: s}
	var stop func()
	m.next, stop = iter.Pull2(all)
	t.Cleanup(stop)
	return m
}

// besideFirst is the file of what lies beside the first record of a segment.
func besideFirst(t *testing.T, s *spool.Spool, g spool.Segment) string {
	t.Helper()
	for batch, err := range s.Batches(g) {
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range batch.Records[0].Inputs {
			if in.Beside != nil {
				return in.Beside.Name
			}
		}
		break
	}
	t.Fatal("nothing lies beside the first record")
	return ""
}

// Another process makes of records what this one makes of them, byte for byte, and says the same of those that stay.
func TestAnotherProcessMakesTheSameObjects(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{SegmentAge: 200 * time.Millisecond, BesideBytes: 1 << 10})
	defer s.Close()
	segments := allSorts(t, s)
	const withheld = 40 + 5 + 1 // of the model without a rule, outcomes that have none, and the one whose tensor is lost
	// What lies beside one record that would leave is lost.
	if err := os.WriteFile(filepath.Join(dir, "spool", besideFirst(t, s, segments[0])), []byte("other bytes"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		compression Compression
		objectBytes int
	}{{None, 0}, {Gzip, 3000}, {Zstd, 5000}} {
		var logs [2]bytes.Buffer
		log := func(i int) *slog.Logger {
			return slog.New(slog.NewTextHandler(&logs[i], &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		}
		here, err := newRecipe(recipeOf(c.compression, c.objectBytes), log(0))
		if err != nil {
			t.Fatal(err)
		}
		there := otherProcess(t, recipeOf(c.compression, c.objectBytes), "1", log(1))
		var total Prepared
		for _, g := range segments {
			job := Job{Spool: "ab", Segment: g.Number, Stored: map[string]residency.Spans{"endpoint": {{First: g.First + 3, Last: g.First + 10}}}}
			mine, theirs := workOf(t, s, g), workOf(t, s, g)
			out, err := here.Prepare(t.Context(), job, mine)
			if err != nil {
				t.Fatal(err)
			}
			other, err := there.Prepare(t.Context(), job, theirs)
			if err != nil {
				t.Fatal(err)
			}
			if other != out {
				t.Errorf("the other process says %+v, and this one %+v", other, out)
			}
			if len(mine.objects) < 5 || !reflect.DeepEqual(mine.objects, theirs.objects) {
				t.Errorf("%v: %d objects of the other process are others than the %d of this one", c, len(theirs.objects), len(mine.objects))
			}
			total.Withheld, total.Unread, total.Damaged = total.Withheld+out.Withheld, total.Unread+out.Unread, total.Damaged+out.Damaged
		}
		if n := int64(len(segments)); total.Withheld != withheld || total.Unread != 3*n || total.Damaged != n {
			t.Errorf("%+v of %d segments", total, n)
		}
		if logs[0].Len() == 0 || logs[0].String() != logs[1].String() {
			t.Errorf("the other process has logged\n%s, this one\n%s", &logs[1], &logs[0])
		}
	}
}

// A process that is killed, in the middle of a segment or while it has nothing to do, is another one for the next, and what ends
// this one's work ends the other's.
func TestProcessThatEnds(t *testing.T) {
	s := openSpool(t, t.TempDir(), spool.Options{SegmentAge: 200 * time.Millisecond})
	defer s.Close()
	g := allSorts(t, s)[0]
	r := recipeOf(Gzip, 0)
	r.KindsOf = nil // in one format
	p := otherProcess(t, r, "1", slog.New(slog.DiscardHandler))
	whole := func(ctx context.Context, onNext func() error) error {
		w := workOf(t, s, g)
		w.onNext = onNext
		_, err := p.Prepare(ctx, Job{Spool: "ab", Segment: g.Number}, w)
		return err
	}
	kill := func() error {
		if err := p.child.command.Process.Kill(); err != nil {
			return err
		}
		<-p.child.exited
		return nil
	}
	if err := whole(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	first := p.child
	if err := whole(t.Context(), nil); err != nil || p.child != first {
		t.Errorf("the same process does not prepare another segment: %v", err)
	}
	if err := kill(); err != nil {
		t.Fatal(err)
	}
	if err := whole(t.Context(), nil); err != nil || p.child == first {
		t.Errorf("after it was killed while it had nothing to do: %v", err)
	}
	if err := whole(t.Context(), kill); err == nil || !strings.Contains(err.Error(), "has ended (signal: killed)") {
		t.Errorf("killed in the middle: %v", err)
	}
	if err := whole(t.Context(), nil); err != nil {
		t.Error(err)
	}
	failed := errors.New("the disk is gone")
	if err := whole(t.Context(), func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a source that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var of *child
	if err := whole(ctx, func() error { of = p.child; cancel(); <-of.exited; return nil }); !errors.Is(err, context.Canceled) || p.child != nil || of.command.ProcessState == nil {
		t.Errorf("cancelled: %v, and the process has not ended", err)
	}
	if err := otherVersion(t, p); err == nil || !strings.Contains(err.Error(), "the daemon is of version 1 and the program that prepares of 2: restart the daemon") {
		t.Errorf("another version: %v", err)
	}
	p.Command = func() *exec.Cmd { return exec.Command(filepath.Join(t.TempDir(), "nothing")) }
	if err := whole(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "starting the process that prepares captured records: ") {
		t.Errorf("a program that is not there: %v", err)
	}
}

// otherVersion has p's process be another version's.
func otherVersion(t *testing.T, p *Process) error {
	_, err := otherProcess(t, &p.Recipe, "2", p.Log).Prepare(t.Context(), Job{}, nil)
	return err
}

// A process that is told nonsense, or nothing, ends with an error.
func TestServeIsToldNonsense(t *testing.T) {
	for _, in := range []string{"", "nonsense", "\x03\x04\x00\x06"} {
		if err := Serve(strings.NewReader(in), &bytes.Buffer{}, "1", nil); err == nil {
			t.Errorf("%q is served", in)
		}
	}
	var in bytes.Buffer
	w := newWire(&in, &in)
	if err := w.send(hello{Version: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := w.enc.Encode(reply{Payload: &spool.Payload{}}); err != nil {
		t.Fatal(err)
	}
	if err := w.enc.Encode([]int{mostBytes + 1}); err != nil {
		t.Fatal(err)
	}
	if err := w.out.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(&in, &bytes.Buffer{}, "1", nil); err == nil || !strings.Contains(err.Error(), "are more than an object has") {
		t.Errorf("a body without end: %v", err)
	}
}

// Everything arrives, once, though the process is killed again and again.
func TestUploadsThroughProcessesThatAreKilled(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{SegmentAge: 50 * time.Millisecond})
	defer s.Close()
	to := filepath.Join(dir, "to")
	d, err := NewDirectory(to)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r := recipeOf(Gzip, 2000)
	r.Residency = residency.Options{Models: []residency.ModelRule{{Model: residency.AnyModel, Samples: true, Otherwise: residency.Allow, Outputs: residency.Allow, IDs: residency.Allow}}}
	r.KindsOf = nil
	r.Base = "file://" + to + "/"
	p := otherProcess(t, r, "1", slog.New(slog.DiscardHandler))
	// One that ends by itself: its input is cut off after some time.
	command, lives := p.Command, 0
	p.Command = func() *exec.Cmd {
		c := command()
		if lives++; lives <= 3 {
			c.Path, c.Args = "/bin/sh", []string{"sh", "-c", fmt.Sprintf(`dd bs=1 count=%d 2>&- | "$0" 2>&-`, 3000*lives), os.Args[0]}
		}
		return c
	}
	o := options(t, dir, s, d)
	o.Compression, o.ObjectBytes, o.Preparer = Gzip, 2000, p
	u := start(t, o)
	const all = 200
	for n := range all {
		if err := s.Put(event("fraud", n, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "everything has left", func() bool { return s.Stats().Uploaded == all })
	u.end()
	if lives < 4 {
		t.Errorf("only %d processes were needed", lives)
	}
	if n := u.Stats().Failures["other"]; n < 3 {
		t.Errorf("%d failures are counted", n)
	}
	objects := map[string][]byte{}
	err = filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			objects[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ids := idsIn(t, objects)
	for n := range all {
		if ids[fmt.Sprint(n)] != 1 {
			t.Errorf("record %d is there %d times", n, ids[fmt.Sprint(n)])
		}
	}
}
