package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
)

// checkStatus wants a status with that code and one plain sentence.
func checkStatus(t *testing.T, what string, err error, want codes.Code) {
	t.Helper()
	st := status.Convert(err)
	if st.Code() != want {
		t.Errorf("%s: %v, want %v", what, err, want)
		return
	}
	if want == codes.OK {
		return
	}
	if m := st.Message(); m == "" || len(m) > failure.MaxSentence || strings.ContainsAny(m, "\n\r") || strings.HasSuffix(m, ".") {
		t.Errorf("%s: the message is not one sentence: %q", what, m)
	}
	if strings.Contains(st.String(), "sda") {
		t.Errorf("%s: the message has what is for the log only: %q", what, st.Message())
	}
}

func TestLoadModel(t *testing.T) {
	f := startRowsOf3(t, Options{})
	kinds := map[string]struct {
		err  error
		want codes.Code
	}{
		"not-found":   {engine.ErrNotFound, codes.NotFound},
		"damaged":     {engine.ErrArtifact, codes.FailedPrecondition},
		"other-host":  {engine.ErrHost, codes.FailedPrecondition},
		"not-trusted": {engine.ErrTrust, codes.FailedPrecondition},
		"unsupported": {engine.ErrUnsupported, codes.FailedPrecondition},
		"memory":      {engine.ErrMemory, codes.ResourceExhausted},
		"deadline":    {engine.ErrDeadline, codes.DeadlineExceeded},
		"canceled":    {engine.ErrCanceled, codes.Canceled},
		"run":         {engine.ErrRun, codes.Internal},
		"context":     {context.Canceled, codes.Canceled},
		"timeout":     {context.DeadlineExceeded, codes.DeadlineExceeded},
	}
	for url, kind := range kinds {
		f.source.errs[url] = fmt.Errorf("%w: plain words", kind.err)
		f.source.errs[url+"-9"] = fmt.Errorf("%w: it wants 64 of them", kind.err)
		f.source.models["open-"+url] = &copyModel{signature: rowsOf3, openErr: fmt.Errorf("%w: it wants 64 of them", kind.err)}
	}
	type request struct {
		name, url string
		want      codes.Code
	}
	requests := []request{
		{"fraud", "fraud", codes.AlreadyExists},
		{"cards", "nowhere", codes.NotFound},
		{"cards", "", codes.NotFound},
		{"cards", strings.Repeat("x", maxURLBytes+1), codes.NotFound},
		{"", "fraud", codes.InvalidArgument},
		{"-a", "fraud", codes.InvalidArgument},
		{"a-", "fraud", codes.InvalidArgument},
		{"a_b", "fraud", codes.InvalidArgument},
		{"a.1", "fraud", codes.InvalidArgument},
		{"a b", "fraud", codes.InvalidArgument},
		{"a\n", "fraud", codes.InvalidArgument},
		{"../a", "fraud", codes.InvalidArgument},
		{"ü", "fraud", codes.InvalidArgument},
		{strings.Repeat("a", 300), "fraud", codes.InvalidArgument},
		{strings.Repeat("6", 1<<20), "fraud", codes.InvalidArgument},
	}
	for url, kind := range kinds {
		requests = append(requests, request{"cards", url, kind.want}, request{"cards", url + "-9", kind.want}, request{"m6", "open-" + url, kind.want})
	}
	for _, r := range requests {
		_, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: r.name, Url: r.url})
		what := fmt.Sprintf("LoadModel(%.20q, %.20q)", r.name, r.url)
		checkStatus(t, what, err, r.want)
		if m := status.Convert(err).Message(); strings.ContainsAny(m, "0123456789") {
			t.Errorf("%s: the message has digits: %q", what, m)
		}
	}
	f.checkServing(t)

	good, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "a--b-1", Url: "fraud"})
	if err != nil || good.GetModel().GetName() != "a--b-1" || good.GetModel().GetUrl() != "fraud" {
		t.Errorf("LoadModel answered %v, %v", good, err)
	}
}

// What the message of a LoadModel error leaves out is in its details.
func TestLoadModelDetails(t *testing.T) {
	f := startRowsOf3(t, Options{})
	f.source.errs["new"] = fmt.Errorf("%w: it needs version 2.38 of glibc", engine.ErrHost)
	_, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "cards", Url: "new"})
	details := status.Convert(err).Details()
	if len(details) != 1 {
		t.Fatalf("%v has the details %v, want one", err, details)
	}
	text, ok := details[0].(*wrapperspb.StringValue)
	if !ok || !strings.Contains(text.GetValue(), "2.38 of glibc") {
		t.Errorf("the details are %v", details[0])
	}
	if !strings.Contains(f.log.String(), "2.38 of glibc") {
		t.Errorf("the log does not have the reason:\n%s", f.log)
	}

	f.source.errs["unsigned"] = fmt.Errorf("%w: it is not signed", engine.ErrTrust)
	_, err = f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "cards", Url: "unsigned"})
	details = status.Convert(err).Details()
	if len(details) != 2 {
		t.Fatalf("%v has the details %v, want two", err, details)
	}
	if info, ok := details[1].(*errdetails.ErrorInfo); !ok || info.GetDomain() != agentapi.ErrorDomain || info.GetReason() != agentapi.ReasonNotTrusted {
		t.Errorf("a refusal by policy has the details %v", details[1])
	}
}

func TestNamesThatAreNotLoaded(t *testing.T) {
	f := startRowsOf3(t, Options{})
	for _, name := range []string{"", "cards", "FRAUD", "../fraud", strings.Repeat("a", 1<<20)} {
		what := fmt.Sprintf("of %.20q", name)
		_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: name, Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}})
		checkStatus(t, "Predict "+what, err, codes.NotFound)
		_, err = f.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: name})
		checkStatus(t, "UnLoadModel "+what, err, codes.NotFound)
		_, err = f.DescribeModel(t.Context(), &agentapi.DescribeModelRequest{Name: name})
		checkStatus(t, "DescribeModel "+what, err, codes.NotFound)
		_, err = f.CaptureData(t.Context(), &agentapi.CaptureDataRequest{ModelName: name, CaptureId: "1"})
		checkStatus(t, "CaptureData "+what, err, codes.NotFound)
	}
	f.checkServing(t)
	if _, err := f.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: "fraud"}); err != nil {
		t.Error(err)
	}
	_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}})
	checkStatus(t, "Predict after UnLoadModel", err, codes.NotFound)
}

func TestPredictFailures(t *testing.T) {
	outcome := make(chan error, 1)
	block := make(chan struct{})
	f := start(t, Options{}, map[string]*copyModel{
		"fraud":  {signature: rowsOf3, properties: engine.Properties{Inline: true}},
		"failed": {signature: rowsOf3, onRun: func() error { return errTest }},
		"panics": {signature: rowsOf3, onRun: func() error { panic("at /dev/sda1") }},
		"stuck":  {signature: rowsOf3, onRun: func() error { <-block; return nil }},
	})
	defer close(block)
	for _, name := range []string{"failed", "panics", "stuck"} {
		if _, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: name, Url: name}); err != nil {
			t.Fatal(err)
		}
	}
	request := func(name string) *agentapi.PredictRequest {
		return &agentapi.PredictRequest{Name: name, Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}}
	}
	_, err := f.Predict(t.Context(), request("failed"))
	checkStatus(t, "a backend that fails", err, codes.Internal)
	if !strings.Contains(f.log.String(), errTest.Error()) {
		t.Errorf("the log does not have the backend's reason:\n%s", f.log)
	}
	_, err = f.Predict(t.Context(), request("panics"))
	checkStatus(t, "a backend that panics", err, codes.Internal)

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = f.Predict(ctx, request("stuck"))
	checkStatus(t, "a deadline", err, codes.DeadlineExceeded)

	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		_, err := f.Predict(ctx, request("stuck"))
		outcome <- err
	}()
	waitFor(t, "the request to wait", func() bool { return waiting(f, "stuck") == 1 })
	cancel()
	checkStatus(t, "a cancelled request", <-outcome, codes.Canceled)
	waitFor(t, "the cancelled request to leave the queue", func() bool { return waiting(f, "stuck") == 0 })
	f.checkServing(t)
}

func waiting(f *fixture, name string) int {
	model, err := f.engine.Acquire(name)
	if err != nil {
		return -1
	}
	defer model.Release()
	return model.Stats().WaitingRequests
}

// waitFor polls until ok; it fails the test when that takes very long.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestBusyAndClosed(t *testing.T) {
	err := (&service{}).status("predicting", "m", fmt.Errorf("predicting: %w: 1024 requests are waiting already", engine.ErrBusy), 0)
	checkStatus(t, "a full queue", err, codes.ResourceExhausted)

	f := startRowsOf3(t, Options{})
	if err := f.engine.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud"})
	checkStatus(t, "Predict while shutting down", err, codes.Unavailable)
	_, err = f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "fraud", Url: "fraud"})
	checkStatus(t, "LoadModel while shutting down", err, codes.Unavailable)
}

func TestCaptureData(t *testing.T) {
	f := startRowsOf3(t, Options{})
	now := time.Now()
	at := func(d time.Duration) *agentapi.Timestamp { return &agentapi.Timestamp{Seconds: now.Add(d).Unix()} }
	metadata := &agentapi.TensorMetadata{Name: []byte("output"), DataType: agentapi.DataType_FLOAT32, Shape: []int32{1, 257}}
	odd := []*agentapi.Tensor{{TensorMetadata: metadata, Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, 1001)}}}
	for _, test := range []struct {
		what string
		in   *agentapi.CaptureDataRequest
		want codes.Code
	}{
		// All of these an agent takes; there is only nowhere to keep them yet.
		{"nothing but an id", &agentapi.CaptureDataRequest{CaptureId: "1"}, codes.FailedPrecondition},
		{"another model's tensors", &agentapi.CaptureDataRequest{CaptureId: "1", InputTensors: odd, OutputTensors: odd}, codes.FailedPrecondition},
		{"a time in the past", &agentapi.CaptureDataRequest{CaptureId: "1", InferenceTimestamp: at(-time.Hour)}, codes.FailedPrecondition},
		{"a clock slightly ahead", &agentapi.CaptureDataRequest{CaptureId: "1", InferenceTimestamp: at(time.Minute)}, codes.FailedPrecondition},

		{"a time in the future", &agentapi.CaptureDataRequest{CaptureId: "1", InferenceTimestamp: at(time.Hour)}, codes.OutOfRange},
		{"no id", &agentapi.CaptureDataRequest{}, codes.InvalidArgument},
		{"a long id", &agentapi.CaptureDataRequest{CaptureId: strings.Repeat("1", 257)}, codes.InvalidArgument},
		{"an unprintable id", &agentapi.CaptureDataRequest{CaptureId: "a\nb"}, codes.InvalidArgument},
		{"a time that is none", &agentapi.CaptureDataRequest{CaptureId: "1", InferenceTimestamp: &agentapi.Timestamp{Nanos: -1}}, codes.InvalidArgument},
		{"a time beyond all calendars", &agentapi.CaptureDataRequest{CaptureId: "1", InferenceTimestamp: &agentapi.Timestamp{Seconds: 1 << 62}}, codes.InvalidArgument},
		{"a tensor without data", &agentapi.CaptureDataRequest{CaptureId: "1", InputTensors: []*agentapi.Tensor{{}}}, codes.InvalidArgument},
		{"a tensor of no type", &agentapi.CaptureDataRequest{CaptureId: "1", OutputTensors: []*agentapi.Tensor{tensorOf("a", 99, nil, nil)}}, codes.InvalidArgument},
		{"an unknown encoding", &agentapi.CaptureDataRequest{CaptureId: "1", Inputs: []*agentapi.AuxilaryData{{Encoding: 9}}}, codes.InvalidArgument},
	} {
		test.in.ModelName = "fraud"
		_, err := f.CaptureData(t.Context(), test.in)
		checkStatus(t, test.what, err, test.want)
	}
	st, err := f.GetCaptureDataStatus(t.Context(), &agentapi.GetCaptureDataStatusRequest{CaptureId: "1"})
	if err != nil || st.GetStatus() != agentapi.CaptureDataStatus_NOT_FOUND {
		t.Errorf("the status of an unknown capture is %v, %v", st, err)
	}
	f.checkServing(t)
}
