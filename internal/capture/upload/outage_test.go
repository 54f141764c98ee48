package upload

import (
	"context"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// Three days without S3: what fits the spool is there afterwards, once each, and the destination was left in peace.
func TestOutage(t *testing.T) {
	outage(t, 1<<30, func(t *testing.T, st spool.Stats, ids map[string]int) {
		if st.Uploaded != st.Accepted || len(ids) != int(st.Accepted) {
			t.Errorf("%+v, and %d records arrived", st, len(ids))
		}
	})
}

// The same with a spool that is too small: the policy says what is dropped, and the counts are exact.
func TestOutageBeyondTheSpool(t *testing.T) {
	outage(t, 256<<10, func(t *testing.T, st spool.Stats, ids map[string]int) {
		if st.Dropped.Quota == 0 || st.Uploaded+st.Dropped.Total() != st.Accepted || st.Dropped.Total() != st.Dropped.Quota {
			t.Errorf("%+v", st)
		}
		if len(ids) != int(st.Uploaded) {
			t.Errorf("%d records count as uploaded, and %d arrived", st.Uploaded, len(ids))
		}
		if ids["0"] != 0 || ids["25919"] != 1 {
			t.Errorf("the oldest is there %d times, the newest %d times", ids["0"], ids["25919"])
		}
	})
}

func outage(t *testing.T, limit int64, check func(*testing.T, spool.Stats, map[string]int)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		const (
			length = 72 * time.Hour
			every  = 10 * time.Minute
			each   = 60
		)
		s := openSpool(t, dir, spool.Options{MaxBytes: limit, SegmentBytes: 64 << 10, SegmentAge: every})
		defer s.Close()
		store := newStore()
		store.latency = 100 * time.Millisecond
		store.fault = func(*http.Request) (*http.Response, error) { return nil, errRefused }
		u := start(t, options(t, dir, s, NewBucket(store.client(), Bucket{Name: "bucket"})))
		defer u.end()

		began := time.Now()
		var early, late uint64
		for number := 0; time.Since(began) < length; number += each {
			entries := make([]*capture.Entry, each)
			for i := range entries {
				entries[i] = event("fraud", number+i, time.Now())
			}
			if err := s.Append(context.Background(), entries...); err != nil {
				t.Fatal(err)
			}
			time.Sleep(every)
			switch time.Since(began) {
			case 6 * time.Hour:
				early = heap()
			case length:
				late = heap()
			}
		}
		if late > early+2<<20 {
			t.Errorf("the heap grew from %d to %d bytes", early, late)
		}
		store.mu.Lock()
		attempts := store.attempts
		store.fault, store.attempts = nil, nil
		store.mu.Unlock()
		t.Logf("%d attempts in %v", len(attempts), length)
		if most := int(length/(150*time.Second)) + 16; len(attempts) > most || len(attempts) < 500 {
			t.Errorf("%d attempts in %v, at most %d are polite", len(attempts), length, most)
		}
		for i := 12; i < len(attempts); i++ {
			if pause := attempts[i].Sub(attempts[i-1]); pause < 150*time.Second || pause > 301*time.Second && s.Stats().Dropped.Total() == 0 {
				t.Fatalf("attempt %d came %v after the one before", i, pause)
			}
		}
		if state := u.Stats(); state.Phase != Retrying || Reason(state.Err) != "network" || state.Failures["network"] != uint64(len(attempts)) {
			t.Errorf("during the outage: %+v", state)
		}

		// The store is back: everything leaves at more than ten times the rate at which it came.
		back := time.Now()
		for s.Stats().OnDisk > 0 && time.Since(back) < length {
			time.Sleep(time.Second)
		}
		if drained := time.Since(back); drained > length/10 {
			t.Errorf("what came in %v left in %v", length, drained)
		} else {
			t.Logf("what came in %v left in %v, the pause before the first attempt included", length, drained)
		}
		objects, err := store.objects()
		if err != nil {
			t.Error(err)
		}
		ids := idsIn(t, objects)
		for id, n := range ids {
			if n != 1 {
				t.Errorf("record %s is there %d times", id, n)
			}
		}
		check(t, s.Stats(), ids)
	})
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
