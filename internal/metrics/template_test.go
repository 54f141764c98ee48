package metrics_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/internal/metrics"
)

// plain is a YAML document without its tags: what a function of CloudFormation is given
// takes the function's place.
func plain(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return plain(n.Content[0])
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = plain(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		var list []any
		for _, c := range n.Content {
			list = append(list, plain(c))
		}
		return list
	}
	return n.Value
}

// sent tells whether the daemon sends a metric with exactly these dimensions.
func sent(name string, dimensions []string) bool {
	slices.Sort(dimensions)
	for _, m := range metrics.All() {
		if m.Name != name {
			continue
		}
		for _, set := range m.Sets {
			if slices.Equal(slices.Sorted(slices.Values(set)), dimensions) {
				return true
			}
		}
	}
	return false
}

var substitution = regexp.MustCompile(`\$\{[A-Za-z:]+\}`)

// What the alarms and the dashboard of the template ask for is what the daemon sends,
// and nothing that it sends for a fleet is left out.
func TestTemplateAsksForWhatIsSent(t *testing.T) {
	data, err := os.ReadFile("../../deploy/cloudformation/monitoring.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var node yaml.Node
	if err := yaml.Unmarshal(data, &node); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	check := func(where, name string, dimensions []string) {
		if !sent(name, dimensions) {
			t.Errorf("%s asks for %s with the dimensions %q, which the daemon does not send", where, name, dimensions)
		}
		used[name] = true
	}
	resources := plain(&node).(map[string]any)["Resources"].(map[string]any)
	alarms := 0
	for id, r := range resources {
		resource := r.(map[string]any)
		properties := resource["Properties"].(map[string]any)
		switch resource["Type"] {
		case "AWS::CloudWatch::Alarm":
			alarms++
			checkAlarm(id, properties, check)
		case "AWS::CloudWatch::Dashboard":
			checkDashboard(t, properties["DashboardBody"].(string), check)
		default:
			t.Errorf("%s is a %v", id, resource["Type"])
		}
	}
	if alarms < 10 {
		t.Errorf("there are %d alarms", alarms)
	}
	for _, m := range metrics.All() {
		if !used[m.Name] && m != metrics.LoadedModels {
			t.Errorf("nothing shows %s", m.Name)
		}
	}
}

func checkAlarm(id string, properties map[string]any, check func(where, name string, dimensions []string)) {
	names := func(list any) (names []string) {
		for _, d := range list.([]any) {
			names = append(names, d.(map[string]any)["Name"].(string))
		}
		return names
	}
	if name, ok := properties["MetricName"].(string); ok {
		check(id, name, names(properties["Dimensions"]))
		return
	}
	for _, q := range properties["Metrics"].([]any) {
		if stat, ok := q.(map[string]any)["MetricStat"].(map[string]any); ok {
			metric := stat["Metric"].(map[string]any)
			check(id, metric["MetricName"].(string), names(metric["Dimensions"]))
		}
	}
}

// searched is what a SEARCH of a dashboard names.
var searched = regexp.MustCompile(`SEARCH\('\{x((?:,[A-Za-z]+)+)\} MetricName="([A-Za-z]+)"`)

func checkDashboard(t *testing.T, body string, check func(where, name string, dimensions []string)) {
	t.Helper()
	// Parameters that are numbers stand without quotes.
	body = substitution.ReplaceAllStringFunc(body, func(name string) string {
		if name == "${DriftPSI}" {
			return "0.2"
		}
		return "x"
	})
	var dashboard struct {
		Widgets []struct {
			Properties struct {
				Title   string
				Metrics [][]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &dashboard); err != nil {
		t.Fatalf("the dashboard is no JSON: %v", err)
	}
	for _, w := range dashboard.Widgets {
		var before []string
		for _, line := range w.Properties.Metrics {
			if options, ok := line[0].(map[string]any); ok {
				m := searched.FindStringSubmatch(options["expression"].(string))
				if m == nil {
					t.Errorf("%s has the expression %v", w.Properties.Title, options["expression"])
					continue
				}
				check(w.Properties.Title, m[2], regexp.MustCompile(`[A-Za-z]+`).FindAllString(m[1], -1))
				continue
			}
			var fields []string
			for i, field := range line {
				text, ok := field.(string)
				if !ok {
					break // options, which are the last
				}
				switch text {
				case ".":
					text = before[i]
				case "...":
					fields = before
					continue
				}
				fields = append(fields, text)
			}
			before = fields
			var dimensions []string
			for i := 2; i < len(fields); i += 2 {
				dimensions = append(dimensions, fields[i])
			}
			check(w.Properties.Title, fields[1], dimensions)
		}
	}
}
