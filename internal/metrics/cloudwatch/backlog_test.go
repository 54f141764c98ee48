package cloudwatch

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/metrics"
)

var quiet = slog.New(slog.DiscardHandler)

func oneBatch(at time.Time, name string) *batch {
	return &batch{Time: at.UTC(), Data: []datum{{Name: name, Unit: metrics.Count, Dimensions: [][2]string{{"Fleet", "f"}}, Values: []float64{1, 2}, Counts: []float64{3, 4}}}}
}

func openBacklog(t *testing.T, dir string, limit int64) *backlog {
	t.Helper()
	b := newBacklog(dir, limit, quiet)
	if err := b.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	return b
}

// drain takes all batches out, newest first.
func drain(b *backlog, now time.Time) (names []string) {
	for {
		one, name, ok := b.newest(now)
		if !ok {
			return names
		}
		names = append(names, one.Data[0].Name)
		b.done(name, 0)
	}
}

// What waits survives the process, in the order of time.
func TestBacklogSurvives(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	b := openBacklog(t, dir, 1<<20)
	for i := range 3 {
		if err := b.add(oneBatch(now.Add(time.Duration(i)*time.Minute), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.close(); err != nil {
		t.Fatal(err)
	}
	b = openBacklog(t, dir, 1<<20)
	one, _, ok := b.newest(now)
	if want := oneBatch(now.Add(2*time.Minute), "2"); !ok || !one.Time.Equal(want.Time) || !reflect.DeepEqual(one.Data, want.Data) {
		t.Errorf("the newest is %+v, want %+v", one, want)
	}
	if got := drain(b, now); !slices.Equal(got, []string{"2", "1", "0"}) {
		t.Errorf("the batches are %q", got)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
	if n, bytes := b.waiting(); n != 0 || bytes != 0 || len(files) != 0 {
		t.Errorf("%d batches of %d bytes are left, in the files %q", n, bytes, files)
	}
}

// What CloudWatch would refuse for its time is given up, and so is the oldest of what
// is too much; both are counted.
func TestBacklogBounds(t *testing.T) {
	now := time.Now()
	b := openBacklog(t, t.TempDir(), 1<<20)
	for name, age := range map[string]time.Duration{"old": 15 * 24 * time.Hour, "new": 13 * 24 * time.Hour, "ahead": -3 * time.Hour, "just": -time.Hour} {
		if err := b.add(oneBatch(now.Add(-age), name)); err != nil {
			t.Fatal(err)
		}
	}
	if got := drain(b, now); !slices.Equal(got, []string{"just", "new"}) {
		t.Errorf("the batches are %q", got)
	}
	if lost := b.losses(); lost[lostOld] != 1 || lost[lostAhead] != 1 {
		t.Errorf("lost are %v", lost)
	}
	data, err := encodeBatch(oneBatch(now, "0"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	small := openBacklog(t, dir, 3*int64(len(data))+int64(len(data))/2) // for three, whose sizes differ by bytes
	for i := range 10 {
		if err := small.add(oneBatch(now.Add(time.Duration(i)*time.Second), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
	if lost := small.losses(); lost[lostFull] != 7 || len(files) != 3 {
		t.Errorf("lost are %v, and %d files are left", lost, len(files))
	}
	if got := drain(small, now); !slices.Equal(got, []string{"9", "8", "7"}) {
		t.Errorf("the batches are %q", got)
	}
}

// Every changed byte of a file is noticed: its batch is given up, and the others are
// sent.
func TestBacklogDamage(t *testing.T) {
	now := time.Now()
	whole, err := encodeBatch(oneBatch(now, "x"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := slices.Clone(whole)
		damaged[i] ^= 1 << (i % 8)
		one, err := decodeBatch(damaged)
		if err == nil && !reflect.DeepEqual(one.Data, oneBatch(now, "x").Data) {
			t.Errorf("with byte %d changed it is %+v", i, one)
		}
	}
	dir := t.TempDir()
	b := openBacklog(t, dir, 1<<20)
	for i := range 3 {
		if err := b.add(oneBatch(now.Add(time.Duration(i)*time.Second), fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
	if err := errors.Join(os.WriteFile(files[1], []byte("nonsense"), 0o600), os.WriteFile(filepath.Join(dir, "left"+durable.NewSuffix), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := drain(b, now.Add(time.Minute)); !slices.Equal(got, []string{"2", "0"}) {
		t.Errorf("the batches are %q", got)
	}
	if lost := b.losses(); lost[lostDamaged] != 1 {
		t.Errorf("lost are %v", lost)
	}
}

// While another process has the directory, batches wait in memory, and go to disk when
// it is gone.
func TestBacklogHandOver(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	old := openBacklog(t, dir, 1<<20)
	if err := old.add(oneBatch(now, "old")); err != nil {
		t.Fatal(err)
	}
	next := newBacklog(dir, 1<<20, quiet)
	if err := next.open(); !errors.Is(err, errOwned) {
		t.Fatalf("opening a directory that another has: %v", err)
	}
	if err := next.add(oneBatch(now.Add(time.Second), "next")); err != nil {
		t.Fatal(err)
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	if err := next.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.close() })
	files, _ := filepath.Glob(filepath.Join(dir, "*.gz"))
	if len(files) != 2 {
		t.Errorf("there are the files %q, want two", files)
	}
	if got := drain(next, now); !slices.Equal(got, []string{"next", "old"}) {
		t.Errorf("the batches are %q", got)
	}
}

// A disk that cannot be written to costs nothing but durability.
func TestBacklogWithoutDisk(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	b := openBacklog(t, dir, 1<<20)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.add(oneBatch(now, "x")); err != nil {
		t.Fatal(err)
	}
	if got := drain(b, now); !slices.Equal(got, []string{"x"}) {
		t.Errorf("the batches are %q", got)
	}
	memory := openBacklog(t, "", 1<<20)
	if err := memory.add(oneBatch(now, "y")); err != nil {
		t.Fatal(err)
	}
	if got := drain(memory, now); !slices.Equal(got, []string{"y"}) {
		t.Errorf("the batches are %q", got)
	}
}

// What readings become keeps to what one request may hold, and loses no value.
func TestExpand(t *testing.T) {
	id := identity{Fleet: "f", Device: "d\u00e9v"}
	var readings []metrics.Reading
	values, counts := make([]float64, 400), make([]float64, 400)
	var sum, count float64
	for i := range values {
		values[i], counts[i] = float64(i), float64(1+i%3)
		sum += values[i] * counts[i]
		count += counts[i]
	}
	const models = 900
	for i := range models {
		readings = append(readings, metrics.Reading{Metric: metrics.Latency, Labels: metrics.Labels{Model: fmt.Sprint("m", i), Version: "1"}, Values: values, Counts: counts})
	}
	readings = append(readings,
		metrics.One(metrics.Requests, metrics.Labels{Model: "m"}, math.NaN()), metrics.One(metrics.Requests, metrics.Labels{Model: "m"}, math.Inf(1)),
		metrics.One(metrics.Waiting, metrics.Labels{Model: "m"}, 0))
	total := 0
	for _, b := range id.expand(readings, time.Now()) {
		size := 0
		for _, d := range b.Data {
			size += d.bytes()
			total++
			if len(d.Values) > maxValues || d.Counts != nil && len(d.Counts) != len(d.Values) {
				t.Fatalf("%s has %d values and %d counts", d.Name, len(d.Values), len(d.Counts))
			}
			if d.Name != "Latency" {
				continue
			}
			var s, n float64
			for i, v := range d.Values {
				s, n = s+v*d.Counts[i], n+d.Counts[i]
			}
			if n != count || math.Abs(s-sum) > 1e-6*sum {
				t.Fatalf("%v values with a sum of %v became %v with %v", count, sum, n, s)
			}
			for _, dimension := range d.Dimensions {
				if dimension[0] == metrics.Device && dimension[1] != "d_v" {
					t.Fatalf("the device is %q", dimension[1])
				}
			}
		}
		if len(b.Data) > maxDatums || size > maxRequest {
			t.Errorf("a batch has %d metrics and about %d bytes", len(b.Data), size)
		}
	}
	if want := 2*models + 2; total != want {
		t.Errorf("there are %d metrics, want %d", total, want)
	}
}
