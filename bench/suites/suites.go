// Package suites has the benchmark suites: what to measure on a kind of host, and what such a host is expected to have. They are
// data, one YAML file each, built into the program.
package suites

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/internal/hw"
)

//go:embed *.yaml
var files embed.FS

// The scenarios. The first four are those of MLPerf Inference; docs/bench.md defines all.
const (
	SingleStream = "SingleStream"
	MultiStream  = "MultiStream"
	Server       = "Server"
	Offline      = "Offline"
	Burst        = "Burst"
	Overload     = "Overload"
	Swap         = "Swap"
	Mixed        = "Mixed"
	Capture      = "Capture"
	ColdStart    = "ColdStart"
	Soak         = "Soak"
)

// Scenarios are all, in the order of documents.
func Scenarios() []string {
	return []string{SingleStream, MultiStream, Server, Offline, Burst, Overload, Swap, Mixed, Capture, ColdStart, Soak}
}

// The targets that are Picket's own, and the empty one.
const (
	Empty    = "empty"
	Engine   = "engine"
	Lane     = "lane"
	Ring     = "ring"
	Agent    = "agent"
	OIPGRPC  = "oip-grpc"
	OIPHTTP  = "oip-http"
	allPeers = "peers" // in a list of targets: all that there are
)

// Where a run keeps the two sides of a connection.
const (
	Together = "together"
	Apart    = "apart"
)

// Targets are Picket's own and the empty one.
func Targets() []string { return []string{Empty, Engine, Lane, Ring, Agent, OIPGRPC, OIPHTTP} }

// Suite is one suite.
type Suite struct {
	Name string `yaml:"name"`
	// For says in a few words what host it is for.
	For string `yaml:"for"`
	// Family is that of EC2 instances; empty for any host.
	Family string `yaml:"family"`
	// Like names a suite whose models, runs and times this one has before its own.
	Like   string `yaml:"like"`
	Expect Expect `yaml:"expect"`

	Models []synthetic.Model `yaml:"models"`
	// Repetitions of each run, of Duration after WarmUp.
	Repetitions int           `yaml:"repetitions"`
	Duration    time.Duration `yaml:"duration"`
	WarmUp      time.Duration `yaml:"warm_up"`
	// Starts is how often Picket is started during the suite, so that what is a matter of chance in a process is in the intervals.
	Starts int `yaml:"starts"`
	// Within is how long the suite is to take: what others disturbed is made again for as long as that leaves time to. 0 is any time.
	Within time.Duration `yaml:"within"`
	// Patience is how long a repetition waits at most for its processors to be as fast as they have been. 0 is for no wait.
	Patience time.Duration `yaml:"patience"`
	Runs     []Run         `yaml:"runs"`

	// Digest is the SHA-256 of the file, and of that it is like.
	Digest string `yaml:"-"`
}

// Expect is what a suite's host has. An empty field is not looked at.
type Expect struct {
	Arch string `yaml:"arch"` // GOARCH
	// Processors are parts of the names of the processors that such a host may have.
	Processors []string `yaml:"processors"`
	Level      hw.Level `yaml:"level"`
	Features   []string `yaml:"features"`
	// LeastThreads and LeastMemoryGiB are of the smallest size on which the figures mean something.
	LeastThreads   int `yaml:"least_threads"`
	LeastMemoryGiB int `yaml:"least_memory_gib"`
	// MemoryGiBPerThread tells families apart that have the same processor.
	MemoryGiBPerThread float64 `yaml:"memory_gib_per_thread"`
	SMT                string  `yaml:"smt"` // "on", "off"
	GPU                string  `yaml:"gpu"` // a part of its name
	MostNUMANodes      int     `yaml:"most_numa_nodes"`
	HugePages          string  `yaml:"huge_pages"` // transparent ones: "always", "madvise", "never"
}

// Run is one scenario with everything that it is measured with: each combination of the lists is a cell.
type Run struct {
	Scenario string   `yaml:"scenario"`
	Models   []string `yaml:"models"`   // all of the suite where empty
	Targets  []string `yaml:"targets"`  // "peers" stands for all others
	Variants []string `yaml:"variants"` // backends; "" is what the engine chooses
	Rows     []int    `yaml:"rows"`     // per request; 1 where empty
	// Outstanding is how many callers there are in a closed load, and in an open one how many requests there can be at once.
	Outstanding []int `yaml:"outstanding"`
	Threads     []int `yaml:"threads"`    // of the engine for one request; 0 leaves it to the engine
	BatchRows   []int `yaml:"batch_rows"` // that the engine may put together; 0 is its default
	// Pin says where the daemon and the clients run: where the system puts them when it is empty, which is a matter of chance that lasts for many
	// requests, both on one processor (Together), or on processors of their own (Apart).
	Pin string `yaml:"pin"`
	// HugePages is what transparent huge pages are to be set to, which only root may change: cells that need another setting
	// than the host has are left out.
	HugePages string `yaml:"huge_pages"`
	// Bound and Quantile are what scenario Server asks for.
	Bound    time.Duration `yaml:"bound"`
	Quantile float64       `yaml:"quantile"`
	// Share of the capacity that open loads ask for: the highest rate at which Outstanding callers were answered.
	Share float64 `yaml:"share"`
	// Arrivals of an open load: "poisson" where empty, or "bursts".
	Arrivals string `yaml:"arrivals"`
	// Deadline of each request, in scenario Overload.
	Deadline time.Duration `yaml:"deadline"`
	// Repetitions and Duration are the suite's where they are 0.
	Repetitions int           `yaml:"repetitions"`
	Duration    time.Duration `yaml:"duration"`
}

// Names are the names of all suites, sorted.
func Names() []string {
	entries, err := fs.Glob(files, "*.yaml")
	if err != nil {
		panic("BUG: the pattern of suites' files is wrong: " + err.Error())
	}
	for i, e := range entries {
		entries[i] = strings.TrimSuffix(e, ".yaml")
	}
	slices.Sort(entries)
	return entries
}

// Of gives the suite of that name, or for that family of instances.
func Of(name string) (*Suite, error) {
	if !slices.Contains(Names(), name) {
		return nil, fmt.Errorf("there is no suite %q; there are %s", name, strings.Join(Names(), ", "))
	}
	text, err := files.ReadFile(name + ".yaml")
	if err != nil {
		return nil, fmt.Errorf("reading suite %s: %w", name, err)
	}
	return Parse(text)
}

// defaultStarts is how often Picket is started where the suite leaves that open.
const defaultStarts = 3

// Read reads a suite from a file of the caller's.
func Read(path string) (*Suite, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSuite+1))
	if err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	return Parse(text)
}

// maxSuite bounds a suite's file, in bytes, and with the lists below how much there can be to measure.
const maxSuite = 1 << 20

// Parse reads a suite's file and checks it.
func Parse(text []byte) (*Suite, error) { return parse(text, 1) }

func parse(text []byte, depth int) (*Suite, error) {
	if len(text) > maxSuite {
		return nil, fmt.Errorf("a suite's file has more than %d bytes", maxSuite)
	}
	s := &Suite{}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading a suite: the file goes on after the first document")
	}
	digest := sha256.New()
	digest.Write(text)
	if s.Like != "" {
		if depth == 0 || !slices.Contains(Names(), s.Like) {
			return nil, fmt.Errorf("suite %s: it is like %q, which is no suite that stands alone", s.Name, s.Like)
		}
		other, err := files.ReadFile(s.Like + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("reading suite %s: %w", s.Like, err)
		}
		base, err := parse(other, depth-1)
		if err != nil {
			return nil, err
		}
		digest.Write(other)
		s.Models, s.Runs = slices.Concat(base.Models, s.Models), slices.Concat(base.Runs, s.Runs)
		if s.Repetitions == 0 {
			s.Repetitions = base.Repetitions
		}
		if s.Duration == 0 {
			s.Duration = base.Duration
		}
		if s.WarmUp == 0 {
			s.WarmUp = base.WarmUp
		}
		if s.Within == 0 {
			s.Within = base.Within
		}
		if s.Starts == 0 {
			s.Starts = base.Starts
		}
		if s.Patience == 0 {
			s.Patience = base.Patience
		}
	}
	if s.Starts == 0 {
		s.Starts = defaultStarts
	}
	s.Digest = hex.EncodeToString(digest.Sum(nil))
	for i := range s.Runs {
		s.fill(&s.Runs[i])
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("suite %s: %w", s.Name, err)
	}
	return s, nil
}

// fill gives a run what it leaves to the suite.
func (s *Suite) fill(r *Run) {
	if len(r.Models) == 0 {
		for _, m := range s.Models {
			r.Models = append(r.Models, m.Name)
		}
	}
	for _, list := range []*[]int{&r.Threads, &r.BatchRows} {
		if len(*list) == 0 {
			*list = []int{0}
		}
	}
	for _, list := range []*[]int{&r.Rows, &r.Outstanding} {
		if len(*list) == 0 {
			*list = []int{1}
		}
	}
	if len(r.Variants) == 0 {
		r.Variants = []string{""}
	}
	if r.Repetitions == 0 {
		r.Repetitions = s.Repetitions
	}
	if r.Duration == 0 {
		r.Duration = s.Duration
	}
	if r.Arrivals == "" && r.Open() {
		r.Arrivals = "poisson"
	}
}

// Open reports whether requests of the scenario are due at times of their own.
func (r *Run) Open() bool {
	switch r.Scenario {
	case Server, Burst, Overload, Swap, Mixed, Soak:
		return true
	}
	return false
}

// Bounds of what a suite may ask for: beyond them is a slip of the pen.
const (
	mostRows        = 1 << 20
	mostOutstanding = 4096
	mostRepetitions = 1000
	mostDuration    = 24 * time.Hour
	mostPatience    = time.Minute
)

func (s *Suite) check() error {
	if s.Name == "" || strings.ContainsAny(s.Name, "/ ") || path.Clean(s.Name) != s.Name {
		return errors.New("it needs a name without blanks and slashes")
	}
	if len(s.Models) == 0 || len(s.Runs) == 0 {
		return errors.New("it needs models and runs")
	}
	if s.Within < 0 {
		return fmt.Errorf("within: %v is below 0", s.Within)
	}
	if s.Patience < 0 || s.Patience > mostPatience {
		return fmt.Errorf("patience: %v is not from 0 to %v", s.Patience, mostPatience)
	}
	if s.Starts < 1 || s.Starts > mostRepetitions {
		return fmt.Errorf("starts: %d is not from 1 to %d", s.Starts, mostRepetitions)
	}
	known := map[string]bool{}
	for _, m := range s.Models {
		if err := m.Check(); err != nil {
			return err
		}
		if known[m.Name] {
			return fmt.Errorf("model %s is there twice", m.Name)
		}
		known[m.Name] = true
	}
	if _, err := hw.ParseMask(strings.Join(s.Expect.Features, ","), s.Expect.Arch); err != nil && len(s.Expect.Features) > 0 {
		return fmt.Errorf("expect: features: %w", err)
	}
	for i := range s.Runs {
		if err := s.Runs[i].check(known); err != nil {
			return fmt.Errorf("run %d, %s: %w", i+1, s.Runs[i].Scenario, err)
		}
	}
	return nil
}

func (r *Run) check(models map[string]bool) error {
	if !slices.Contains(Scenarios(), r.Scenario) {
		return fmt.Errorf("there is no such scenario; there are %s", strings.Join(Scenarios(), ", "))
	}
	for _, m := range r.Models {
		if !models[m] {
			return fmt.Errorf("the suite has no model %q", m)
		}
	}
	if len(r.Targets) == 0 {
		return errors.New("it needs targets")
	}
	for _, t := range r.Targets {
		if t != allPeers && !slices.Contains(Targets(), t) {
			return fmt.Errorf("there is no target %q; there are %s, and %s", t, strings.Join(Targets(), ", "), allPeers)
		}
	}
	for _, list := range []struct {
		name        string
		values      []int
		least, most int
	}{
		{"rows", r.Rows, 1, mostRows}, {"outstanding", r.Outstanding, 1, mostOutstanding}, {"threads", r.Threads, 0, 1024},
		{"batch_rows", r.BatchRows, 0, mostRows}, {"repetitions", []int{r.Repetitions}, 1, mostRepetitions},
	} {
		for _, v := range list.values {
			if v < list.least || v > list.most {
				return fmt.Errorf("%s: %d is not from %d to %d", list.name, v, list.least, list.most)
			}
		}
	}
	switch {
	case r.Duration <= 0 || r.Duration > mostDuration:
		return fmt.Errorf("duration: %v is not above 0 and up to %v", r.Duration, mostDuration)
	case r.Pin != "" && r.Pin != Together && r.Pin != Apart:
		return fmt.Errorf("pin: %q is neither empty nor %s nor %s", r.Pin, Together, Apart)
	case r.Arrivals != "" && r.Arrivals != "poisson" && r.Arrivals != "bursts":
		return fmt.Errorf("arrivals: %q is neither poisson nor bursts", r.Arrivals)
	case r.Arrivals != "" && !r.Open():
		return errors.New("arrivals: requests of the scenario are not due at times of their own")
	case r.Scenario == Server && (r.Bound <= 0 || r.Quantile <= 0 || r.Quantile >= 1):
		return errors.New("it needs a bound above 0 and a quantile between 0 and 1")
	case r.Scenario != Server && r.Open() && r.Share <= 0:
		return errors.New("it needs the share of the capacity that is asked for")
	case r.Scenario == Overload && r.Deadline <= 0:
		return errors.New("it needs a deadline")
	}
	return nil
}
