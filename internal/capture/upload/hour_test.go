package upload

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture/spool"
)

// envFaults is for how long TestFaultsOnEnd goes on; a few seconds by default.
const envFaults = "PICKET_TEST_FAULTS_FOR"

// One fault of the network after the other, of chance and for as long as chance has it, between a real store and records that never cease: each is there
// once, and what is held meanwhile does not grow.
func TestFaultsOnEnd(t *testing.T) {
	long := 4 * time.Second
	if text := os.Getenv(envFaults); text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", envFaults, err)
		}
	}
	server, proxy, bucket, to := behindProxy(t)
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{SegmentAge: time.Second, SegmentBytes: 64 << 10})
	defer s.Close()
	u := start(t, options(t, dir, s, to))

	feeding, stop := context.WithCancel(t.Context())
	defer stop()
	fed := make(chan int)
	go func() {
		n := 0
		defer func() { fed <- n }()
		for feeding.Err() == nil {
			if err := s.Append(context.Background(), event([]string{"fraud", "churn"}[n%2], n, time.Now())); err != nil {
				t.Errorf("record %d: %v", n, err)
				return
			}
			n++
			time.Sleep(5 * time.Millisecond)
		}
	}()
	faults := []struct {
		name string
		set  func()
	}{
		{"refused", proxy.Down},
		{"answers cut off", func() { proxy.Cut(t, rand.Int64N(300)) }},
		{"bodies cut off", func() { proxy.CutUpload(t, rand.Int64N(3000)) }},
		{"stalled", func() { proxy.Stall(t) }},
		{"reset", func() { proxy.Reset(t, rand.N(50*time.Millisecond)) }},
		{"slow", func() { proxy.Slow(t, 4) }},
		{"late", func() { proxy.Delay(t, rand.N(2*time.Second)) }},
	}
	met := map[string]int{}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc) / (1 << 20)
	}
	first := 0.0
	begun := time.Now()
	for time.Since(begun) < long {
		fault := faults[rand.IntN(len(faults))]
		met[fault.name]++
		fault.set()
		time.Sleep(rand.N(min(8*time.Second, long/4)))
		if fault.name == "refused" {
			proxy.Up(t)
		} else {
			proxy.Clear(t)
		}
		time.Sleep(rand.N(min(3*time.Second, long/8)))
		if first == 0 && time.Since(begun) > long/5 {
			first = heap()
		}
	}
	last := heap()
	stop()
	n := <-fed
	// An attempt that is under way, or its pause, which may be as long as any.
	for deadline := time.Now().Add(longestPause + time.Minute); s.Stats().OnDisk > 0 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	st := s.Stats()
	if st.OnDisk != 0 || st.Uploaded != int64(n) || st.Accepted != int64(n) || st.Dropped.Total()+st.Quarantined != 0 {
		t.Errorf("of %d records: %+v; the uploader: %+v", n, st, u.Stats())
	}
	u.end()
	objects := bucketOf(t, server, bucket)
	wantOnce(t, objects, n)
	checkAuditIn(t, dir, bucket, objects)
	// Of a run that is short the collector's ups and downs are all there is to see.
	const most = 8 // MiB: what is under way at one moment, and not at another
	if long >= time.Minute && last > first+most {
		t.Errorf("the heap has grown from %.1f to %.1f MiB", first, last)
	}
	t.Logf("%v: %d records in %d objects, failures %v, faults %v; the heap was %.1f MiB, and %.1f at the end", long, n, len(objects), u.Stats().Failures, met, first, last)
}
