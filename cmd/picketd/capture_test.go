//go:build cgo && linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// captured is a daemon that captures.
type captured struct{ *reloads }

func captureConfig(dir, sampling, more string) string {
	return fmt.Sprintf("state_dir: %s\ncapture: {enabled: true, flush_after: 5ms%s}\nmodels: [{name: fraud, path: %s, capture: %s}]\n", filepath.Join(dir, "state"), more, dir+"/model", sampling)
}

func startCaptured(t *testing.T, sampling, more string) *captured {
	t.Helper()
	fraud := fraudModel(t)
	state := t.TempDir()
	text := strings.ReplaceAll(captureConfig(state, sampling, more), state+"/model", fraud)
	return &captured{startReloads(t, text)}
}

func (c *captured) predict(t *testing.T) {
	t.Helper()
	in := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, 30*4)}}
	if _, err := c.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}}); err != nil {
		t.Fatal(err)
	}
}

func (c *captured) explicit(t *testing.T, id string) error {
	t.Helper()
	_, err := c.CaptureData(t.Context(), &agentapi.CaptureDataRequest{
		ModelName: "fraud", CaptureId: id,
		InputTensors: []*agentapi.Tensor{{TensorMetadata: &agentapi.TensorMetadata{Name: []byte("data"), DataType: agentapi.DataType_FLOAT32, Shape: []int32{1, 2}}, Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, 8)}}},
		Inputs:       []*agentapi.AuxilaryData{{Name: "photo", Encoding: agentapi.Encoding_NONE, Data: &agentapi.AuxilaryData_ByteData{ByteData: []byte("jpg")}}},
	})
	return err
}

func (c *captured) status(t *testing.T, id string, want agentapi.CaptureDataStatus) {
	t.Helper()
	out, err := c.GetCaptureDataStatus(t.Context(), &agentapi.GetCaptureDataStatusRequest{CaptureId: id})
	if err != nil || out.GetStatus() != want {
		t.Errorf("capture %s is %v, %v, want %v\n%s", id, out.GetStatus(), err, want, &c.stderr)
	}
}

// truth tells an outcome, and returns what the daemon says.
func (c *captured) truth(t *testing.T, body string) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", filepath.Join(c.dir, "oip.sock"))
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post("http://picketd/v2/models/fraud/truth", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(said)
}

func (c *captured) metric(t *testing.T, name string) int {
	t.Helper()
	m := regexp.MustCompile(`(?m)^picket_capture_` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(c.scrape(t, filepath.Join(c.dir, "oip.sock")))
	if m == nil {
		t.Fatalf("there is no metric %s", name)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(v)
}

func TestDaemonCaptures(t *testing.T) {
	c := startCaptured(t, "{every: 1}", "")
	for range 5 {
		c.predict(t)
	}
	if err := c.explicit(t, "one"); err != nil {
		t.Fatal(err)
	}
	if err := c.explicit(t, "one"); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same id again: %v", err)
	}
	c.status(t, "one", agentapi.CaptureDataStatus_IN_PROGRESS)
	c.status(t, "two", agentapi.CaptureDataStatus_NOT_FOUND)
	if code, said := c.truth(t, `[{"id": "one", "outcome": {"fraud": true}}, {"id": "x", "outcome": 0, "time": "2026-01-02T03:04:05Z"}]`); code != http.StatusOK || strings.TrimSpace(said) != `{"accepted":2}` {
		t.Errorf("telling outcomes: %d %s", code, said)
	}
	for body, says := range map[string]string{
		`{"id": "a"}`:                           "is missing",
		`{"outcome": 1}`:                        "an id of 0 bytes",
		`{"id": "a", "outcome": 1, "other": 2}`: "unknown field",
		`{"id": "a", "outcome": 1} {"id": `:     "no JSON",
		``:                                      "no outcomes",
		`{"id":"a","outcome":1,"time":"2999-01-01T00:00:00Z"}`: "check the clock",
	} {
		if code, said := c.truth(t, body); code != http.StatusBadRequest || !strings.Contains(said, says) {
			t.Errorf("%s was answered with %d %s", body, code, said)
		}
	}
	page := readFile(t, "../../docs/metrics.md")
	for _, name := range regexp.MustCompile(`(?m)^picket_capture_\w+`).FindAllString(c.scrape(t, filepath.Join(c.dir, "oip.sock")), -1) {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/metrics.md does not explain %s", name)
		}
	}
	// A crash, and what was said to be durable is.
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	c.wait(t)
	c.conn.Close()
	c.process = launch(t, c.path, nil, "--config", c.file)
	c.connect(t)
	c.status(t, "one", agentapi.CaptureDataStatus_IN_PROGRESS)
	if err := c.explicit(t, "one"); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same id after a crash: %v", err)
	}
	c.predict(t)
	c.stop(t)

	s, err := spool.Open(spool.Options{Dir: filepath.Join(stateOfCapture(t, c.file), "capture")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kinds := map[capture.Kind]int{}
	for _, g := range s.Segments() {
		for b, err := range s.Batches(g) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range b.Records {
				kinds[r.Kind]++
				if r.Model != "fraud" {
					t.Errorf("a record of model %q", r.Model)
				}
				switch r.Kind {
				case capture.Explicit:
					if r.Inference != "one" || len(r.Inputs) != 1 || len(r.Inputs[0].Data) != 8 || string(r.AuxInputs[0].Data) != "jpg" {
						t.Errorf("%+v", r)
					}
				case capture.Truth:
					if r.Inference == "one" && string(r.AuxOutputs[0].Data) != `{"fraud": true}` {
						t.Errorf("%+v", r)
					}
				}
			}
		}
	}
	if kinds[capture.Explicit] != 1 || kinds[capture.Truth] != 2 || kinds[capture.Sample] < 1 || kinds[capture.Sample] > 6 {
		t.Errorf("records: %v", kinds)
	}
	if err := s.Acknowledge(s.Segments()[len(s.Segments())-1].Number, spool.Outcome{}); err != nil {
		t.Fatal(err)
	}
	if s.Known("one") != capture.Left {
		t.Error("a capture that has left is not known to have")
	}
}

// stateOfCapture is the state directory in the configuration.
func stateOfCapture(t *testing.T, file string) string {
	t.Helper()
	m := regexp.MustCompile(`state_dir: (\S+)`).FindStringSubmatch(readFile(t, file))
	if m == nil {
		t.Fatal("the configuration has no state_dir")
	}
	return m[1]
}

// A reload changes what is sampled and loads no model again; a restart passes the spool
// on, and loses nothing of what was accepted.
func TestCaptureFollowsReloadAndRestart(t *testing.T) {
	c := startCaptured(t, "{}", "")
	c.predict(t)
	text := strings.SplitN(readFile(t, c.file), "\n", 3)[2]
	if said := c.reload(t, strings.Replace(text, "capture: {}}", "capture: {rate: 1}}", 1)); strings.Contains(said, "fraud") {
		t.Errorf("the reload said %q", said)
	}
	c.predict(t)
	wait(t, func() bool { return c.metric(t, "accepted_records_total") == 1 })
	if err := c.explicit(t, "before"); err != nil {
		t.Fatal(err)
	}
	r := startReign(t, c.process)
	r.restart(t)
	if err := c.explicit(t, "after"); err != nil { // waits for the old process to leave the spool
		t.Fatal(err)
	}
	c.status(t, "before", agentapi.CaptureDataStatus_IN_PROGRESS)
	c.status(t, "after", agentapi.CaptureDataStatus_IN_PROGRESS)
	c.predict(t)
	wait(t, func() bool { return c.metric(t, "accepted_records_total") == 4 })
	if n := c.metric(t, "on_disk_records"); n != 4 {
		t.Errorf("%d records are on disk", n)
	}
	r.stop(t)
}

func wait(t *testing.T, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not come to that")
		}
	}
}

// A spool that cannot be opened, or is full, stops no prediction.
func TestPredictionsDoNotNeedTheSpool(t *testing.T) {
	c := startCaptured(t, "{rate: 1}", ", when_full: drop_newest, segment_bytes: 64KiB, beside_bytes: 1KiB, max_bytes: 256KiB")
	other := strings.Replace(strings.SplitN(readFile(t, c.file), "\n", 3)[2], "models:", "model_roots: []\nmodels:", 1)
	second := startReloads(t, other) // the same spool
	s := &captured{second}
	s.predict(t)
	if err := s.explicit(t, "x"); status.Code(err) != codes.Unavailable {
		t.Errorf("capturing without the spool: %v", err)
	}
	if s.metric(t, "spool_open") != 0 {
		t.Error("two processes have the spool")
	}
	s.stop(t)

	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		c.predict(t)
		err = c.explicit(t, strconv.Itoa(n))
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a full spool: %v after %d", err, n)
	}
	c.predict(t)
	c.signal(t, syscall.SIGTERM)
	c.wait(t)
}

// A prediction over the agent's interface is called what the answer's metadata says, or what the caller's does.
func TestAgentNamesInferences(t *testing.T) {
	c := startCaptured(t, "{rate: 1}", "")
	predict := func(ctx context.Context) (string, error) {
		in := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, 30*4)}}
		var header metadata.MD
		_, err := c.Predict(ctx, &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}}, grpc.Header(&header))
		return strings.Join(header.Get("picket-inference-id"), " "), err
	}
	named := func(id string) context.Context {
		return metadata.AppendToOutgoingContext(t.Context(), "picket-inference-id", id)
	}
	made, err := predict(t.Context())
	if err != nil || len(made) < 16 {
		t.Errorf("the answer says %q, %v", made, err)
	}
	if given, err := predict(named("payment-17")); err != nil || given != "payment-17" {
		t.Errorf("the answer says %q, %v", given, err)
	}
	if _, err := predict(named(strings.Repeat("x", capture.MaxInference+1))); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a name that is too long: %v", err)
	}
	wait(t, func() bool { return c.metric(t, "accepted_records_total") == 2 })
	c.stop(t)
	records, err := recordsIn(t, filepath.Join(stateOfCapture(t, c.file), "capture"), nil)
	if err != nil || len(records) != 2 || records[0].Inference != made || records[1].Inference != "payment-17" {
		t.Errorf("%+v, %v", records, err)
	}
}
