package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Schema and Version name the form of the files that `picket bench run` writes. docs/formats/bench.md describes it. A field
// may be added without another version; one that is renamed, removed or given another meaning makes one.
const (
	Schema  = "picket.bench.result"
	Version = 1
)

// maxResultSize bounds what is read as a result file: a suite with every target and the longest curves stays below a tenth.
const maxResultSize = 256 << 20

// Result is everything that one run of a suite found out. Names that end in _ns are nanoseconds, in _bytes bytes, in _per_s per
// second; shares are from 0 to 1.
type Result struct {
	Schema  string    `json:"schema"`
	Version int       `json:"version"`
	Tool    Tool      `json:"tool"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`

	Suite       SuiteRun    `json:"suite"`
	Environment Environment `json:"environment"`
	Noise       Noise       `json:"noise"`
	Overhead    Overhead    `json:"overhead"`
	// Marks say, one sentence each, why these figures are not those of the host and the suite that the file names: another
	// processor, masked features, other load. Empty is as it should be.
	Marks []string `json:"marks"`

	Models  []ModelInfo  `json:"models"`
	Targets []TargetInfo `json:"targets"`
	Runs    []Run        `json:"runs"`
	LeftOut []LeftOut    `json:"left_out"`
}

// Tool is what measured.
type Tool struct {
	Version string `json:"version"` // of picket, "0.9.0"
	Commit  string `json:"commit,omitempty"`
	Go      string `json:"go"`
}

// SuiteRun is which suite was run, and how.
type SuiteRun struct {
	Name   string `json:"name"`             // "local", "m5"
	Digest string `json:"digest"`           // SHA-256 of the suite's file, hexadecimal
	Family string `json:"family,omitempty"` // of instances that the suite is for; empty for any host
	Forced bool   `json:"forced,omitempty"` // the family was named by the caller and not found
	Quick  bool   `json:"quick,omitempty"`  // shortened: shows that all works, and is no measurement
	Mask   string `json:"mask,omitempty"`   // features that were taken away
	Seed   uint64 `json:"seed"`             // of arrivals, rows, and the order of turns
}

// Environment is where the suite ran.
type Environment struct {
	Host string `json:"host"` // a hash of the host's name: tells hosts apart and names none
	CPU  struct {
		Model       string   `json:"model"`
		Vendor      string   `json:"vendor"`
		Arch        string   `json:"arch"`
		Family      int      `json:"family"`
		ModelNumber int      `json:"model_number"`
		Stepping    int      `json:"stepping"`
		Microcode   string   `json:"microcode,omitempty"`
		Level       string   `json:"level"` // "x86-64-v4"
		Features    []string `json:"features"`
		Masked      []string `json:"masked"`
		Sockets     int      `json:"sockets"`
		Cores       int      `json:"cores"`   // physical
		Threads     int      `json:"threads"` // logical
		Allowed     float64  `json:"allowed"` // what affinity and quota leave, in logical CPUs
		Affinity    []int    `json:"affinity"`
		SMT         string   `json:"smt"`      // "on", "off", "notsupported", "unknown"
		Governor    string   `json:"governor"` // of all, "performance"; "mixed"; "none" where the kernel does not choose
		Driver      string   `json:"driver,omitempty"`
		Boost       string   `json:"boost"` // "on", "off", "unknown"
		Caches      []Cache  `json:"caches"`
	} `json:"cpu"`
	Memory struct {
		TotalBytes           uint64     `json:"total_bytes"`
		AvailableBytes       uint64     `json:"available_bytes"`
		HugePages            []HugePool `json:"huge_pages"`
		TransparentHugePages string     `json:"transparent_huge_pages"`
		NUMANodes            int        `json:"numa_nodes"`
	} `json:"memory"`
	GPUs     []GPU  `json:"gpus"`
	Kernel   string `json:"kernel"`
	Glibc    string `json:"glibc"`
	Virtual  string `json:"virtual,omitempty"` // what the host runs in, as far as it tells: "kvm", "container"
	Instance struct {
		Type   string `json:"type,omitempty"`   // "m5.4xlarge"
		Family string `json:"family,omitempty"` // "m5"
		Source string `json:"source,omitempty"` // how that is known
	} `json:"instance"`
	// Expected is what the suite's host has, Found what this one has, where the two differ.
	Differences []Difference `json:"differences"`
}

// Cache is one of a processor's caches.
type Cache struct {
	Level int    `json:"level"`
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
}

// HugePool is the huge pages of one size.
type HugePool struct {
	PageBytes uint64 `json:"page_bytes"`
	Total     int    `json:"total"`
	Free      int    `json:"free"`
}

// GPU is a GPU of the host.
type GPU struct {
	Name        string `json:"name"`
	MemoryBytes uint64 `json:"memory_bytes"`
	Driver      string `json:"driver"`
}

// Difference is where the host is not the suite's.
type Difference struct {
	What     string `json:"what"` // "processor", "cores", "memory"
	Expected string `json:"expected"`
	Found    string `json:"found"`
}

// Noise is what else the machine did meanwhile. Quiet says whether the figures may be compared with others; Why, one sentence
// each, what speaks against it.
type Noise struct {
	Quiet bool     `json:"quiet"`
	Why   []string `json:"why"`
	// Steal is the share of the processors' time that the hypervisor gave to others.
	Steal float64 `json:"steal"`
	// Others is the share of the processors' time that processes which are not part of the suite took.
	Others float64 `json:"others"`
	// LoadBefore is the load average of one minute when the suite began.
	LoadBefore float64 `json:"load_before"`
	// Loop is a loop of fixed work timed again and again before, between and after the repetitions: its median, and how far its
	// 10th and 90th percentiles are apart in parts of it. LoopFastestNS is the median of those timed
	// in a row where the processor was as fast as in one of twenty such looks.
	LoopMedianNS  float64 `json:"loop_median_ns"`
	LoopFastestNS float64 `json:"loop_fastest_ns,omitempty"`
	LoopSpread    float64 `json:"loop_spread"`
	// Interrupted is the longest time for which a thread that only reads the clock was away from the processor.
	InterruptedNS int64 `json:"interrupted_ns"`
}

// Overhead is what measuring itself costs.
type Overhead struct {
	// RecordNS is what it takes to read the clock and to record one latency; Share is the greatest part of a request's time that
	// this took in any closed load of the file, with requests that were not timed reckoned in.
	RecordNS float64 `json:"record_ns"`
	Share    float64 `json:"share"`
	// Generator is the highest rate at which the load generator drives an empty target, in requests a second, and Headroom that
	// in times of the highest rate of requests in the file; both are 0 where none was measured.
	GeneratorPerS float64 `json:"generator_per_s"`
	Headroom      float64 `json:"headroom"`
}

// Say says it in a line.
func (o *Overhead) Say() string {
	generator := "what the generator does alone was not measured, as there was no empty target"
	if o.Headroom > 0 {
		generator = fmt.Sprintf("the generator alone drives %.1f times the highest rate", o.Headroom)
	}
	return fmt.Sprintf("%.0f ns a request, %.2f%% of the time of the shortest; %s", o.RecordNS, 100*o.Share, generator)
}

// ModelInfo is a model that was measured.
type ModelInfo struct {
	Name      string `json:"name"`
	Library   string `json:"library"` // that trained it
	Trees     int    `json:"trees"`
	Depth     int    `json:"depth"`
	Features  int    `json:"features"`
	Outputs   int    `json:"outputs"`
	Digest    string `json:"digest"`    // SHA-256 of the model's file
	Reference string `json:"reference"` // what answers were compared with
}

// Kind is how a target is reached.
type Kind string

// The kinds.
const (
	KindInProcess Kind = "in process" // called in the process that measures
	KindServer    Kind = "server"     // a process of its own, asked over a connection
	KindEmpty     Kind = "empty"      // the empty target, which shows what the generator of loads can do
)

// TargetInfo is something that was measured: Picket over one of its interfaces, a library or a server of others, or the empty
// target.
type TargetInfo struct {
	Name      string `json:"name"` // "engine", "lane", "ring", "agent", "oip-grpc", "oip-http", "empty", "xgboost", "triton"
	Kind      Kind   `json:"kind"`
	Ours      bool   `json:"ours"`      // Picket itself
	Transport string `json:"transport"` // "call", "Unix socket", "TCP loopback", "shared memory"
	Version   string `json:"version"`
	Notes     string `json:"notes,omitempty"` // how it was called, or how its answers differ
}

// Run is one cell of a suite: a scenario with one model, one target and one set of parameters, repeated.
type Run struct {
	Scenario   string     `json:"scenario"` // "SingleStream", "MultiStream", "Server", "Offline", "Burst", "Overload", ...
	Model      string     `json:"model"`
	Target     string     `json:"target"`
	Variant    string     `json:"variant"` // what ran the model: "forest (avx512vbmi row)", or what was asked for
	Parameters Parameters `json:"parameters"`

	Repetitions []Repetition `json:"repetitions"`
	Summary     Summary      `json:"summary"`
	// Phases is where a request's time goes, as the server tells it; empty where it does not.
	Phases []Phase `json:"phases,omitempty"`
	// Curve is, for scenario Server, every rate that was tried, ascending.
	Curve    []Point   `json:"curve,omitempty"`
	Counters *Counters `json:"counters,omitempty"`
	Verdict  Verdict   `json:"verdict"`
}

// Key names what is measured, the same in every file: runs of two files with one key are compared. The variant is not part of
// it, as another kernel for the same work is what comparing is for; nor is a rate that a search found.
func (r *Run) Key() string {
	p := &r.Parameters
	key := fmt.Sprintf("%s/%s/%s/rows=%d/outstanding=%d/threads=%d", r.Scenario, r.Model, r.Target, p.Rows, p.Outstanding, p.Threads)
	if p.Case != "" {
		key += "/" + p.Case
	}
	return key
}

// Parameters say what a run did.
type Parameters struct {
	Rows        int `json:"rows"`        // per request
	Outstanding int `json:"outstanding"` // callers or requests at once, at most; 0 where arrivals decide
	Threads     int `json:"threads"`     // of the engine for one request; 0 leaves it to the engine
	// Case tells runs of one scenario apart that differ in something else: "capture=on", "swap".
	Case string `json:"case,omitempty"`
	// Arrivals is "closed" (the next when the last was answered), "all" (all at once), "poisson", "bursts".
	Arrivals string `json:"arrivals"`
	// RatePerS is how many requests a second were asked for, 0 for closed arrivals.
	RatePerS float64 `json:"rate_per_s,omitempty"`
	// LatencyBoundNS at Quantile is what scenario Server asks for.
	LatencyBoundNS int64   `json:"latency_bound_ns,omitempty"`
	Quantile       float64 `json:"quantile,omitempty"`
	Pinned         []int   `json:"pinned,omitempty"` // CPUs that the target's threads were kept on
	PinnedClients  []int   `json:"pinned_clients,omitempty"`
	HugePages      string  `json:"huge_pages,omitempty"`
	BatchRows      int     `json:"batch_rows,omitempty"` // that the engine may put together; 0 is its default
	DurationNS     int64   `json:"duration_ns"`          // of a repetition, asked for
	// TimedEvery is, in a closed load, how many requests there were to one that was timed, at random; 0 where all were. All are
	// counted, and all answers compared.
	TimedEvery int `json:"timed_every,omitempty"`
}

// Repetition is one time that a run's load was put on the target. Targets of a suite take turns by repetition.
type Repetition struct {
	Turn       int       `json:"turn"` // its place among all repetitions of the suite
	Began      time.Time `json:"began"`
	DurationNS int64     `json:"duration_ns"` // of what is counted
	WarmUpNS   int64     `json:"warm_up_ns"`  // cut off before
	Steady     bool      `json:"steady"`      // whether latencies were settled when counting began
	Counts     Counts    `json:"counts"`
	// Latency is from when a request was due to its answer, Service from when it was sent; the second is left out where
	// nothing was due at a time of its own.
	Latency *Histogram `json:"latency"`
	Service *Histogram `json:"service,omitempty"`
	// SendLateP99NS is how late the generator was.
	SendLateP99NS int64 `json:"send_late_p99_ns,omitempty"`
	// ServerCPU is the target's processor time; 0 in process.
	ServerCPUNS int64   `json:"server_cpu_ns,omitempty"`
	Steal       float64 `json:"steal"`
	Others      float64 `json:"others"`
	// LoopNS is how long a loop of fixed work took, the longer of the medians of several right before the repetition and right after.
	LoopNS float64 `json:"loop_ns,omitempty"`
	// Value is the scenario's number of this repetition, of which the summary's metric is the median.
	Value float64 `json:"value,omitempty"`
	// Disturbed says that others had more of the processors meanwhile than a figure bears, or that the loop of fixed work took longer than it does
	// on this machine, LeftOut that the summary goes without
	// the repetition for that reason: there were enough that nothing disturbed.
	Disturbed bool `json:"disturbed,omitempty"`
	LeftOut   bool `json:"left_out,omitempty"`
}

// mostSlower is how many times the fastest probe's loop the same loop may take before and after a repetition that counts as undisturbed.
const mostSlower = 1.1

// Slowed reports whether a loop of fixed work took so much longer than when the machine was at its fastest that something else was at work: most of
// all another tenant on the other thread of a core, of which no kernel gives an account.
func Slowed(loop, fastest float64) bool { return fastest > 0 && loop > mostSlower*fastest }

// Counts is what became of requests. Sent = Answered + Refused + Late + Failed.
type Counts struct {
	Sent     int64 `json:"sent"`
	Answered int64 `json:"answered"`
	Rows     int64 `json:"rows"` // of the answered
	Refused  int64 `json:"refused,omitempty"`
	Late     int64 `json:"late,omitempty"` // beyond the deadline
	Failed   int64 `json:"failed,omitempty"`
	Checked  int64 `json:"checked"` // rows compared with the reference
	Wrong    int64 `json:"wrong"`   // rows of them that differ
}

// Summary is what the repetitions that were not left out come to: each value is the median of their values, with its confidence
// interval.
type Summary struct {
	// Metric is the one number that MLPerf Inference gives for the scenario.
	Metric Metric `json:"metric"`
	// Latencies, in nanoseconds.
	Mean Estimate `json:"mean_ns"`
	P50  Estimate `json:"p50_ns"`
	P90  Estimate `json:"p90_ns"`
	P99  Estimate `json:"p99_ns"`
	P999 Estimate `json:"p999_ns"`
	Max  Estimate `json:"max_ns"`
	// Throughput.
	Requests Estimate `json:"requests_per_s"`
	Rows     Estimate `json:"rows_per_s"`
}

// Metric is a scenario's number.
type Metric struct {
	Name   string   `json:"name"` // "90th percentile latency", "highest rate within the bound", "rows a second"
	Unit   string   `json:"unit"` // "ns", "requests/s", "rows/s"
	Higher bool     `json:"higher_is_better"`
	Value  Estimate `json:"value"`
}

// Estimate is a median of repetitions, and between which two of them the median of all that could be made lies with at least 95%
// confidence, whatever their distribution. That takes six; with fewer, Low and High are the least and the greatest, and Confidence
// is what that is worth.
type Estimate struct {
	Value      float64 `json:"value"`
	Low        float64 `json:"low"`
	High       float64 `json:"high"`
	N          int     `json:"n"` // repetitions
	Confidence float64 `json:"confidence"`
}

// Phase is a part of a request's time in the server, of all requests together.
type Phase struct {
	Name   string  `json:"name"` // "queue", "run", "rest"
	MeanNS float64 `json:"mean_ns"`
	P50NS  float64 `json:"p50_ns,omitempty"`
	P99NS  float64 `json:"p99_ns,omitempty"`
	Share  float64 `json:"share"` // of the mean latency that clients saw
}

// Point is one rate on the way to the highest.
type Point struct {
	RatePerS     float64 `json:"rate_per_s"`     // asked for
	AchievedPerS float64 `json:"achieved_per_s"` // answered
	P50NS        int64   `json:"p50_ns"`
	P90NS        int64   `json:"p90_ns"`
	P99NS        int64   `json:"p99_ns"`
	P999NS       int64   `json:"p999_ns"`
	Passed       bool    `json:"passed"`
	Why          string  `json:"why,omitempty"` // it did not pass
}

// Counters are the processor's, for the process that ran the model, per row answered. Why says what is missing.
type Counters struct {
	Instructions float64 `json:"instructions,omitempty"`
	Cycles       float64 `json:"cycles,omitempty"`
	CacheMisses  float64 `json:"cache_misses,omitempty"`
	BranchMisses float64 `json:"branch_misses,omitempty"`
	// UserOnly says that what the kernel did is not in them, as this user may not see it.
	UserOnly bool   `json:"user_only,omitempty"`
	Why      string `json:"why,omitempty"`
}

// Verdict is whether a run's figures may be used.
type Verdict struct {
	Valid bool     `json:"valid"`
	Why   []string `json:"why"` // not, one sentence each
}

// ReadResult reads a result file and refuses what is none, or is of a later version.
func ReadResult(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a result: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxResultSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading a result: %w", err)
	}
	if len(data) > maxResultSize {
		return nil, fmt.Errorf("reading a result: %s has more than %d bytes, more than any suite writes", path, maxResultSize)
	}
	r, err := ParseResult(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return r, nil
}

// ParseResult reads the bytes of a result file.
func ParseResult(data []byte) (*Result, error) {
	var head struct {
		Schema  string `json:"schema"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("it is no result of picket bench run: %w", err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("it is no result of picket bench run: its schema is %.64q instead of %q", head.Schema, Schema)
	}
	if head.Version < 1 || head.Version > Version {
		return nil, fmt.Errorf("it has version %d of the schema and this picket reads up to %d; read it with the picket that wrote it", head.Version, Version)
	}
	r := new(Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return r, nil
}

// Write writes the result as JSON.
func (r *Result) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}
