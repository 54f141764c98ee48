//go:build cgo && linux

package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// watched launches a daemon with the fraud model and has it answer three rows.
func watched(t *testing.T, settings string, env ...string) (dir string, p *process) {
	t.Helper()
	dir = t.TempDir()
	file := filepath.Join(dir, "picketd.yaml")
	text := "sockets: {dir: " + dir + "}\nstate_dir: " + filepath.Join(dir, "state") + "\nunsigned: true\nmodels: [{name: fraud, path: " + fraudModel(t) + "}]\n"
	if err := os.WriteFile(file, []byte(text+strings.ReplaceAll(settings, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	p = launch(t, filepath.Join(dir, "agent.sock"), env, "--config", file)
	p.connect(t)
	rows := tensor.AsBytes(testkit.Rows(10000, fraudFeatures)[:3*fraudFeatures])
	if _, err := p.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{{Data: &agentapi.Tensor_ByteData{ByteData: rows}}}}); err != nil {
		t.Fatal(err)
	}
	return dir, p
}

// The last sample of a daemon that ends has all that came before, for CloudWatch's log
// lines too.
func TestLastMetrics(t *testing.T) {
	dir, p := watched(t, "cloudwatch: {emf: DIR/metrics.log, period: 1h, fleet: bank, device: host-1}\ndrift: {sample: 1}\n")
	p.stop(t)
	text, err := os.ReadFile(filepath.Join(dir, "metrics.log"))
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		if fields["Fleet"] != "bank" || fields["Device"] != nil && fields["Device"] != "host-1" {
			t.Errorf("the line is from %v %v", fields["Fleet"], fields["Device"])
		}
		for name, v := range fields {
			if number, ok := v.(float64); ok {
				sums[name] += number
			}
		}
	}
	for name, want := range map[string]float64{"Requests": 1, "Rows": 3, "FailedRequests": 0, "LoadedModels": 1, "Up": 1} {
		if got, ok := sums[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v, in\n%s", name, got, want, text)
		}
	}
}

// A CloudWatch that nobody reaches keeps nobody from being answered, nor the daemon from
// ending, and what was measured is on disk for the next.
func TestMetricsForNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // it is never accepted from
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keys := []string{"AWS_ACCESS_KEY_ID=key", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true"}
	dir, p := watched(t, "aws: {region: us-west-2}\ncloudwatch: {enabled: true, endpoint: 'http://"+l.Addr().String()+"', period: 1h}\n", keys...)
	p.stop(t)
	if files, _ := filepath.Glob(filepath.Join(dir, "state", "cloudwatch", "*.json.gz")); len(files) != 1 {
		t.Errorf("on disk are %q, want one batch", files)
	}
}

// Where the residency policy lets no metrics leave, none do, whatever else is said.
func TestMetricsMayNotLeave(t *testing.T) {
	dir, p := watched(t, "capture: {residency: {metrics: false}}\ncloudwatch: {emf: DIR/metrics.log, period: 1s}\n")
	p.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "metrics.log")); err == nil {
		t.Error("metrics were written that may not leave")
	}
}
