package oip

import (
	"errors"
	"io"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit/collector"
	"github.com/picket-ml/picket/internal/trace"
)

// traced is a server whose requests without a parent are traced if sample is 1.
func traced(t *testing.T, sample float64) (*fixture, *trace.Tracer, *collector.Collector) {
	t.Helper()
	c := collector.Start(t, collector.Options{GRPC: true})
	tracer, err := trace.New(trace.Options{Endpoint: c.Endpoint, Protocol: trace.GRPC, Sample: sample})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Shutdown(t.Context()) })
	return start(t, Options{Tracer: tracer}, map[string]*copyModel{"rows": standard()["rows"]}, engine.ModelOptions{}), tracer, c
}

var answered = map[string]string{
	"picket.protocol": "oip", "picket.model.name": "rows", "picket.model.backend": "copy", "picket.model.version": "7",
	"picket.outcome": "ok", "picket.rows": "2", "picket.batch.rows": "2", "picket.batch.requests": "1", "picket.inline": "true", "error.type": "",
}

func TestTracesOfGRPC(t *testing.T) {
	f, tracer, c := traced(t, 0)
	good := request("rows", "data", "FP32", []int64{2, 3}, pattern(24))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", collector.Parent)
	unwanted := metadata.AppendToOutgoingContext(t.Context(), "traceparent", collector.NotSampled)
	if _, err := f.ModelInfer(unwanted, good); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(ctx, good); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(ctx, request("rows", "data", "FP64", []int64{2, 3}, pattern(24))); err == nil {
		t.Fatal("a bad request was answered")
	}
	name := oipapi.GRPCInferenceService_ModelInfer_FullMethodName[1:]
	spans := c.Wait(t, name, 2)
	for _, s := range spans {
		s.CheckParent(t)
		s.CheckAttributes(t, map[string]string{"rpc.system.name": "grpc", "rpc.method": name})
	}
	spans[0].CheckAttributes(t, answered)
	spans[0].CheckAttributes(t, map[string]string{"rpc.response.status_code": "OK"})
	c.CheckPhases(t, spans[0])
	spans[1].CheckAttributes(t, map[string]string{"rpc.response.status_code": "INVALID_ARGUMENT", "picket.outcome": "input"})

	// Each request of a stream has a span, below the stream's parent.
	stream, err := f.ModelStreamInfer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := stream.Send(good); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, s := range c.Wait(t, oipapi.GRPCInferenceService_ModelStreamInfer_FullMethodName[1:], 3) {
		s.CheckParent(t)
		s.CheckAttributes(t, answered)
		c.CheckPhases(t, s)
	}
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Spans()); n != 2+3+3*4 {
		t.Errorf("%d spans came, and some that nobody wanted", n)
	}
}

func TestTracesOfHTTP(t *testing.T) {
	f, tracer, c := traced(t, 0)
	const body = `{"inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"data":[1,2,3,4,5,6]}]}`
	for _, call := range []struct{ parent, path, body string }{
		{"", "/v2/models/rows/infer", body},
		{collector.NotSampled, "/v2/models/rows/infer", body},
		{collector.Parent, "/v2/models/rows/infer", body},
		{collector.Parent, "/invocations", "1,2,3\n4,5,6"},
		{collector.Parent, "/v2/models/nobody/infer", body},
		{collector.NotSampled, "/v2/repository/models/rows/unload", ""},
		{"", "/v2/repository/models/nobody/unload", ""},
	} {
		f.do(t, "POST", call.path, call.body, "Traceparent", call.parent, "Content-Type", "text/csv")
	}
	for _, path := range []string{"/metrics", "/livez", "/v2"} {
		f.do(t, "GET", path, "", "Traceparent", collector.Parent)
	}
	const infer = "POST /v2/models/{model}/infer"
	spans := append(c.Wait(t, infer, 2), c.Wait(t, "POST /invocations", 1)...)
	for _, s := range spans {
		s.CheckParent(t)
		s.CheckAttributes(t, map[string]string{"http.request.method": "POST", "url.scheme": "http", "network.protocol.version": "1.1"})
	}
	for _, i := range []int{0, 2} {
		spans[i].CheckAttributes(t, answered)
		spans[i].CheckAttributes(t, map[string]string{"http.response.status_code": "200"})
		c.CheckPhases(t, spans[i])
	}
	spans[0].CheckAttributes(t, map[string]string{"http.route": "/v2/models/{model}/infer", "url.path": "/v2/models/rows/infer"})
	spans[1].CheckAttributes(t, map[string]string{
		"http.response.status_code": "404", "error.type": "404", "picket.model.name": "nobody", "picket.outcome": "other", "picket.rows": "",
	})
	c.Wait(t, "POST /v2/repository/models/{model}/unload", 1)[0].CheckAttributes(t, map[string]string{"http.response.status_code": "404"})
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Spans()); n != 2*4+1+1 {
		t.Errorf("%d spans came, and some that nobody wanted", n)
	}
	_, families := f.scrape(t)
	for _, m := range families["picket_trace_spans_total"].GetMetric() {
		want := 0.0
		if m.GetLabel()[0].GetValue() == "exported" {
			want = 10
		}
		if got := m.GetCounter().GetValue(); got != want {
			t.Errorf("picket_trace_spans_total %v is %v, want %v", m.GetLabel(), got, want)
		}
	}
	if got := families["picket_trace_queue_limit_spans"].GetMetric()[0].GetGauge().GetValue(); got != 2048 {
		t.Errorf("picket_trace_queue_limit_spans is %v", got)
	}
}
