package transfer

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// A version is stored once: the same bytes again are success, others are refused and change nothing; whole and in parts.
func TestPushNeverOverwrites(t *testing.T) {
	p := newPlace(t)
	for name, size := range map[string]int{"whole-1": 1000, "parts-1": 2*minUploadPart + 4321, "empty-1": 0} {
		body := random(size)
		o := PushOptions{PartBytes: minUploadPart, Retry: once(), Metadata: map[string]string{"picket-package": "sha256:0"}}
		var last atomic.Int64
		o.Progress = func(done, _ int64) { last.Store(done) }
		got, err := Push(t.Context(), p.file(body), p.object(name), o)
		if err != nil || got.Unchanged || got.SHA256 != digestOf(body) || got.Bytes != int64(size) || last.Load() != int64(size) {
			t.Fatalf("%s: %+v, progress %d, %v", name, got, last.Load(), err)
		}
		if there := p.server.Get(t, p.bucket, name); !bytes.Equal(there, body) {
			t.Errorf("%s: other bytes are there", name)
		}
		again, err := Push(t.Context(), p.file(body), p.object(name), o)
		if err != nil || !again.Unchanged {
			t.Errorf("%s again: %+v, %v", name, again, err)
		}
		other := append(bytes.Clone(body), 'x')
		if _, err := Push(t.Context(), p.file(other), p.object(name), o); !errors.Is(err, ErrExists) {
			t.Errorf("%s with other bytes: %v", name, err)
		}
		if there := p.server.Get(t, p.bucket, name); !bytes.Equal(there, body) {
			t.Errorf("%s was overwritten", name)
		}
		d, _, err := p.object(name).Describe(t.Context(), "")
		if err != nil || d.SHA256 != digestOf(body) || d.Metadata["picket-package"] != "sha256:0" {
			t.Errorf("%s is described as %+v, %v", name, d, err)
		}
	}
	// What others stored without a digest is compared by its bytes.
	p.server.Put(t, p.bucket, "others-1", []byte("the same"))
	if got, err := Push(t.Context(), p.file([]byte("the same")), p.object("others-1"), PushOptions{Retry: once()}); err != nil || !got.Unchanged {
		t.Errorf("stored by others: %+v, %v", got, err)
	}
	if _, err := Push(t.Context(), p.file([]byte("not same")), p.object("others-1"), PushOptions{Retry: once()}); !errors.Is(err, ErrExists) {
		t.Errorf("stored by others with other bytes: %v", err)
	}
}

// Of many that push different bytes as one version at a time exactly one succeeds, and the others are told.
func TestPushRace(t *testing.T) {
	p := newPlace(t)
	const pushers = 8
	var won atomic.Int64
	var wait sync.WaitGroup
	for i := range pushers {
		file, to := p.file(random(1000+i)), p.object("race-1")
		wait.Go(func() {
			got, err := Push(t.Context(), file, to, PushOptions{Retry: quick()})
			switch {
			case err == nil && !got.Unchanged:
				won.Add(1)
			case !errors.Is(err, ErrExists):
				t.Errorf("pusher %d: %+v, %v", i, got, err)
			}
		})
	}
	wait.Wait()
	if won.Load() != 1 {
		t.Errorf("%d pushes of different bytes succeeded", won.Load())
	}
}

// lostAnswer sends a request and loses the first answer to one that stores the object.
type lostAnswer struct {
	awss3.HTTPClient
	lost atomic.Bool
}

func (l *lostAnswer) Do(request *http.Request) (*http.Response, error) {
	response, err := l.HTTPClient.Do(request)
	query := request.URL.Query()
	stores := request.Method == http.MethodPut && !query.Has("partNumber") || request.Method == http.MethodPost && query.Has("uploadId")
	if err == nil && stores && l.lost.CompareAndSwap(false, true) {
		_ = response.Body.Close()
		return nil, syscall.ECONNRESET
	}
	return response, err
}

// The answer to what stored the object is lost: the push finds its own bytes, and is no conflict with itself.
func TestPushAnswerLost(t *testing.T) {
	p := newPlace(t)
	for name, size := range map[string]int{"whole-1": 1000, "parts-1": minUploadPart + 1} {
		body, to := random(size), p.object(name)
		options := to.Client.Options()
		line := &lostAnswer{HTTPClient: options.HTTPClient}
		options.HTTPClient = line
		to.Client = awss3.New(options)
		if _, err := Push(t.Context(), p.file(body), to, PushOptions{PartBytes: minUploadPart, Retry: quick()}); err != nil || !line.lost.Load() {
			t.Errorf("%s: %v (lost: %v)", name, err, line.lost.Load())
		}
		if there := p.server.Get(t, p.bucket, name); !bytes.Equal(there, body) {
			t.Errorf("%s: other bytes are there", name)
		}
	}
}

// Connections break all the time; the push gets there, and leaves no half upload.
func TestPushOnBrokenLine(t *testing.T) {
	p := newPlace(t)
	body := random(3*minUploadPart + 7)
	p.proxy.CutUpload(t, minUploadPart+64<<10) // a part, its headers, and not a second one
	got, err := Push(t.Context(), p.file(body), p.object("m-1"), PushOptions{PartBytes: minUploadPart, Parallel: 2, Retry: quick()})
	if err != nil {
		t.Fatal(err)
	}
	if there := p.server.Get(t, p.bucket, "m-1"); !bytes.Equal(there, body) || got.SHA256 != digestOf(body) {
		t.Error("other bytes are there")
	}
	p.noUploads()
}

// A push that is given up leaves nothing to be paid for.
func TestPushGivenUp(t *testing.T) {
	p := newPlace(t)
	path := p.file(random(2*minUploadPart + 1)).Name()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	var once1 sync.Once
	o := PushOptions{PartBytes: minUploadPart, Parallel: 1, Retry: once(), Progress: func(int64, int64) {
		once1.Do(func() { _, _ = file.WriteAt([]byte("changed"), 2*minUploadPart-100) })
	}}
	if _, err := Push(t.Context(), file, p.object("m-1"), o); err == nil || !strings.Contains(err.Error(), "the file changed while it was sent") {
		t.Errorf("a file that changes: %v", err)
	}
	if keys := p.server.Keys(t, p.bucket, ""); len(keys) != 0 {
		t.Errorf("there are %q", keys)
	}
	p.noUploads()
}

func (p *place) noUploads() {
	p.t.Helper()
	out, err := p.server.Client(p.t).ListMultipartUploads(p.t.Context(), &awss3.ListMultipartUploadsInput{Bucket: &p.bucket})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, u := range out.Uploads {
		p.t.Errorf("an upload of %s is left", aws.ToString(u.Key))
	}
}
