package upload

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// memory is S3 in memory, for what a real one cannot be had to do: three days without it, answers that are lost after an
// object was stored, objects that are lost after the answer. It keeps all that was ever stored under a key.
type memory struct {
	mu       sync.Mutex
	versions map[string][]stored
	attempts []time.Time
	puts     int

	// fault gives the answer in the place of the store's own; nil for that. It is called before anything is stored.
	fault func(r *http.Request) (*http.Response, error)
	// after is called when an object was stored, before the answer.
	after func(puts int)
	// lose forgets objects after they were stored.
	lose bool
	// unconditional does not know If-None-Match.
	unconditional bool
	// latency is how long an answer takes.
	latency time.Duration
}

type stored struct {
	body   []byte
	header http.Header
}

func newStore() *memory { return &memory{versions: map[string][]stored{}} }

// client is the SDK's client of the store.
func (s *memory) client() *s3.Client {
	return s3.New(s3.Options{
		Region: "us-west-2", BaseEndpoint: aws.String("http://store.invalid"), UsePathStyle: true, HTTPClient: s,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	})
}

var errRefused = &refusedError{}

// refusedError is as a connection that is refused.
type refusedError struct{}

func (*refusedError) Error() string   { return "connection refused" }
func (*refusedError) Unwrap() error   { return syscall.ECONNREFUSED }
func (*refusedError) Timeout() bool   { return false }
func (*refusedError) Temporary() bool { return true }

// Do implements the SDK's HTTP client.
func (s *memory) Do(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	return s.answer(r, body)
}

func (s *memory) answer(r *http.Request, body []byte) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts = append(s.attempts, time.Now())
	if s.latency > 0 {
		s.mu.Unlock()
		time.Sleep(s.latency)
		s.mu.Lock()
	}
	if s.fault != nil {
		if response, err := s.fault(r); response != nil || err != nil {
			return response, err
		}
	}
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	all := s.versions[key]
	switch r.Method {
	case http.MethodPut:
		if r.Header.Get("If-None-Match") == "*" {
			if s.unconditional {
				return failure(r, http.StatusNotImplemented, "NotImplemented"), nil
			}
			if len(all) > 0 {
				return failure(r, http.StatusPreconditionFailed, "PreconditionFailed"), nil
			}
		}
		if !s.lose {
			s.versions[key] = append(all, stored{body, r.Header.Clone()})
		}
		s.puts++
		if s.after != nil {
			s.after(s.puts)
		}
		response := answer(r, http.StatusOK, "")
		response.Header.Set("ETag", etag(body))
		return response, nil
	case http.MethodHead:
		if len(all) == 0 {
			return answer(r, http.StatusNotFound, ""), nil
		}
		last := all[len(all)-1]
		response := answer(r, http.StatusOK, "")
		for name, values := range last.header {
			if strings.HasPrefix(name, "X-Amz-Meta-") || strings.HasPrefix(name, "X-Amz-Checksum-") {
				response.Header[name] = values
			}
		}
		response.Header.Set("ETag", etag(last.body))
		response.ContentLength = int64(len(last.body))
		response.Header.Set("Content-Length", fmt.Sprint(len(last.body)))
		return response, nil
	}
	return nil, errors.New("no other request is expected")
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func answer(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func failure(r *http.Request, status int, code string) *http.Response {
	return answer(r, status, "<Error><Code>"+code+"</Code><Message>"+code+"</Message></Error>")
}

// ServeHTTP is the store for other processes.
func (s *memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	response, err := s.answer(r, body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body)
}

// times are when requests came.
func (s *memory) times() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.attempts)
}

// objects are the last version of each object; an error where a key has had two contents.
func (s *memory) objects() (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]byte{}
	for key, versions := range s.versions {
		for _, v := range versions[1:] {
			if !bytes.Equal(v.body, versions[0].body) {
				return nil, fmt.Errorf("%s has had two contents", key)
			}
		}
		all[key] = versions[0].body
	}
	return all, nil
}
