// Package moto starts moto, which stands for AWS's services, for tests, and translates
// for it: the current clients of CloudWatch speak a protocol (RPC v2 with CBOR) that
// moto does not know, so a proxy turns their requests into the query protocol that it
// does.
package moto

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

// Region is where everything is.
const Region = "us-west-2"

// patience is how long moto may take to answer.
const patience = 60 * time.Second

// Server is a running moto. It ends with its test.
type Server struct {
	// Endpoint is for clients of CloudWatch, Direct moto's own for others.
	Endpoint, Direct string

	program string
	port    string
	mu      sync.Mutex
	process *exec.Cmd
	output  bytes.Buffer
	down    bool
	// requests are those that came to Endpoint, by operation.
	requests map[string][]Request
}

// Request is one that came.
type Request struct {
	Bytes, Unpacked int
	Compressed      bool
	// Data is how many metrics PutMetricData had.
	Data int
}

// Start starts the program moto_server.
func Start(t testing.TB, program string) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close() // moto is to have it
	s := &Server{program: program, port: port, Direct: "http://127.0.0.1:" + port, requests: map[string][]Request{}}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Endpoint = "http://" + front.Addr().String()
	proxy := &http.Server{Handler: s, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = proxy.Serve(front) // until it is closed
	}()
	t.Cleanup(func() {
		_ = proxy.Close() // nothing is lost that a test would want
		<-served
		s.stop()
	})
	s.start(t)
	return s
}

func (s *Server) start(t testing.TB) {
	t.Helper()
	s.process = exec.Command(s.program, "-H", "127.0.0.1", "-p", s.port)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get(s.Direct + "/moto-api/data.json")
		if err == nil {
			_ = answer.Body.Close() // it answers, which is all
			return
		}
		if time.Now().After(end) {
			s.stop()
			t.Fatalf("moto does not answer: %v\n%s", err, s.output.String())
		}
	}
}

func (s *Server) stop() {
	if s.process != nil {
		_ = s.process.Process.Kill() // it may have ended by itself
		_ = s.process.Wait()         // it was killed
		s.process = nil
	}
}

// Disconnect has clients find nobody, until Connect. What moto knows it keeps.
func (s *Server) Disconnect() { s.setDown(true) }

// Connect ends what Disconnect began.
func (s *Server) Connect() { s.setDown(false) }

func (s *Server) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Requests are those that came for an operation.
func (s *Server) Requests(operation string) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.requests[operation]...)
}

// ServeHTTP implements http.Handler: it is the translator.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	down := s.down
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	status, answer := s.translate(r)
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a client that has gone has nothing to lose
}

func (s *Server) translate(r *http.Request) (int, []byte) {
	operation := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return http.StatusBadRequest, fault("InvalidRequest", err.Error())
	}
	body, compressed := raw, r.Header.Get("Content-Encoding") == "gzip"
	if compressed {
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err == nil {
			body, err = io.ReadAll(z)
		}
		if err != nil {
			return http.StatusBadRequest, fault("InvalidRequest", err.Error())
		}
	}
	document, err := cbor.Decode(body)
	if err != nil {
		return http.StatusBadRequest, fault("SerializationException", err.Error())
	}
	form := url.Values{"Action": {operation}, "Version": {"2010-08-01"}}
	flatten(form, "", document)
	came := Request{Bytes: len(raw), Unpacked: len(body), Compressed: compressed}
	if fields, ok := document.(cbor.Map); ok {
		if list, ok := fields["MetricData"].(cbor.List); ok {
			came.Data = len(list)
		}
	}
	s.mu.Lock()
	s.requests[operation] = append(s.requests[operation], came)
	s.mu.Unlock()
	text, status, err := s.Query(r.Context(), "monitoring", form)
	if err != nil {
		return http.StatusServiceUnavailable, fault("ServiceUnavailable", err.Error())
	}
	if status != http.StatusOK {
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := xml.Unmarshal(text, &e); err != nil {
			return status, fault("InternalFailure", string(text))
		}
		return status, fault(e.Error.Code, e.Error.Message)
	}
	return http.StatusOK, cbor.Encode(cbor.Map{}) // of the operations that have no answer
}

func fault(code, message string) []byte {
	return cbor.Encode(cbor.Map{"__type": cbor.String(code), "message": cbor.String(message)})
}

// flatten writes a value as the query protocol has it.
func flatten(form url.Values, name string, v cbor.Value) {
	join := func(part string) string {
		if name == "" {
			return part
		}
		return name + "." + part
	}
	switch v := v.(type) {
	case cbor.Map:
		for key, inner := range v {
			flatten(form, join(key), inner)
		}
	case cbor.List:
		for i, inner := range v {
			flatten(form, join("member."+strconv.Itoa(i+1)), inner)
		}
	case cbor.String:
		form.Set(name, string(v))
	case cbor.Uint:
		form.Set(name, strconv.FormatUint(uint64(v), 10))
	case cbor.NegInt:
		form.Set(name, "-"+strconv.FormatUint(uint64(v), 10))
	case cbor.Float32:
		form.Set(name, strconv.FormatFloat(float64(v), 'g', -1, 32))
	case cbor.Float64:
		form.Set(name, strconv.FormatFloat(float64(v), 'g', -1, 64))
	case cbor.Bool:
		form.Set(name, strconv.FormatBool(bool(v)))
	case *cbor.Tag:
		form.Set(name, timestamp(v.Value))
	}
}

// timestamp is seconds since 1970 as a date, with milliseconds.
func timestamp(v cbor.Value) string {
	var seconds float64
	switch v := v.(type) {
	case cbor.Float64:
		seconds = float64(v)
	case cbor.Float32:
		seconds = float64(v)
	case cbor.Uint:
		seconds = float64(v)
	}
	return time.UnixMilli(int64(seconds * 1000)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// Query asks moto in the query protocol, and gives its XML.
func (s *Server) Query(ctx context.Context, service string, form url.Values) (text []byte, status int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Direct+"/", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// Which service is meant moto reads in the signature, which it does not check.
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/"+Region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, 0, fmt.Errorf("asking moto: %w", err)
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(answer.Body)
	return text, answer.StatusCode, err
}

// Datapoint is one of GetMetricStatistics.
type Datapoint struct {
	Timestamp                                   time.Time
	SampleCount, Sum, Average, Minimum, Maximum float64
	Unit                                        string
}

// Statistics asks for the statistics of a metric, by minutes, in a time.
func (s *Server) Statistics(t testing.TB, namespace, metric string, dimensions [][2]string, from, to time.Time) []Datapoint {
	t.Helper()
	form := url.Values{
		"Action": {"GetMetricStatistics"}, "Version": {"2010-08-01"}, "Namespace": {namespace}, "MetricName": {metric}, "Period": {"60"},
		"StartTime": {from.UTC().Format(time.RFC3339)}, "EndTime": {to.UTC().Format(time.RFC3339)},
	}
	for i, name := range []string{"SampleCount", "Sum", "Average", "Minimum", "Maximum"} {
		form.Set(fmt.Sprintf("Statistics.member.%d", i+1), name)
	}
	for i, d := range dimensions {
		form.Set(fmt.Sprintf("Dimensions.member.%d.Name", i+1), d[0])
		form.Set(fmt.Sprintf("Dimensions.member.%d.Value", i+1), d[1])
	}
	text, status, err := s.Query(context.Background(), "monitoring", form)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GetMetricStatistics: status %d, %v\n%s", status, err, text)
	}
	var answer struct {
		Datapoints []Datapoint `xml:"GetMetricStatisticsResult>Datapoints>member"`
	}
	if err := xml.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	return answer.Datapoints
}
