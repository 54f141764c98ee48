package agent

import (
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/testkit/collector"
	"github.com/picket-ml/picket/internal/trace"
)

// traced is a tracer that sends to a collector of the test's, none of the requests
// without a parent if sample is 0.
func traced(t *testing.T, sample float64) (*trace.Tracer, *collector.Collector) {
	t.Helper()
	c := collector.Start(t, collector.Options{})
	tracer, err := trace.New(trace.Options{Endpoint: c.Endpoint, Sample: sample})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tracer.Shutdown(t.Context()) })
	return tracer, c
}

func TestTraces(t *testing.T) {
	tracer, c := traced(t, 0)
	f := start(t, Options{Tracer: tracer}, map[string]*copyModel{
		"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true, Version: "7"}},
		"stuck": {signature: rowsOf3, onRun: func() error { return errTest }},
	})
	good := &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(24))}}
	call := func(parent, name string, in *agentapi.PredictRequest) {
		ctx := t.Context()
		if parent != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", parent, "tracestate", "vendor=x")
		}
		in.Name = name
		_, _ = f.Predict(ctx, in)
	}
	parents := metadata.AppendToOutgoingContext(t.Context(), "traceparent", collector.Parent)
	if _, err := f.LoadModel(parents, &agentapi.LoadModelRequest{Name: "stuck", Url: "stuck"}); err != nil {
		t.Fatal(err)
	}
	call("", "fraud", good)                   // it is not its turn
	call(collector.NotSampled, "fraud", good) // nor is it wanted
	call("nonsense", "fraud", good)
	call(collector.Parent, "fraud", good)
	call(collector.Parent, "stuck", good)
	call(collector.Parent, "nobody", good)
	call(collector.Parent, "fraud", &agentapi.PredictRequest{Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(5))}})
	unwanted := metadata.AppendToOutgoingContext(t.Context(), "traceparent", collector.NotSampled)
	if _, err := f.UnLoadModel(unwanted, &agentapi.UnLoadModelRequest{Name: "fraud"}); err != nil {
		t.Fatal(err)
	}

	name := agentapi.Agent_Predict_FullMethodName[1:]
	spans := c.Wait(t, name, 4)
	for _, s := range spans {
		s.CheckParent(t)
		s.CheckAttributes(t, map[string]string{"rpc.system.name": "grpc", "rpc.method": name, "picket.protocol": "agent"})
	}
	spans[0].CheckAttributes(t, map[string]string{
		"picket.model.name": "fraud", "picket.model.backend": "copy", "picket.model.version": "7", "picket.rows": "2", "picket.outcome": "ok",
		"picket.batch.rows": "2", "picket.batch.requests": "1", "picket.inline": "true", "rpc.response.status_code": "OK", "error.type": "",
	})
	c.CheckPhases(t, spans[0])
	if spans[0].GetTraceState() != "vendor=x" {
		t.Errorf("the trace state is %q", spans[0].GetTraceState())
	}
	spans[1].CheckAttributes(t, map[string]string{
		"picket.model.name": "stuck", "picket.outcome": "run", "picket.inline": "false", "rpc.response.status_code": "INTERNAL", "error.type": "INTERNAL",
	})
	c.CheckPhases(t, spans[1])
	if got := spans[1].GetStatus().GetCode().String(); got != "STATUS_CODE_ERROR" {
		t.Errorf("a failure inside the daemon has the status %s", got)
	}
	spans[2].CheckAttributes(t, map[string]string{
		"picket.model.name": "nobody", "picket.model.backend": "", "picket.rows": "", "picket.outcome": "other", "rpc.response.status_code": "NOT_FOUND",
	})
	spans[3].CheckAttributes(t, map[string]string{
		"picket.model.name": "fraud", "picket.rows": "", "picket.outcome": "input", "rpc.response.status_code": "INVALID_ARGUMENT",
	})
	if below := c.Below(spans[3]); len(below) != 0 || spans[3].GetStatus().GetCode() != 0 {
		t.Errorf("a client's mistake has the status %v and phases %v", spans[3].GetStatus(), below)
	}

	load := c.Wait(t, agentapi.Agent_LoadModel_FullMethodName[1:], 2)
	if len(load[0].GetParentSpanId()) != 0 {
		t.Errorf("a load without a parent is %v", load[0])
	}
	load[1].CheckParent(t)
	for i, model := range []string{"fraud", "stuck"} {
		below := c.Below(load[i])
		if len(below) != 1 || below[0].GetName() != "load model" {
			t.Fatalf("below the call for a load are %v", below)
		}
		below[0].CheckAttributes(t, map[string]string{"picket.model.name": model, "picket.model.backend": "copy", "picket.outcome": "ok"})
	}
	if err := tracer.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(c.Spans()); n != 4+3+3+2+2 { // calls, phases of two of them; loads, and what is below
		t.Errorf("%d spans came, and some that nobody wanted", n)
	}
}

// With a fraction of 1 every request is traced, and those that a batch is made of
// know it.
func TestTracesOfABatch(t *testing.T) {
	tracer, c := traced(t, 1)
	f := start(t, Options{Tracer: tracer}, map[string]*copyModel{"fraud": {signature: rowsOf3}})
	const n = 20
	failed := make(chan error, n)
	for range n {
		go func() {
			_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(24))}})
			failed <- err
		}()
	}
	for range n {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	for _, s := range c.Wait(t, agentapi.Agent_Predict_FullMethodName[1:], n) {
		if len(s.GetParentSpanId()) != 0 {
			t.Errorf("a request without a parent is %v", s)
		}
		c.CheckPhases(t, s)
		a := s.Attributes()
		if a["picket.batch.rows"] == "" || a["picket.batch.rows"] == "0" || a["picket.batch.requests"] == "0" {
			t.Errorf("a request that was run has %v", a)
		}
	}
}
