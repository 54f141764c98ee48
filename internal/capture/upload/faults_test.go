package upload

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// fill captures n events of two models.
func fill(t testing.TB, s *spool.Spool, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		if err := s.Append(context.Background(), event([]string{"fraud", "churn"}[i%2], i, time.Now())); err != nil {
			t.Fatal(err)
		}
	}
}

// bucketOf is all objects of a bucket, by key.
func bucketOf(t testing.TB, server *s3.Server, bucket string) map[string][]byte {
	t.Helper()
	objects := map[string][]byte{}
	for _, key := range server.Keys(t, bucket, "") {
		objects[key] = server.Get(t, bucket, key)
	}
	return objects
}

// wantOnce fails unless all events from 0 on are there once.
func wantOnce(t testing.TB, objects map[string][]byte, n int) {
	t.Helper()
	ids := idsIn(t, objects)
	for id, times := range ids {
		if times != 1 {
			t.Errorf("record %s is there %d times", id, times)
		}
	}
	if len(ids) != n {
		t.Errorf("%d records arrived of %d", len(ids), n)
	}
}

// behindProxy is a bucket of a real store, and the same as a destination that is reached through the proxy.
func behindProxy(t *testing.T) (server *s3.Server, proxy *s3.Proxy, bucket string, to Destination) {
	t.Helper()
	server = s3.Start(t)
	bucket = server.NewBucket(t)
	proxy = s3.NewProxy(t, server)
	client, err := proxy.Options().S3(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return server, proxy, bucket, NewBucket(client, Bucket{Name: bucket})
}

// A real store, behind a network that fails in each way in turn while records come.
func TestNetworkFaults(t *testing.T) {
	server, proxy, bucket, to := behindProxy(t)
	dir := t.TempDir()
	s := openSpool(t, dir, spool.Options{SegmentAge: 100 * time.Millisecond})
	defer s.Close()
	u := start(t, options(t, dir, s, to))
	n := 0
	through := func(fault string, set, clear func()) {
		failures := func() (sum uint64) {
			for _, v := range u.Stats().Failures {
				sum += v
			}
			return sum
		}
		before := failures()
		set()
		fill(t, s, n, 20)
		n += 20
		within(t, fault+" is noticed", func() bool { return failures() > before })
		if state := u.Stats(); Reason(state.Err) != "network" {
			t.Errorf("%s is taken for %s: %v", fault, Reason(state.Err), state.Err)
		}
		clear()
		within(t, "what came during "+fault+" has left", func() bool { return s.Stats().OnDisk == 0 })
	}
	through("a refused connection", proxy.Down, func() { proxy.Up(t) })
	through("an answer that is cut off", func() { proxy.Cut(t, 10) }, func() { proxy.Clear(t) })
	through("a reset in the body", func() { proxy.CutUpload(t, 700) }, func() { proxy.Clear(t) })
	// A server that takes what it is sent and says nothing: records wait, and go on once it speaks.
	proxy.Stall(t)
	fill(t, s, n, 20)
	n += 20
	within(t, "something is under way", func() bool { return u.Stats().Phase == Sending })
	time.Sleep(200 * time.Millisecond)
	if st := s.Stats(); st.OnDisk < 20 {
		t.Errorf("records have left over a connection on which nothing comes back: %+v", st)
	}
	proxy.Clear(t)
	within(t, "what came while the server stalled has left", func() bool { return s.Stats().OnDisk == 0 })
	u.end()
	objects := bucketOf(t, server, bucket)
	wantOnce(t, objects, n)
	checkAuditIn(t, dir, bucket, objects)
}

// What the store itself says no to, and what the sentences are.
func TestRefusals(t *testing.T) {
	server := s3.Start(t)
	bucket := server.NewBucket(t)
	user := server.NewUser(t)
	server.DeleteUser(t, user)
	denied := server.NewUser(t)
	for name, c := range map[string]struct {
		change func(*cloud.Options)
		bucket string
		reason string
		says   string
	}{
		"credentials that are gone": {func(o *cloud.Options) { *o = user.Options(server) }, bucket, "credentials", "access key"},
		"a user without rights":     {func(o *cloud.Options) { *o = denied.Options(server) }, bucket, "denied", "access is denied"},
		"another region":            {func(o *cloud.Options) { o.Region = "eu-central-1" }, bucket, "region", "region"},
		"no such bucket":            {func(*cloud.Options) {}, "nobodys-bucket", "store", "no such bucket"},
	} {
		t.Run(name, func(t *testing.T) {
			o := server.Options()
			c.change(&o)
			client, err := o.S3(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			s := openSpool(t, dir, spool.Options{SegmentAge: 100 * time.Millisecond})
			defer s.Close()
			u := start(t, options(t, dir, s, NewBucket(client, Bucket{Name: c.bucket})))
			defer u.end()
			fill(t, s, 0, 2)
			within(t, "a refusal", func() bool { return u.Stats().Phase == Retrying })
			err = u.Stats().Err
			if Reason(err) != c.reason || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the reason is %s: %v", Reason(err), err)
			}
			if s.Stats().OnDisk != 2 {
				t.Errorf("%+v", s.Stats())
			}
		})
	}
}

// What a real store cannot be had to say: each is met, named, and outlived, and the records are there once.
func TestFaultsOfTheStore(t *testing.T) {
	status := func(code int, name string, header ...string) func(r *http.Request) (*http.Response, error) {
		return func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodHead {
				return answer(r, code, ""), nil
			}
			response := failure(r, code, name)
			for i := 0; i+1 < len(header); i += 2 {
				response.Header.Set(header[i], header[i+1])
			}
			return response, nil
		}
	}
	for name, c := range map[string]struct {
		fault  func(r *http.Request) (*http.Response, error)
		set    func(*memory, bool)
		reason string
	}{
		"busy":                {fault: status(503, "SlowDown"), reason: "store"},
		"expired credentials": {fault: status(400, "ExpiredToken"), reason: "credentials"},
		"a wrong clock":       {fault: status(403, "RequestTimeTooSkewed"), reason: "clock"},
		"another region":      {fault: status(301, "PermanentRedirect", "X-Amz-Bucket-Region", "eu-west-1"), reason: "region"},
		"another owner":       {fault: status(403, "AccessDenied"), reason: "denied"},
		"says yes and loses":  {set: func(s *memory, on bool) { s.lose = on }, reason: "other"},
		"an answer that is lost after it was stored": {set: func(s *memory, on bool) {
			s.after = nil
			if on {
				s.fault = func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodHead {
						return nil, errRefused
					}
					return nil, nil
				}
			} else {
				s.fault = nil
			}
		}, reason: "network"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := openSpool(t, dir, spool.Options{SegmentAge: time.Second})
				defer s.Close()
				store := newStore()
				set := c.set
				if set == nil {
					set = func(s *memory, on bool) {
						s.fault = nil
						if on {
							s.fault = c.fault
						}
					}
				}
				store.mu.Lock()
				set(store, true)
				store.mu.Unlock()
				u := start(t, options(t, dir, s, NewBucket(store.client(), Bucket{Name: "bucket", Account: "123456789012"})))
				fill(t, s, 0, 20)
				time.Sleep(10 * time.Minute)
				if state := u.Stats(); state.Phase != Retrying || Reason(state.Err) != c.reason {
					t.Errorf("it is %s for %s: %v", state.Phase, Reason(state.Err), state.Err)
				}
				store.mu.Lock()
				set(store, false)
				store.mu.Unlock()
				time.Sleep(10 * time.Minute)
				if st := s.Stats(); st.OnDisk != 0 || st.Uploaded != 20 {
					t.Errorf("%+v", st)
				}
				u.end()
				objects, err := store.objects()
				if err != nil {
					t.Error(err)
				}
				wantOnce(t, objects, 20)
				checkAudit(t, dir, objects)
				store.mu.Lock()
				defer store.mu.Unlock()
				for _, versions := range store.versions {
					if owner := versions[0].header.Get("X-Amz-Expected-Bucket-Owner"); owner != "123456789012" {
						t.Errorf("the owner is expected to be %q", owner)
					}
				}
			})
		})
	}
}

// A store that knows no conditions is asked beforehand.
func TestStoreWithoutConditions(t *testing.T) {
	store := newStore()
	store.unconditional = true
	d := NewBucket(store.client(), Bucket{Name: "bucket"})
	for range 2 {
		for _, content := range []string{"one", "two"} {
			item := &Item{Key: content, Body: []byte(content), ContentType: "text/plain"}
			item.Content[0] = content[0]
			if _, err := d.Put(t.Context(), item); err != nil {
				t.Fatal(err)
			}
		}
	}
	other := &Item{Key: "one", Body: []byte("another one")}
	if _, err := d.Put(t.Context(), other); err == nil || Reason(err) != "taken" {
		t.Errorf("another content under the same key: %v", err)
	}
	if objects, err := store.objects(); err != nil || string(objects["one"]) != "one" || len(store.versions["one"]) != 1 {
		t.Errorf("%q: %v", objects, err)
	}
}

// Objects go at the times that the windows allow.
func TestUploadWindow(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, dir, spool.Options{SegmentAge: time.Second})
		defer s.Close()
		store := newStore()
		o := options(t, dir, s, NewBucket(store.client(), Bucket{Name: "bucket"}))
		var err error
		if o.Windows, err = ParseWindows([]string{"* 22-5 * * *"}, "Europe/Berlin"); err != nil {
			t.Fatal(err)
		}
		u := start(t, o)
		defer u.end()
		// The time in here begins at midnight UTC, 1:00 in Berlin: the window is open until 6:00.
		for hour := range 48 {
			fill(t, s, 2*hour, 2)
			time.Sleep(time.Hour)
		}
		attempts := store.times()
		if len(attempts) == 0 {
			t.Fatal("nothing was sent")
		}
		for _, at := range attempts {
			if h := at.In(o.Windows.zone).Hour(); h >= 6 && h < 22 {
				t.Errorf("something was sent at %v", at.In(o.Windows.zone))
			}
		}
		objects, err := store.objects()
		if err != nil {
			t.Error(err)
		}
		if ids := idsIn(t, objects); len(ids) < 80 || s.Stats().Uploaded != int64(len(ids)) {
			t.Errorf("%d records were sent, %+v", len(ids), s.Stats())
		}
	})
}

// The disk has no room for the audit log: nothing leaves. It has again: everything does.
func TestNothingLeavesWithoutAudit(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := openSpool(t, dir, spool.Options{SegmentAge: time.Second})
		defer s.Close()
		store := newStore()
		// A file where the directory of the log should be.
		if err := os.WriteFile(filepath.Join(dir, "audit"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		u := start(t, options(t, dir, s, NewBucket(store.client(), Bucket{Name: "bucket"})))
		fill(t, s, 0, 10)
		time.Sleep(time.Hour)
		if state := u.Stats(); state.Phase != Blocked || Reason(state.Err) != "audit" || len(store.times()) > 0 {
			t.Errorf("%+v, %d attempts", state, len(store.times()))
		}
		if err := os.Remove(filepath.Join(dir, "audit")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if st := s.Stats(); st.Uploaded != 10 {
			t.Errorf("%+v", st)
		}
		u.end()
		objects, err := store.objects()
		if err != nil {
			t.Error(err)
		}
		wantOnce(t, objects, 10)
		checkAudit(t, dir, objects)
	})
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	to := filepath.Join(dir, "to")
	d, err := NewDirectory(to)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := openSpool(t, dir, spool.Options{SegmentAge: 50 * time.Millisecond})
	defer s.Close()
	o := options(t, dir, s, d)
	o.Compression = Zstd
	u := start(t, o)
	fill(t, s, 0, 40)
	within(t, "everything is there", func() bool { return s.Stats().OnDisk == 0 })
	u.end()
	objects := map[string][]byte{}
	err = filepath.WalkDir(to, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		objects[strings.TrimPrefix(path, to+"/")] = body
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	wantOnce(t, objects, 40)
	item := &Item{Key: "a/b", Body: []byte("one")}
	for range 2 {
		if _, err := d.Put(t.Context(), item); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Put(t.Context(), &Item{Key: "a/b", Body: []byte("two")}); Reason(err) != "taken" {
		t.Errorf("another content under the same name: %v", err)
	}
	for _, key := range []string{"../out", "/out", "a/../../out"} {
		if _, err := d.Put(t.Context(), &Item{Key: key, Body: []byte("x")}); err == nil {
			t.Errorf("the key %s leads out", key)
		}
	}
	if _, ok, err := d.Has(t.Context(), "a/b"); !ok || err != nil {
		t.Errorf("what is there is not: %v", err)
	}
}

func TestWindows(t *testing.T) {
	parse := func(zone string, texts ...string) Windows {
		t.Helper()
		w, err := ParseWindows(texts, zone)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	night := parse("Europe/Berlin", "* 22-5 * * *")
	for when, opens := range map[string]string{
		"2026-01-05T12:00:30Z": "2026-01-05T21:00:00Z",
		"2026-07-05T12:00:00Z": "2026-07-05T20:00:00Z", // in summer
		"2026-01-05T03:00:30Z": "2026-01-05T03:00:30Z",
		"2026-01-05T04:59:59Z": "2026-01-05T04:59:59Z",
		"2026-01-05T05:00:00Z": "2026-01-05T21:00:00Z",
	} {
		if got := night.Opens(at(when)); !got.Equal(at(opens)) {
			t.Errorf("from %s it opens at %v, want %s", when, got.UTC(), opens)
		}
	}
	if got := parse("UTC", "0 0 29 2 *").Opens(at("2025-03-01T00:00:00Z")); !got.Equal(at("2028-02-29T00:00:00Z")) {
		t.Errorf("a leap day is at %v", got)
	}
	if got := parse("UTC", "*/15 9 * * 1-5", "30 12 * * 7").Opens(at("2026-01-03T13:00:00Z")); !got.Equal(at("2026-01-04T12:30:00Z")) {
		t.Errorf("the next is at %v", got)
	}
	if !parse("").Open(time.Now()) {
		t.Error("without windows it is shut")
	}
	for _, text := range []string{"", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "a * * * *", "*/0 * * * *", "* * 30 2 *", "1-a * * * *"} {
		if _, err := ParseWindows([]string{text}, ""); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if _, err := ParseWindows(nil, "Europe/Atlantis"); err == nil {
		t.Error("a zone that does not exist is taken")
	}
}

// checkAuditIn is checkAudit for a bucket of another name.
func checkAuditIn(t testing.TB, dir, bucket string, objects map[string][]byte) {
	t.Helper()
	stored := map[string]bool{}
	if _, err := residency.VerifyAudit(filepath.Join(dir, "audit"), func(e residency.Entry) error {
		if e.Event == residency.Stored {
			stored[e.Object] = true
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	for key := range objects {
		if !stored["s3://"+bucket+"/"+key] {
			t.Errorf("%s is not in the audit log", key)
		}
	}
	if len(stored) != len(objects) {
		t.Errorf("%d objects by the audit log, %d in the bucket", len(stored), len(objects))
	}
}
