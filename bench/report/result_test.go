package report

import (
	"bytes"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/example.json anew")

// example is a result of the shape that a suite gives, of invented figures.
func example() *Result {
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	r := &Result{
		Schema: Schema, Version: Version, Began: began, Ended: began.Add(9 * time.Minute),
		Tool:     Tool{Version: "0.1.0-dev", Commit: "0123456789abcdef", Go: "go1.26.8"},
		Suite:    SuiteRun{Name: "m5", Digest: strings.Repeat("ab", 32), Family: "m5", Forced: true, Mask: "avx512vbmi", Seed: 1},
		Noise:    Noise{Quiet: false, Why: []string{"the hypervisor gave 3.1% of the processors' time to others"}, Steal: 0.031, Others: 0.002, LoadBefore: 0.4, LoopMedianNS: 100_250, LoopSpread: 0.021, InterruptedNS: 1_900_000},
		Overhead: Overhead{RecordNS: 41, Share: 0.0049, GeneratorPerS: 2_100_000, Headroom: 9.8},
		Marks:    []string{"suite m5 was forced: this host is not known to be of that family"},
		Models:   []ModelInfo{{Name: "fraud", Library: "xgboost", Trees: 100, Depth: 5, Features: 24, Outputs: 1, Digest: strings.Repeat("cd", 32), Reference: "every row evaluated tree by tree, node by node"}},
		LeftOut:  []LeftOut{{Model: "all", Engine: "triton", Why: "it is not installed; make bench-peers says how"}},
	}
	e := &r.Environment
	e.Host = "5f2c9a01"
	e.CPU.Model, e.CPU.Vendor, e.CPU.Arch, e.CPU.Family, e.CPU.ModelNumber, e.CPU.Stepping = "Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "GenuineIntel", "amd64", 6, 85, 7
	e.CPU.Microcode, e.CPU.Level, e.CPU.Features, e.CPU.Masked = "0x5003901", "x86-64-v4", []string{"sse4.2", "avx2", "avx512f"}, []string{"avx512vbmi"}
	e.CPU.Sockets, e.CPU.Cores, e.CPU.Threads, e.CPU.Allowed, e.CPU.Affinity = 1, 8, 16, 16, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	e.CPU.SMT, e.CPU.Governor, e.CPU.Boost = "on", "none", "unknown"
	e.CPU.Caches = []Cache{{1, "data", 32 << 10}, {2, "unified", 1 << 20}, {3, "unified", 35 << 20}}
	e.Memory.TotalBytes, e.Memory.AvailableBytes, e.Memory.TransparentHugePages, e.Memory.NUMANodes = 64<<30, 60<<30, "madvise", 1
	e.Memory.HugePages = []HugePool{{2 << 20, 0, 0}}
	e.GPUs = []GPU{}
	e.Kernel, e.Glibc, e.Virtual = "6.1.0-23-amd64", "2.36", "kvm"
	e.Differences = []Difference{{"instance family", "m5", "unknown"}}
	r.Targets = []TargetInfo{
		{Name: "engine", Kind: KindInProcess, Ours: true, Transport: "call", Version: "0.1.0-dev"},
		{Name: "lane", Kind: KindServer, Ours: true, Transport: "Unix socket", Version: "0.1.0-dev"},
		{Name: "oip-grpc", Kind: KindServer, Ours: true, Transport: "Unix socket", Version: "0.1.0-dev"},
		{Name: "xgboost", Kind: KindInProcess, Transport: "call", Version: "3.1.1", Notes: "through its C API, as a C++ service would call it"},
		{Name: "empty", Kind: KindEmpty, Transport: "call", Version: "0.1.0-dev"},
	}
	random := rand.New(rand.NewPCG(1, 1))
	turn := 0
	add := func(scenario, target, variant string, p Parameters, median time.Duration) *Run {
		run := Run{Scenario: scenario, Model: "fraud", Target: target, Variant: variant, Parameters: p, Verdict: Verdict{Valid: true, Why: []string{}}}
		for n := range 5 {
			h := NewHistogram()
			for range 2000 {
				h.Record(time.Duration(float64(median) * math.Exp(0.2*random.NormFloat64()+0.01*float64(n-2))))
			}
			d := time.Second
			run.Repetitions = append(run.Repetitions, Repetition{
				Turn: turn, Began: began.Add(time.Duration(turn) * time.Second), DurationNS: int64(d), WarmUpNS: int64(200 * time.Millisecond), Steady: true,
				Counts:  Counts{Sent: 2000, Answered: 2000, Rows: int64(2000 * p.Rows), Checked: int64(2000 * p.Rows)},
				Latency: h, Steal: 0.03, Others: 0.002, ServerCPUNS: int64(d / 3), Value: float64(2000 * p.Rows), Disturbed: true,
			})
			if scenario == "SingleStream" {
				run.Repetitions[n].Value = float64(h.Quantile(0.9))
			}
			turn++
		}
		about := func(q float64) Estimate {
			v := float64(run.Repetitions[2].Latency.Quantile(q))
			return Estimate{v, 0.98 * v, 1.03 * v, 5, 0.9375}
		}
		run.Summary = Summary{
			Mean: about(0.52), P50: about(0.5), P90: about(0.9), P99: about(0.99), P999: about(0.999), Max: about(1),
			Requests: Estimate{2000, 1990, 2010, 5, 0.9375}, Rows: Estimate{2000 * float64(p.Rows), 1990 * float64(p.Rows), 2010 * float64(p.Rows), 5, 0.9375},
		}
		switch scenario {
		case "SingleStream":
			run.Summary.Metric = Metric{"90th percentile latency", "ns", false, run.Summary.P90}
		case "Server":
			run.Summary.Metric = Metric{"highest rate within the bound", "requests/s", true, run.Summary.Requests}
		default:
			run.Summary.Metric = Metric{"rows a second", "rows/s", true, run.Summary.Rows}
		}
		r.Runs = append(r.Runs, run)
		return &r.Runs[len(r.Runs)-1]
	}
	second := int64(time.Second)
	for _, target := range []struct {
		name, variant string
		median        time.Duration
	}{{"engine", "forest (avx512 row)", 1400}, {"lane", "forest (avx512 row)", 14_000}, {"oip-grpc", "forest (avx512 row)", 62_000}, {"xgboost", "xgboost", 41_000}} {
		run := add("SingleStream", target.name, target.variant, Parameters{Rows: 1, Outstanding: 1, Arrivals: "closed", DurationNS: second}, target.median)
		if target.name == "lane" {
			run.Phases = []Phase{{"queue", 300, 250, 700, 0.02}, {"run", 1400, 1350, 2000, 0.1}, {"rest", 12_300, 0, 0, 0.88}}
			run.Counters = &Counters{Why: "the kernel does not permit counters to this user (perf_event_paranoid is 3)"}
		}
		add("Offline", target.name, target.variant, Parameters{Rows: 256, Outstanding: 4, Arrivals: "closed", DurationNS: second}, 50*target.median)
	}
	run := add("Server", "lane", "forest (avx512 row)", Parameters{Rows: 1, Arrivals: "poisson", RatePerS: 2000, LatencyBoundNS: int64(time.Millisecond), Quantile: 0.99, DurationNS: second}, 40_000)
	for rate := 500.0; rate <= 2500; rate += 500 {
		p := Point{RatePerS: rate, AchievedPerS: min(rate, 2100), P50NS: int64(20_000 + 10*rate), P90NS: int64(40_000 + 20*rate), P99NS: int64(100_000 + 200*rate), P999NS: int64(200_000 + 400*rate), Passed: rate <= 2000}
		if !p.Passed {
			p.Why = "the 99th percentile is 1.4 ms, above the bound of 1 ms"
		}
		run.Curve = append(run.Curve, p)
	}
	bad := add("SingleStream", "empty", "empty", Parameters{Rows: 1, Outstanding: 1, Arrivals: "closed", DurationNS: second}, 300)
	bad.Verdict = Verdict{false, []string{"latencies were not steady in 3 of 5 repetitions"}}
	return r
}

// TestExample holds the form of result files to testdata/example.json: a change of it is to be seen.
func TestExample(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := example().Write(&text); err != nil {
		t.Fatal(err)
	}
	const path = "testdata/example.json"
	if *update {
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text.Bytes(), want) {
		t.Errorf("the form of results has changed; if that is meant, think of Version and write %s anew with -update", path)
	}
	r, err := ReadResult(path)
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := r.Write(&again); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), want) {
		t.Error("a result that is read and written is another one")
	}
	keys := map[string]bool{}
	for i := range r.Runs {
		if key := r.Runs[i].Key(); keys[key] {
			t.Errorf("two runs have the key %s", key)
		} else {
			keys[key] = true
		}
	}
}

// TestParseResult refuses what is no result.
func TestParseResult(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                "no result",
		`{}`:              `schema is ""`,
		`{"schema":"pi"}`: `schema is "pi"`,
		`{"schema":"` + Schema + `","version":2}`:                                                           "version 2",
		`{"schema":"` + Schema + `","version":1,"runs":7}`:                                                  "damaged",
		`{"schema":"` + Schema + `","version":1,"runs":[{"repetitions":[{"latency":"HISTFAAAAAF4nA=="}]}]}`: "damaged",
	} {
		if _, err := ParseResult([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseResult(%s) gives %v, want an error with %q", text, err, want)
		}
	}
}

// TestOverheadSays claims nothing of the generator where no empty target was measured.
func TestOverheadSays(t *testing.T) {
	t.Parallel()
	o := example().Overhead
	if got, want := o.Say(), "41 ns a request, 0.49% of the time of the shortest; the generator alone drives 9.8 times the highest rate"; got != want {
		t.Errorf("%+v says %q, want %q", o, got, want)
	}
	o.GeneratorPerS, o.Headroom = 0, 0
	if got := o.Say(); !strings.Contains(got, "was not measured") {
		t.Errorf("without an empty target it says %q", got)
	}
}

// TestHistogram keeps quantiles within a thousandth, across JSON.
func TestHistogram(t *testing.T) {
	t.Parallel()
	h := NewHistogram()
	var all []time.Duration
	random := rand.New(rand.NewPCG(2, 2))
	for range 10_000 {
		d := time.Duration(1000 * math.Exp(2*random.NormFloat64()))
		all = append(all, d)
		h.Record(d)
	}
	slices.Sort(all)
	text, err := h.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var read Histogram
	if err := read.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 0.999} {
		want := float64(all[int(math.Ceil(q*float64(len(all))))-1])
		if got := float64(read.Quantile(q)); math.Abs(got-want) > 1+want/1000 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	h.Record(0)
	h.Record(2 * time.Hour)
	if h.Quantile(0) != 1 || h.Quantile(1) < time.Hour-time.Hour/1000 {
		t.Errorf("from %v to %v, where a nanosecond and an hour are the ends", h.Quantile(0), h.Quantile(1))
	}
}

// FuzzParseResult reads anything, and what it accepts it writes in a form that it accepts.
func FuzzParseResult(f *testing.F) {
	var text bytes.Buffer
	small := example()
	small.Runs = small.Runs[:1]
	small.Runs[0].Repetitions = small.Runs[0].Repetitions[:1]
	if err := small.Write(&text); err != nil {
		f.Fatal(err)
	}
	f.Add(text.Bytes())
	f.Add([]byte(`{"schema":"picket.bench.result","version":1,"runs":[{"repetitions":[{"latency":""}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseResult(data)
		if err != nil {
			return
		}
		var text bytes.Buffer
		if err := r.Write(&text); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseResult(text.Bytes()); err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
	})
}
