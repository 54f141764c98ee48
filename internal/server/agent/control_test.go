package agent

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
)

func TestControl(t *testing.T) {
	f := start(t, Options{Daemon: Daemon{
		Version: "1.2", Started: time.Now().Add(-time.Hour), HostJSON: func() []byte { return []byte(`{"a":1}`) },
		Sockets: []Socket{{"agent", "/a.sock"}},
	}}, map[string]*copyModel{
		"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true, Variant: "x86-64-v3", Version: "7", Devices: []string{"GPU-x"}}},
		"fails": {signature: rowsOf3, onRun: func() error { return errTest }},
	})
	if _, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "fails", Url: "fails"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		f.checkServing(t) // two rows each
	}
	_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fails", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}})
	checkStatus(t, "a run that fails", err, codes.Internal)

	explained, err := f.control.Explain(t.Context(), &controlapi.ExplainRequest{Name: "fraud"})
	if err != nil || explained.GetChosen() != "copy" || len(explained.GetCandidates()) != 1 || !explained.Candidates[0].GetChosen() || explained.Candidates[0].GetReason() == "" || !slices.Equal(explained.GetGpus(), []string{"GPU-x"}) {
		t.Errorf("Explain answers %v, %v", explained, err)
	}
	settings := map[string]string{}
	for _, s := range explained.GetSettings() {
		settings[s.GetKey()] = s.GetValue()
	}
	want := map[string]string{
		"backend": "", "expected_rows": "1", "instances": "2", "threads": "2", "max_batch_rows": "64", "batch_delay": "0s", "max_queue": "1024",
		"timeout": "0s", "pin": "false", "explain": "false", "priority": "normal", "cores": "", "provider": "", "gpus": "",
	}
	if !maps.Equal(settings, want) {
		t.Errorf("it is run with %v, want %v", settings, want)
	}
	for _, name := range []string{"", "cards", strings.Repeat("a", 1<<16)} {
		_, err = f.control.Explain(t.Context(), &controlapi.ExplainRequest{Name: name})
		checkStatus(t, "Explain of a model that is not there", err, codes.NotFound)
	}

	stats, err := f.control.Stats(t.Context(), &controlapi.StatsRequest{})
	if err != nil || len(stats.GetModels()) != 2 {
		t.Fatalf("Stats answers %v, %v", stats, err)
	}
	fails, fraud := stats.Models[0], stats.Models[1]
	if len(fails.GetErrors()) != 1 || fails.Errors[0].GetReason() != "backend" || fails.Errors[0].GetCount() != 1 || fails.GetRows() != 0 || fails.GetRequests() != 1 {
		t.Errorf("the failing model has the counters %v", fails)
	}
	l := fraud.GetLatency()
	if fraud.GetName() != "fraud" || fraud.GetVersion() != "7" || fraud.GetRequests() != 3 || fraud.GetRows() != 6 || fraud.GetInlineRuns() != 3 || len(fraud.GetErrors()) != 0 ||
		!slices.Equal(fraud.GetGpus(), []string{"GPU-x"}) || len(fails.GetGpus()) != 0 || l.GetCount() != 3 || l.GetP50Us() <= 0 || l.GetP50Us() > l.GetP99Us() || l.GetP99Us() > l.GetMaxUs() || l.GetMeanUs() <= 0 {
		t.Errorf("the working model has the counters %v", fraud)
	}

	info, err := f.control.Info(t.Context(), &controlapi.InfoRequest{})
	if err != nil || info.GetVersion() != "1.2" || string(info.GetHostJson()) != `{"a":1}` || info.GetUptimeSeconds() < 3600 ||
		len(info.GetSockets()) != 1 || info.Sockets[0].GetProtocol() != "agent" || info.Sockets[0].GetPath() != "/a.sock" {
		t.Errorf("Info answers %v, %v", info, err)
	}
}
