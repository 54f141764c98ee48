package oip

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	promodel "github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/drift"
	"github.com/picket-ml/picket/internal/metrics/cloudwatch"
	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// scrape reads the metrics as Prometheus does.
func (f *fixture) scrape(t testing.TB) (text string, families map[string]*dto.MetricFamily) {
	t.Helper()
	a := f.do(t, "GET", "/metrics", "")
	if a.status != 200 {
		t.Fatalf("/metrics answered %d %s", a.status, a.body)
	}
	parser := expfmt.NewTextParser(promodel.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return a.body, families
}

// labelsOf are the labels of a metric.
func labelsOf(m *dto.Metric) map[string]string {
	labels := make(map[string]string)
	for _, pair := range m.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

// exported are the names that queries can use.
func exported(families map[string]*dto.MetricFamily) map[string]series {
	all := map[string]series{"up": {}} // Prometheus' own word for whether it could scrape
	for name, family := range families {
		s := series{}
		for _, m := range family.GetMetric() {
			for label, value := range labelsOf(m) {
				if s[label] == nil {
					s[label] = make(map[string]bool)
				}
				s[label][value] = true
			}
		}
		if family.GetType() != dto.MetricType_HISTOGRAM {
			all[name] = s
			continue
		}
		all[name+"_sum"], all[name+"_count"], all[name+"_bucket"] = s, s, maps.Clone(s)
		all[name+"_bucket"]["le"] = map[string]bool{"+Inf": true}
	}
	return all
}

// only is the metric of that name with these labels, one after the other with
// their values.
func only(t testing.TB, families map[string]*dto.MetricFamily, name string, want ...string) *dto.Metric {
	t.Helper()
	var found []*dto.Metric
	for _, m := range families[name].GetMetric() {
		labels := labelsOf(m)
		all := true
		for i := 0; i < len(want); i += 2 {
			all = all && labels[want[i]] == want[i+1]
		}
		if all {
			found = append(found, m)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d metrics %s %v", len(found), name, want)
	}
	return found[0]
}

// predictRows has the model "rows" answer so many requests of two rows.
func (f *fixture) predictRows(t testing.TB, n int) {
	t.Helper()
	for range n {
		if _, err := f.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{2, 3}, pattern(24))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMetricsOfAModel(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{MaxQueue: 77, MaxBatchRows: 9, Instances: 3})
	f.predictRows(t, 5)
	if _, err := f.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{2, 4}, pattern(32))); err == nil {
		t.Fatal("a row too wide was answered")
	}
	_, families := f.scrape(t)
	for name, want := range map[string]float64{"instances": 3, "queue_limit_requests": 77, "batch_limit_rows": 9, "waiting_requests": 0, "waiting_rows": 0} {
		if got := only(t, families, "picket_model_"+name, "model", "rows").GetGauge().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]float64{"rows": 10, "runs": 5, "run_rows": 10, "inline_runs": 5} {
		if got := only(t, families, "picket_model_"+name+"_total", "model", "rows").GetCounter().GetValue(); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for outcome, want := range map[string]float64{"ok": 5, "input": 1, "busy": 0, "run": 0} {
		if got := only(t, families, "picket_model_requests_total", "model", "rows", "outcome", outcome).GetCounter().GetValue(); got != want {
			t.Errorf("%s requests are %v, want %v", outcome, got, want)
		}
	}
	only(t, families, "picket_model_info", "model", "rows", "version", "7", "backend", "copy")
	only(t, families, "picket_build_info", "version", "test", "go_version", runtime.Version())
	if took := only(t, families, "picket_model_row_seconds", "model", "rows", "backend", "copy", "chosen", "true").GetGauge().GetValue(); took <= 0 || took > 60 {
		t.Errorf("a row took %v s", took)
	}
	if limit := only(t, families, "picket_in_flight_limit_bytes").GetGauge().GetValue(); limit != 1<<30 {
		t.Errorf("the limit of bytes in flight is %v", limit)
	}
	if now := only(t, families, "picket_in_flight_bytes").GetGauge().GetValue(); now != 0 {
		t.Errorf("%v bytes are in flight while nothing is asked", now)
	}
	if h := only(t, families, "picket_model_duration_seconds", "model", "rows", "phase", "gather").GetHistogram(); h.GetSampleCount() != 0 {
		t.Errorf("requests were put together that came one after the other: %v", h)
	}
	for _, phase := range []string{"queue", "run", "reply", "total"} {
		h := only(t, families, "picket_model_duration_seconds", "model", "rows", "phase", phase).GetHistogram()
		if h.GetSampleCount() != 5 || h.GetSampleSum() <= 0 {
			t.Errorf("phase %s: %v", phase, h)
		}
		// Microseconds are told apart, and what hangs for seconds too.
		b := h.GetBucket()
		if first, last := b[0].GetUpperBound(), b[len(b)-2].GetUpperBound(); first > 200e-9 || last < 10 {
			t.Errorf("phase %s: buckets from %v to %v s", phase, first, last)
		}
		for i := 1; i < len(b); i++ {
			if b[i].GetCumulativeCount() < b[i-1].GetCumulativeCount() || i < len(b)-1 && b[i].GetUpperBound() > 2.01*b[i-1].GetUpperBound() {
				t.Errorf("phase %s: bucket %v after %v", phase, b[i], b[i-1])
			}
		}
		if b[len(b)-1].GetCumulativeCount() != 5 {
			t.Errorf("phase %s: the last bucket has %d", phase, b[len(b)-1].GetCumulativeCount())
		}
	}
}

// Counters that went back would be taken for a daemon that was started again.
func TestSuccessesAreNeverTakenBack(t *testing.T) {
	stats := engine.Stats{Requests: 10, Failed: map[string]uint64{"run": 2}}
	if got := succeeded(&stats, 0); got != 8 {
		t.Errorf("%d of 10 succeeded of which 2 failed", got)
	}
	stats.Failed["run"] = 3 // it was counted as a request before
	if got := succeeded(&stats, 8); got != 8 {
		t.Errorf("8 successes became %d", got)
	}
	stats.Failed["run"] = 11 // counted as failed before it is looked at as a request
	if got := succeeded(&stats, 8); got != 8 {
		t.Errorf("8 successes became %d", got)
	}

	model := standard()["rows"]
	model.onRun = func() error { return errors.New("no answer today") }
	f := start(t, Options{}, map[string]*copyModel{"rows": model}, engine.ModelOptions{})
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				_, _ = f.ModelInfer(t.Context(), request("rows", "data", "FP32", []int64{2, 3}, pattern(24))) // it fails, which is the point
			}
		}
	}()
	before := 0.0
	for range 100 {
		_, families := f.scrape(t)
		now := only(t, families, "picket_model_requests_total", "model", "rows", "outcome", "ok").GetCounter().GetValue()
		if now < before {
			t.Errorf("%v successes became %v", before, now)
		}
		before = now
	}
	close(done)
	<-ended
}

func TestAReplacedModelCountsFromZero(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	f.predictRows(t, 3)
	count := func() float64 {
		_, families := f.scrape(t)
		return only(t, families, "picket_model_requests_total", "model", "rows", "outcome", "ok").GetCounter().GetValue()
	}
	if n := count(); n != 3 {
		t.Errorf("%v requests were answered, want 3", n)
	}
	if _, err := f.engine.Replace(t.Context(), "rows", "rows", engine.ModelOptions{}); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 0 {
		t.Errorf("%v requests were answered by a model that was just loaded", n)
	}
}

// document is a file of the repository.
func document(t testing.TB, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(append([]string{testkit.ModuleRoot()}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var metricRow = regexp.MustCompile("(?m)^\\| `(picket_[a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|")

// others are what the daemon exports besides, of a model with a baseline.
func others(t *testing.T) []prometheus.Collector {
	t.Helper()
	rows, err := monitor.NewCSV(strings.NewReader("a,score\n1,0.5\n2,0.25\n"), true)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := monitor.Baseline(t.Context(), rows, monitor.BaselineOptions{})
	if err != nil {
		t.Fatal(err)
	}
	statistics, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	spec := []engine.TensorSpec{{Name: "x", DType: tensor.FP32, Dims: []int64{engine.Variable, 1}}}
	loaded := engine.Description{Name: "rows", Generation: 1, Signature: engine.Signature{Inputs: spec, Outputs: spec}, Package: &engine.Package{Statistics: statistics}}
	watch := drift.New(drift.Options{Sample: 1, Window: time.Hour, Log: log})
	if watch.Model(loaded) == nil {
		t.Fatal("a model with a baseline is not watched")
	}
	return []prometheus.Collector{
		drift.NewCollector(watch, func() []engine.Description { return []engine.Description{loaded} }),
		cloudwatch.New(cloudwatch.Options{Limit: 1, Log: log}),
	}
}

// TestMetricsAreDocumented compares docs/metrics.md with what is exported: names,
// types, labels, and the values of the labels that have few.
func TestMetricsAreDocumented(t *testing.T) {
	rows := standard()["rows"]
	rows.gpus = []string{"GPU-x"}
	f := start(t, Options{Collectors: others(t)}, map[string]*copyModel{"rows": rows}, engine.ModelOptions{})
	text, families := f.scrape(t)
	found, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range found {
		if strings.HasPrefix(problem.Metric, "picket_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	page := document(t, "docs", "metrics.md")
	said := make(map[string]string)
	for _, row := range metricRow.FindAllStringSubmatch(page, -1) {
		said[row[1]] = row[2] + " " + strings.ReplaceAll(row[3], "`", "")
	}
	exports := make(map[string]string)
	for name, family := range families {
		if !strings.HasPrefix(name, "picket_") {
			continue
		}
		var labels []string
		for _, pair := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		exports[name] = strings.ToLower(family.GetType().String()) + " " + strings.Join(labels, ", ")
	}
	for name, is := range exports {
		if said[name] != is {
			t.Errorf("%s is %q, docs/metrics.md says %q", name, is, said[name])
		}
	}
	for name := range said {
		// Those of captures, of what leaves and of GPUs are the daemon's, whose tests look for them.
		daemons := slices.ContainsFunc([]string{"picket_capture_", "picket_upload_", "picket_gpu_"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if exports[name] == "" && !daemons {
			t.Errorf("docs/metrics.md has %s, which is not exported", name)
		}
	}
	all := exported(families)
	for name, label := range map[string]string{"picket_model_requests_total": "outcome", "picket_model_duration_seconds_count": "phase"} {
		for value := range all[name][label] {
			if !strings.Contains(page, "| `"+value+"` |") {
				t.Errorf("docs/metrics.md does not explain %s %q", label, value)
			}
		}
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds", "go_goroutines"} {
		if _, ok := all[name]; !ok {
			t.Errorf("%s is not exported", name)
		}
	}
}

// panel is what the test looks at in a panel of the dashboard.
type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource struct{ Type, UID string }
	GridPos    struct{ X, Y, W, H int }
	Targets    []struct{ Expr, LegendFormat, RefID string }
}

func TestDashboard(t *testing.T) {
	f := start(t, Options{Collectors: others(t)}, map[string]*copyModel{"rows": standard()["rows"]}, engine.ModelOptions{})
	_, families := f.scrape(t)
	all := exported(families)
	var dashboard struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Templating    struct {
			List []struct{ Name, Type, Definition string }
		}
	}
	text := document(t, "deploy", "grafana", "picket.json")
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID == "" || dashboard.Title == "" || dashboard.SchemaVersion < 30 || len(dashboard.Panels) == 0 {
		t.Errorf("incomplete: %+v", dashboard)
	}
	variables := map[string]bool{"__rate_interval": true}
	for _, v := range dashboard.Templating.List {
		variables[v.Name] = true
		if v.Type == "query" {
			if err := checkQuery(all, v.Definition, ""); err != nil {
				t.Errorf("variable %s: %v", v.Name, err)
			}
		}
	}
	for _, name := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(text, -1) {
		if name[1] != "__all" && !variables[name[1]] {
			t.Errorf("there is no variable %s", name[1])
		}
	}
	ids, places := make(map[int]bool), make(map[[2]int]string)
	queried := make(map[string]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" {
					t.Fatalf("panels %q and %q overlap", other, p.Title)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource.Type != "prometheus" || len(p.Targets) == 0 {
			t.Errorf("panel %q asks nobody", p.Title)
		}
		for _, target := range p.Targets {
			if err := checkQuery(all, target.Expr, target.LegendFormat); err != nil {
				t.Errorf("panel %q: %v", p.Title, err)
			}
			for _, name := range queryToken.FindAllString(target.Expr, -1) {
				queried[name] = true
			}
		}
	}
	for name := range all {
		base := strings.TrimSuffix(strings.TrimSuffix(name, "_count"), "_sum")
		if strings.HasPrefix(name, "picket_model_") && name != "picket_model_batch_limit_rows" && !queried[name] && !queried[base+"_bucket"] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// A metric of the document with its labels and what is said of it, and the words in it that are code.
var (
	documentedMetric = regexp.MustCompile("(?m)^\\| `(picket_[a-z_]+)` \\| \\w+ \\| ([^|]*) \\| ([^|]*) \\|$")
	codeWord         = regexp.MustCompile("`([a-z_ ]+)`")
)

func TestAlerts(t *testing.T) {
	f := start(t, Options{Collectors: others(t)}, map[string]*copyModel{"rows": standard()["rows"]}, engine.ModelOptions{})
	_, families := f.scrape(t)
	all := exported(families)
	// Those of captures and of what leaves are the daemon's, whose tests hold the document to them.
	for _, row := range documentedMetric.FindAllStringSubmatch(document(t, "docs", "metrics.md"), -1) {
		if all[row[1]] != nil {
			continue
		}
		labels := series{}
		for _, label := range codeWord.FindAllStringSubmatch(row[2], -1) {
			labels[label[1]] = map[string]bool{}
			for _, value := range codeWord.FindAllStringSubmatch(row[3], -1) {
				labels[label[1]][value[1]] = true
			}
		}
		all[row[1]] = labels
	}
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert       string
				Expr        string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	decoder := yaml.NewDecoder(strings.NewReader(document(t, "deploy", "prometheus", "alerts.yaml")))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	template := regexp.MustCompile(`\{\{\s*\$labels\.(\w+)\s*\}\}`)
	alerts := make(map[string]bool)
	for _, group := range file.Groups {
		if group.Name == "" {
			t.Error("a group has no name")
		}
		for _, rule := range group.Rules {
			if alerts[rule.Alert] || !strings.HasPrefix(rule.Alert, "Picket") {
				t.Errorf("the name %q is taken or is not Picket's", rule.Alert)
			}
			alerts[rule.Alert] = true
			if rule.For != "" {
				if _, err := promodel.ParseDuration(rule.For); err != nil {
					t.Errorf("%s: %v", rule.Alert, err)
				}
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, rule.Labels["severity"]) {
				t.Errorf("%s: its severity is %q", rule.Alert, rule.Labels["severity"])
			}
			if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" {
				t.Errorf("%s: it does not say what is wrong and what to do", rule.Alert)
			}
			legend := ""
			for _, text := range rule.Annotations {
				for _, name := range template.FindAllStringSubmatch(text, -1) {
					legend += fmt.Sprintf("{{%s}}", name[1])
				}
			}
			if err := checkQuery(all, rule.Expr, legend); err != nil {
				t.Errorf("%s: %v", rule.Alert, err)
			}
		}
	}
	for _, name := range []string{"PicketDown", "PicketQueueFull", "PicketRefusing", "PicketModelErrors", "PicketModelMissing", "PicketCaptureDropping", "PicketCaptureStuck"} {
		if !alerts[name] {
			t.Errorf("there is no alert %s", name)
		}
	}
}

// The check of queries finds what it is there for.
func TestCheckQuery(t *testing.T) {
	all := map[string]series{
		"up": {}, "a_total": {"model": {"m": true}, "outcome": {"ok": true, "busy": true}},
		"b_bucket": {"model": {"m": true}, "le": {"+Inf": true}},
	}
	for _, good := range []string{
		`a_total`, `up{job="x"} == 0`, `rate(a_total{outcome="ok"}[5m]) / 2 > 0.01`, `sum by (model) (rate(a_total{model=~"$model",outcome!="ok"}[$__rate_interval]))`,
		`histogram_quantile(0.5, sum by (le, model) (rate(b_bucket[1m])))`, `label_values(a_total{outcome=~"ok|busy"}, model)`, `up and on (instance) a_total`,
	} {
		if err := checkQuery(all, good, "{{instance}}"); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		``, `1`, `c_total`, `a_total{backend="x"}`, `a_total{outcome="okay"}`, `a_total{outcome=~"ok|bussy"}`, `a_total{outcome=~"ok"`, `a_total{outcome}`, `rat(a_total[5m])`,
		`rate(a_total[5 minutes])`, `sum by (backend) (a_total)`, `sum by (model (a_total)`, `(a_total`, `a_total)`, `rate a_total`, `a_total & up`, `label_values(a_total, backend)`,
	} {
		if err := checkQuery(all, bad, ""); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
	if err := checkQuery(all, `a_total`, "{{backend}}"); err == nil {
		t.Error("a legend with a label that is not there passed")
	}
}
