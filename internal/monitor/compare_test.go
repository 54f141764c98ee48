package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/picket-ml/picket/internal/monitor"
)

// table makes CSV of rows with two numbers, a text and a score. shift moves the first
// number, lost is the part of the second that is missing.
func table(seed uint64, rows int, shift, lost float64, country string) string {
	random := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("a,b,country,score\n")
	for range rows {
		second := fmt.Sprint(random.IntN(10))
		if random.Float64() < lost {
			second = ""
		}
		text := []string{"DE", "FR", "IT"}[random.IntN(3)]
		if country != "" {
			text = country
		}
		fmt.Fprintf(&b, "%.6f,%s,%s,%.6f\n", 10+random.NormFloat64()+shift, second, text, 1/(1+math.Exp(-random.NormFloat64()-shift)))
	}
	return b.String()
}

// tableBaseline is that of such a table, which is made once.
func tableBaseline(t *testing.T) (*monitor.Statistics, *monitor.Constraints) {
	t.Helper()
	made.once.Do(func() { made.s, made.c = baselineOf(t, table(1, 10_000, 0, 0, ""), monitor.BaselineOptions{}) })
	return made.s, made.c
}

var made struct {
	once sync.Once
	s    *monitor.Statistics
	c    *monitor.Constraints
}

func compareText(t *testing.T, data string, change func(*monitor.Constraints)) *monitor.Report {
	t.Helper()
	s, unchanged := tableBaseline(t)
	c := *unchanged
	if change != nil {
		change(&c)
	}
	r, err := monitor.Compare(context.Background(), s, &c, csvOf(t, data), monitor.DefaultThresholds())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// found are the violations as "feature check".
func found(r *monitor.Report) []string {
	var all []string
	for _, v := range r.Violations {
		text := v.Feature + " " + string(v.Check)
		if strings.Contains(v.Description, "Population") {
			text += " psi"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

func TestCompare(t *testing.T) {
	for name, one := range map[string]struct {
		data   string
		change func(*monitor.Constraints)
		want   []string
	}{
		"the same distribution": {data: table(2, 5000, 0, 0, "")},
		"a shift": {data: table(2, 5000, 1, 0, ""), want: []string{
			"a baseline_drift_check", "a baseline_drift_check psi", "score baseline_drift_check", "score baseline_drift_check psi",
		}},
		"missing values":     {data: table(2, 5000, 0, 0.2, ""), want: []string{"b completeness_check"}},
		"few missing values": {data: table(2, 5000, 0, 0.01, "")},
		"another country": {data: table(2, 5000, 0, 0, "XX"), want: []string{
			"country baseline_drift_check", "country baseline_drift_check psi", "country categorical_values_check",
		}},
		"too few rows":    {data: table(2, 100, 3, 0, ""), want: []string{"a range_check", "score range_check"}},
		"another type":    {data: strings.ReplaceAll(table(2, 5000, 0, 0, ""), ",7,", ",7.5,"), want: []string{"b baseline_drift_check psi", "b data_type_check"}},
		"a column less":   {data: strings.Replace(table(2, 5000, 0, 0, ""), "a,b,", "a,c,", 1), want: []string{"b missing_column_check", "c extra_column_check"}},
		"negative":        {data: table(2, 5000, 0, 0, "") + strings.Repeat("10,-3,DE,0.5\n", 20), want: []string{"b range_check"}},
		"not the score":   {data: strings.Replace(table(2, 5000, 0, 0, ""), "score", "a2", 1), want: []string{"a2 extra_column_check"}},
		"switched off":    {data: table(2, 5000, 1, 0.2, "XX"), change: func(c *monitor.Constraints) { c.Config.EvaluateConstraints = "Disabled" }},
		"no distribution": {data: table(2, 5000, 1, 0, ""), change: func(c *monitor.Constraints) { c.Config.Distribution.PerformComparison = "Disabled" }, want: []string{"a baseline_drift_check psi", "score baseline_drift_check psi"}},
	} {
		r := compareText(t, one.data, one.change)
		if got := found(r); !slices.Equal(got, one.want) {
			t.Errorf("%s: the violations are %q, want %q", name, got, one.want)
			for _, v := range r.Violations {
				t.Log(v)
			}
		}
	}
}

// The index of two parts, reckoned by hand: (0.8-0.5) ln(0.8/0.5) + (0.2-0.5) ln(0.2/0.5).
func TestPSI(t *testing.T) {
	b := &monitor.Bins{Edges: []float64{0}, Shares: []float64{0.5, 0.5}}
	want := 0.3*math.Log(1.6) - 0.3*math.Log(0.4)
	if got := b.PSI([]uint64{80, 20}); math.Abs(got-want) > 1e-12 {
		t.Errorf("the index is %v, want %v", got, want)
	}
	if got := b.PSI([]uint64{500, 500}); got != 0 {
		t.Errorf("the index of what has not changed is %v", got)
	}
	if got := b.PSI([]uint64{0, 10}); math.IsInf(got, 0) || got < 1 {
		t.Errorf("the index of an empty part is %v", got)
	}
	if got := b.PSI(nil); got != 0 {
		t.Errorf("the index of nothing is %v", got)
	}
}

// Parts have about a tenth of the baseline each, and few values one each.
func TestBins(t *testing.T) {
	s, _ := tableBaseline(t)
	for i, want := range []int{10, 10, 4, 10} {
		b := monitor.BinsOf(&s.Features[i])
		if len(b.Shares) != want {
			t.Errorf("%s has %d parts, want %d", s.Features[i].Name, len(b.Shares), want)
		}
		var sum float64
		for _, share := range b.Shares {
			sum += share
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Errorf("the parts of %s are %v together", s.Features[i].Name, sum)
		}
	}
	b := monitor.BinsOf(&s.Features[0])
	for i, edge := range b.Edges {
		if b.Index(edge) != i || b.Index(float64(math.Nextafter32(float32(edge), 1e9))) != i+1 {
			t.Errorf("the edge %v is not the greatest number of part %d", edge, i)
		}
	}
	// A number that is most of a feature has a part by itself.
	var text strings.Builder
	text.WriteString("x\n")
	for i := range 1000 {
		fmt.Fprintln(&text, max(0, i-900))
	}
	skewed, _ := baselineOf(t, text.String(), monitor.BaselineOptions{})
	if b := monitor.BinsOf(&skewed.Features[0]); b.Edges[0] != 0 || math.Abs(b.Shares[0]-0.901) > 1e-9 {
		t.Errorf("the parts are %+v", b)
	}
}

// A training set has decimals, and what a model is asked has the nearest number of single precision: that is no drift.
func TestDecimals(t *testing.T) {
	var train, asked strings.Builder
	train.WriteString("price,rate,id\n")
	asked.WriteString("price,rate,id\n")
	random := rand.New(rand.NewPCG(3, 1))
	for range 20_000 {
		price, rate := float64(random.IntN(100_000))/100, []float64{0.1, 0.2, 0.7, 1.0 / 3}[random.IntN(4)]
		if random.IntN(2) == 0 {
			price = 9.99
		}
		id := 1_700_000_000_000 + random.IntN(3)
		fmt.Fprintf(&train, "%v,%v,%d\n", price, rate, id)
		fmt.Fprintf(&asked, "%v,%v,%d\n", float64(float32(price)), float32(rate), id+1)
	}
	s, c := baselineOf(t, train.String(), monitor.BaselineOptions{})
	rows, err := monitor.NewCSV(strings.NewReader(asked.String()), true)
	if err != nil {
		t.Fatal(err)
	}
	r, err := monitor.Compare(t.Context(), s, c, rows, monitor.DefaultThresholds())
	if err != nil {
		t.Fatal(err)
	}
	for i, drifts := range []bool{false, false, true} { // single precision cannot tell the ids apart, so they are compared as they are
		f := r.Features[i]
		if f.PSI == nil || f.Distance == nil {
			t.Fatalf("%s was not compared", f.Name)
		}
		if drifts != (*f.PSI > 0.2) || drifts != (*f.Distance > 0.1) || !drifts && (*f.PSI > 0.01 || f.OutOfRange > 0) {
			t.Errorf("%s: the index is %v, the distance %v, and %v is out of range", f.Name, *f.PSI, *f.Distance, f.OutOfRange)
		}
	}
}

// Files that Model Monitor wrote have no sketch when they are old, and counts with
// fractions.
func TestForeignStatistics(t *testing.T) {
	s, err := monitor.ParseStatistics([]byte(`{"version": 0.0, "dataset": {"item_count": 1000}, "features": [{"name": "x", "inferred_type": "Fractional",
		"numerical_statistics": {"common": {"num_present": 1000, "num_missing": 0}, "mean": 5, "sum": 5000, "std_dev": 2.9, "min": 0, "max": 10,
		"distribution": {"kll": {"buckets": [{"lower_bound": 0, "upper_bound": 5, "count": 500.0}, {"lower_bound": 5, "upper_bound": 10, "count": 500.0}]}}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := monitor.ParseConstraints([]byte(`{"version": 0.0, "features": [{"name": "x", "inferred_type": "Fractional", "completeness": 1.0, "num_constraints": {"is_non_negative": true}}],
		"monitoring_config": {"evaluate_constraints": "Enabled", "emit_metrics": "Enabled", "datatype_check_threshold": 1.0, "domain_content_threshold": 1.0,
		"distribution_constraints": {"perform_comparison": "Enabled", "comparison_threshold": 0.1, "comparison_method": "Robust"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	r, err := monitor.Compare(context.Background(), s, c, csvOf(t, "x\n"+strings.Repeat("1.5\n", 600)), monitor.DefaultThresholds())
	if err != nil {
		t.Fatal(err)
	}
	if got := found(r); !slices.Equal(got, []string{"x baseline_drift_check", "x baseline_drift_check psi"}) {
		t.Errorf("the violations are %q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no features":      `{"features": []}`,
		"no name":          `{"features": [{"name": "", "inferred_type": "Unknown"}]}`,
		"twice":            `{"features": [{"name": "x", "inferred_type": "Unknown"}, {"name": "x", "inferred_type": "Unknown"}]}`,
		"a type":           `{"features": [{"name": "x", "inferred_type": "Complex"}]}`,
		"no numbers":       `{"features": [{"name": "x", "inferred_type": "Integral"}]}`,
		"no texts":         `{"features": [{"name": "x", "inferred_type": "String"}]}`,
		"contradictions":   `{"features": [{"name": "x", "inferred_type": "Integral", "numerical_statistics": {"min": 2, "max": 1}}]}`,
		"a bucket":         `{"features": [{"name": "x", "inferred_type": "Integral", "numerical_statistics": {"distribution": {"kll": {"buckets": [{"lower_bound": 2, "upper_bound": 1}]}}}}]}`,
		"a negative count": `{"features": [{"name": "x", "inferred_type": "Integral", "numerical_statistics": {"distribution": {"kll": {"buckets": [{"count": -1}]}}}}]}`,
		"no JSON":          `features`,
	} {
		if _, err := monitor.ParseStatistics([]byte(text)); err == nil {
			t.Errorf("statistics with %s were taken", name)
		}
	}
	for name, text := range map[string]string{
		"a method":     `{"features": [{"name": "x", "inferred_type": "String"}], "monitoring_config": {"distribution_constraints": {"comparison_method": "Best"}}}`,
		"chi squared":  `{"features": [{"name": "x", "inferred_type": "String"}], "monitoring_config": {"distribution_constraints": {"categorical_drift_method": "ChiSquared"}}}`,
		"a threshold":  `{"features": [{"name": "x", "inferred_type": "String"}], "monitoring_config": {"datatype_check_threshold": 2}}`,
		"completeness": `{"features": [{"name": "x", "inferred_type": "String", "completeness": 2}]}`,
	} {
		if _, err := monitor.ParseConstraints([]byte(text)); err == nil {
			t.Errorf("constraints with %s were taken", name)
		}
	}
}

// The page says what the report says, shows no name as markup, and loads nothing.
func TestPage(t *testing.T) {
	data := strings.Replace(table(2, 5000, 1, 0, ""), "a,b,", "a,<script>alert(1)</script>,", 1)
	r := compareText(t, data, nil)
	var b bytes.Buffer
	if err := r.WriteHTML(&b, monitor.Caption{Title: "fraud <3>", Data: "s3://bucket/x", Baseline: "fraud-3.tar.gz", Made: time.Unix(0, 0)}); err != nil {
		t.Fatal(err)
	}
	root, err := html.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	var text strings.Builder
	for n := range root.Descendants() {
		switch n.Type {
		case html.ElementNode:
			count[n.Data]++
			for _, a := range n.Attr {
				if a.Key == "src" || a.Key == "href" && !strings.HasPrefix(a.Val, "#") {
					t.Errorf("<%s> refers to %s", n.Data, a.Val)
				}
				if a.Key == "role" && a.Val == "img" {
					count["labelled plot"]++
				}
			}
		case html.TextNode:
			text.WriteString(n.Data)
		}
	}
	if count["script"] > 0 || count["svg"] != 4 || count["labelled plot"] != 4 || count["html"] != 1 {
		t.Errorf("the page has %v", count)
	}
	for _, want := range []string{"fraud <3>", fmt.Sprintf("%d violations", len(r.Violations)), "<script>alert(1)</script>", "Population stability index"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// What is written of violations is what readers of Model Monitor's expect.
func TestViolationsFile(t *testing.T) {
	r := compareText(t, table(2, 5000, 0, 0.2, ""), nil)
	data, err := (&monitor.Violations{Violations: r.Violations}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Violations []map[string]string `json:"violations"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		t.Fatal(err)
	}
	if len(document.Violations) != 1 || document.Violations[0]["feature_name"] != "b" || document.Violations[0]["constraint_check_type"] != "completeness_check" || document.Violations[0]["description"] == "" {
		t.Errorf("the file is %s", data)
	}
	if none, _ := (&monitor.Violations{}).Encode(); !strings.Contains(string(none), "[]") {
		t.Errorf("the file without violations is %s", none)
	}
}
