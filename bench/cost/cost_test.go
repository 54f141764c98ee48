package cost

import (
	"math"
	"os"
	"strings"
	"testing"

	"github.com/picket-ml/picket/bench/report"
)

// result is of two CPUs, with an offline rate and a curve.
func result() *report.Result {
	r := &report.Result{Noise: report.Noise{Quiet: true}, Targets: []report.TargetInfo{{Name: "lane", Ours: true}, {Name: "xgboost"}}}
	r.Environment.CPU.Allowed = 2
	r.Environment.Instance.Type, r.Environment.Instance.Family = "m5.large", "m5"
	run := func(scenario, target string, rows float64, curve ...report.Point) {
		r.Runs = append(r.Runs, report.Run{
			Scenario: scenario, Model: "fraud", Target: target, Curve: curve, Verdict: report.Verdict{Valid: true},
			Summary: report.Summary{Rows: report.Estimate{Value: rows}},
		})
	}
	point := func(rate, achieved float64, p99 int64) report.Point {
		return report.Point{RatePerS: rate, AchievedPerS: achieved, P50NS: p99 / 10, P90NS: p99 / 2, P99NS: p99, P999NS: 2 * p99}
	}
	run("Offline", "lane", 1e6)
	run("Offline", "xgboost", 5e6)
	run("SingleStream", "lane", 2e4)
	run("Server", "lane", 3000, point(1000, 1001, 1e6), point(2000, 1990, 3e6), point(3000, 3003, 6e6), point(4000, 3500, 2e6))
	return r
}

func prices(t *testing.T) *Prices {
	t.Helper()
	p, err := ParsePrices([]byte("currency: USD\nas_of: 2026-01-31\nsource: a test\nhosts:\n- {family: m5, type: m5.large, cpus: 2, per_hour: 0.36}\n- {family: m7i, type: m7i.large, cpus: 4, per_hour: 0.36}\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A million rows at a million a second are one second of the host.
func TestPerMillion(t *testing.T) {
	t.Parallel()
	lines, err := Of("a", result(), prices(t), Options{Use: 1})
	if err != nil || len(lines) != 1 {
		t.Fatalf("%+v, %v", lines, err)
	}
	if l := lines[0]; l.Scenario != "Offline" || math.Abs(l.PerMillion-0.0001) > 1e-12 || l.Hosts != 0 || len(l.Remarks) != 0 {
		t.Errorf("%+v", l)
	}
	half, err := Of("a", result(), prices(t), Options{Use: 0.5, Type: "m7i.large"})
	if err != nil {
		t.Fatal(err)
	}
	// Twice the CPUs, half of the time.
	if l := half[0]; math.Abs(l.PerMillion-0.0001) > 1e-12 || len(l.Remarks) != 2 {
		t.Errorf("%+v", l)
	}
}

// The capacity is the last rate before the first that was not met, and hosts are whole.
func TestHosts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		d     Demand
		hosts int
		why   string
	}{
		"just one":         {Demand{PerS: 1990, BoundNS: 5e6, Quantile: 0.99}, 1, ""},
		"one more":         {Demand{PerS: 1991, BoundNS: 5e6, Quantile: 0.99}, 2, ""},
		"with headroom":    {Demand{PerS: 1990, BoundNS: 5e6, Quantile: 0.99, Headroom: 0.3}, 2, ""},
		"with a spare":     {Demand{PerS: 1990, BoundNS: 5e6, Quantile: 0.99, Spare: 1}, 2, ""},
		"a looser bound":   {Demand{PerS: 3003, BoundNS: 6e6, Quantile: 0.99}, 1, ""},
		"not what stalled": {Demand{PerS: 3500, BoundNS: 1e9, Quantile: 0.99}, 2, ""},
		"another quantile": {Demand{PerS: 3003, BoundNS: 5e6, Quantile: 0.9}, 1, ""},
		"too tight":        {Demand{PerS: 1, BoundNS: 1e5, Quantile: 0.99}, 0, "no rate that was tried"},
		"too much":         {Demand{PerS: 1e12, BoundNS: 5e6, Quantile: 0.99}, 0, "more than"},
	} {
		lines, err := Of("a", result(), prices(t), Options{Use: 1, Demand: c.d})
		if err != nil {
			t.Fatal(err)
		}
		if l := lines[0]; l.Hosts != c.hosts || !strings.Contains(l.WhyNot, c.why) || (l.WhyNot == "") != (c.why == "") {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// One low rate that failed, among many that passed, is not the end; one of two is.
func TestDisturbedCapacity(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		p99  []int64 // ms, of rates 1000, 2000 and so on
		want float64
	}{
		"nothing":                  {nil, 0},
		"all meet it":              {[]int64{1, 2, 3}, 3000},
		"none does":                {[]int64{6, 7, 8}, 0},
		"disturbed at the lowest":  {[]int64{9, 1, 2, 3, 8, 9}, 4000},
		"one met by chance":        {[]int64{1, 1, 2, 8, 4, 9, 9}, 3000},
		"as much for as against":   {[]int64{9, 1, 9}, 0},
		"disturbed in the middle":  {[]int64{1, 2, 9, 3, 4, 9, 9}, 5000},
		"from where on is unclear": {[]int64{1, 9, 2, 9, 9}, 1000},
	} {
		var curve []report.Point
		for i, p99 := range c.p99 {
			rate := float64(1000 * (i + 1))
			curve = append(curve, report.Point{RatePerS: rate, AchievedPerS: rate, P99NS: p99 * 1e6})
		}
		if got := capacity(curve, &Demand{BoundNS: 5e6, Quantile: 0.99}); got != c.want {
			t.Errorf("%s: the capacity is %v, want %v", name, got, c.want)
		}
	}
}

// A host that has no price is told, as is a file of prices that is none.
func TestRefused(t *testing.T) {
	t.Parallel()
	r := result()
	r.Environment.Instance.Type, r.Environment.Instance.Family = "x1.large", "x1"
	if _, err := Of("a", r, prices(t), Options{Use: 1}); err == nil || !strings.Contains(err.Error(), "--type") {
		t.Error(err)
	}
	if _, err := Of("a", r, prices(t), Options{Use: 1, Type: "z9"}); err == nil || !strings.Contains(err.Error(), "z9") {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"currency: USD\nas_of: 2026-01-31\nsource: x\nhosts: []\n": "no hosts",
		"currency: USD\nas_of: soon\nsource: x\n":                  "no date",
		"as_of: 2026-01-31\n":                                      "currency",
		"currency: USD\nas_of: 2026-01-31\nsource: x\nhosts: [{family: a, type: b, cpus: 2, per_hour: -1}]\n":              "costs",
		"currency: USD\nas_of: 2026-01-31\nsource: x\nhosts: [{family: a, type: b, cpus: .nan, per_hour: 1}]\n":            "cpus",
		"currency: USD\nas_of: 2026-01-31\nsource: x\nprice: 3\n":                                                          "price",
		"currency: USD\nas_of: 2026-01-31\nsource: x\nhosts: [{family: a, type: b, cpus: 2, per_hour: 1, per_month: 1}]\n": "per_month",
	} {
		if _, err := ParsePrices([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// The example is read, says that it is one, and has a host for every family that there is a suite for.
func TestExample(t *testing.T) {
	t.Parallel()
	p, err := ReadPrices("../prices.example.yaml")
	if err != nil || !p.Example {
		t.Fatalf("%+v, %v", p, err)
	}
	for _, family := range []string{"m5", "c5", "r5", "g4dn", "i3en", "m7i", "c7i", "r7i", "c6id", "c6gd"} {
		if p.find("", family) == nil {
			t.Errorf("it has no host of family %s", family)
		}
	}
}

// Whatever the file says, what is accepted can be reckoned with.
func FuzzPrices(f *testing.F) {
	example, err := os.ReadFile("../prices.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add([]byte("currency: USD\nas_of: 2026-01-31\nsource: x\nhosts: [{family: m5, type: b, cpus: 1e-300, per_hour: 1e300}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePrices(data)
		if err != nil {
			return
		}
		lines, err := Of("a", result(), p, Options{Use: 1, Type: p.Hosts[0].Type, Demand: Demand{PerS: 1, BoundNS: 5e6, Quantile: 0.99}})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if math.IsNaN(l.PerMillion) || l.PerMillion < 0 || l.Hosts < 0 {
				t.Errorf("%+v", l)
			}
		}
	})
}
