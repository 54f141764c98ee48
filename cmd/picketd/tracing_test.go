//go:build cgo && linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/collector"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

// A daemon that is told of a collector, by the file or by the environment, sends it
// its loads and its requests, the last of them when it is stopped.
func TestTraces(t *testing.T) {
	for name, byFile := range map[string]bool{"by the file": true, "by the environment": false} {
		t.Run(name, func(t *testing.T) {
			c := collector.Start(t, collector.Options{GRPC: !byFile})
			dir := t.TempDir()
			file := filepath.Join(dir, "picketd.yaml")
			text := "sockets: {dir: " + dir + "}\nunsigned: true\nmodels: [{name: fraud, path: " + fraudModel(t) + "}]\n"
			env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.Endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "OTEL_TRACES_SAMPLER=always_on", "OTEL_SERVICE_NAME=scorer"}
			if byFile {
				text += "tracing: {endpoint: '" + c.Endpoint + "', sample: 1, service: scorer, resource: [deployment.environment.name=test]}\n"
				env = nil
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			p := launch(t, filepath.Join(dir, "agent.sock"), env, "--config", file)
			p.connect(t)
			rows := tensor.AsBytes(testkit.Rows(10000, fraudFeatures)[:3*fraudFeatures])
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", collector.Parent)
			if _, err := p.Predict(ctx, &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{{Data: &agentapi.Tensor_ByteData{ByteData: rows}}}}); err != nil {
				t.Fatal(err)
			}
			client, err := lane.Dial(t.Context(), filepath.Join(dir, "lane.sock"), lane.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m, err := client.Model(t.Context(), "fraud")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.PredictFloat32(t.Context(), testkit.Rows(10000, fraudFeatures)[:fraudFeatures]); err != nil {
				t.Fatal(err)
			}
			client.Close()
			p.stop(t) // and all spans are there

			load := c.Wait(t, "load model", 1)[0]
			load.CheckAttributes(t, map[string]string{"picket.model.name": "fraud", "picket.outcome": "ok"})
			if load.Resource["service.name"] != "scorer" || load.Resource["service.version"] != "test-build" || byFile && load.Resource["deployment.environment.name"] != "test" {
				t.Errorf("the spans come from %v", load.Resource)
			}
			predict := c.Wait(t, agentapi.Agent_Predict_FullMethodName[1:], 1)[0]
			predict.CheckParent(t)
			predict.CheckAttributes(t, map[string]string{"picket.rows": "3", "picket.outcome": "ok", "picket.model.name": "fraud"})
			c.CheckPhases(t, predict)
			c.CheckPhases(t, c.Wait(t, "lane/predict", 1)[0])
		})
	}
}

// A collector that is not there, or takes nothing, keeps nobody from being answered,
// nor the daemon from starting and stopping.
func TestTracesOfNobody(t *testing.T) {
	c := collector.Start(t, collector.Options{})
	c.Stall()
	for _, endpoint := range []string{"unix:///nowhere/otlp.sock", c.Endpoint} {
		dir := t.TempDir()
		p := launch(t, filepath.Join(dir, "agent.sock"), []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + endpoint, "OTEL_TRACES_SAMPLER=always_on"},
			"--sockets", dir, "--unsigned", "--model", "fraud="+fraudModel(t))
		p.connect(t)
		rows := tensor.AsBytes(testkit.Rows(10000, fraudFeatures)[:fraudFeatures])
		for range 100 {
			if _, err := p.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{{Data: &agentapi.Tensor_ByteData{ByteData: rows}}}}); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(endpoint, "unix") {
			p.waitForLog(t, "sending traces failed")
		} else {
			c.Resume()
		}
		p.stop(t)
	}
	launch(t, "", []string{"OTEL_EXPORTER_OTLP_ENDPOINT=nonsense"}, "--sockets", t.TempDir()).checkRefused(t, exitUsage, "tracing.endpoint")
}
