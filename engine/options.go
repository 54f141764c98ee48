package engine

import (
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"time"

	"github.com/picket-ml/picket/internal/hw"
)

// Options is what an Engine is made of.
type Options struct {
	// Host is what models will run on. Nil to look at this machine, as programs
	// outside this module have to, minding PICKET_CPU_MASK.
	Host *hw.Host
	// Backends are asked in this order; see backends.All.
	Backends []Backend
	// Source opens artifacts; see NewArtifact.
	Source Source
	// Log gets one line for each model that comes and goes. Nil for none.
	Log *slog.Logger
	// Defaults fill the fields of ModelOptions that a Load leaves zero.
	Defaults ModelOptions
	// Decisions remembers which backend was the fastest for an artifact. Nil:
	// every load of an artifact that several backends can run times them.
	Decisions Decisions
	// Version is the program's. A decision is remembered for one version, because
	// the next may have faster code.
	Version string
	// Observer is told of models that come and go. Nil for nobody.
	Observer Observer
	// Tap is shown requests that have ended. Nil for nobody.
	Tap Tap
}

// ModelOptions is how one model is run. A zero field takes the engine's
// default, and where that is zero too, the value named here.
type ModelOptions struct {
	// Backend forces the backend of that name. Default: the fastest one whose
	// answers agree with those of the best match; see Candidate.
	Backend string
	// ExpectedRows is how many rows a request is expected to have: backends are
	// timed with requests of that size. Default 1.
	ExpectedRows int
	// Instances is how many executors run in parallel. Default: the number of
	// cores the process may use for inline models, else the model's
	// Properties.Instances, or one for each GPU that it is on, or 1.
	Instances int
	// Threads is how many threads one Run may use; see OpenOptions.Threads.
	// Default: the number of whole cores the process may use.
	Threads int
	// MaxBatchRows is the largest number of rows that requests are put together
	// to; a single larger request is still served. Default: of a model on GPUs what
	// was measured when it was loaded (see tune), else its Properties.BatchRows, or 64.
	MaxBatchRows int
	// BatchDelay is how long an idle instance waits for more requests to join a
	// batch; less when a request's deadline leaves no room for it. Default 0: an
	// idle instance never waits.
	BatchDelay time.Duration
	// MaxQueue is how many requests may wait; more are refused with ErrBusy.
	// Default 1024.
	MaxQueue int
	// Timeout is the deadline of requests that bring none. Default: none.
	Timeout time.Duration
	// Pin locks working memory where the limits allow.
	Pin bool
	// Explain loads the model so that requests can ask for the contributions of the
	// features; see Request.Explain. Backends that cannot give them are left out.
	// Default: false.
	Explain bool
	// Priority is that of requests that name none. Default: Normal.
	Priority Priority
	// Cores are the CPUs that runs of the model keep to, as "0-3,6": those of the
	// threads of its instances, and of others as far as the backend lets the engine
	// bind them; see OpenOptions.Bind. They must be among those that the process
	// may use. A model with Cores is not run on the thread that brought a request,
	// and has by default one instance for each of them where it would be. Linux
	// only. Default: all that the process may use.
	Cores string
	// Provider is what a backend that knows several runs the model on; see
	// OpenOptions.Provider. Default: the backend's choice.
	Provider string
	// GPUs are those that a model which runs on GPUs is on; see OpenOptions.GPUs.
	// Default: the one with the fewest models.
	GPUs string
}

// or fills o's zero fields from d.
func (o ModelOptions) or(d ModelOptions) ModelOptions {
	if o.Backend == "" {
		o.Backend = d.Backend
	}
	if o.ExpectedRows == 0 {
		o.ExpectedRows = d.ExpectedRows
	}
	if o.Instances == 0 {
		o.Instances = d.Instances
	}
	if o.Threads == 0 {
		o.Threads = d.Threads
	}
	if o.MaxBatchRows == 0 {
		o.MaxBatchRows = d.MaxBatchRows
	}
	if o.BatchDelay == 0 {
		o.BatchDelay = d.BatchDelay
	}
	if o.MaxQueue == 0 {
		o.MaxQueue = d.MaxQueue
	}
	if o.Timeout == 0 {
		o.Timeout = d.Timeout
	}
	if o.Priority == Unnamed {
		o.Priority = d.Priority
	}
	if o.Cores == "" {
		o.Cores = d.Cores
	}
	if o.Provider == "" {
		o.Provider = d.Provider
	}
	if o.GPUs == "" {
		o.GPUs = d.GPUs
	}
	o.Pin = o.Pin || d.Pin
	o.Explain = o.Explain || d.Explain
	return o
}

// Setting is an option under the name that the configuration has for it.
type Setting struct{ Key, Value string }

// Settings are all options, for people.
func (o ModelOptions) Settings() []Setting {
	number := func(key string, n int) Setting { return Setting{key, strconv.Itoa(n)} }
	return []Setting{
		{"backend", o.Backend}, number("expected_rows", o.ExpectedRows), number("instances", o.Instances), number("threads", o.Threads),
		number("max_batch_rows", o.MaxBatchRows), {"batch_delay", o.BatchDelay.String()}, number("max_queue", o.MaxQueue),
		{"timeout", o.Timeout.String()}, {"pin", strconv.FormatBool(o.Pin)}, {"explain", strconv.FormatBool(o.Explain)}, {"priority", o.Priority.String()}, {"cores", o.Cores},
		{"provider", o.Provider}, {"gpus", o.GPUs},
	}
}

// builtinOptions are the defaults of the defaults. Threads is chosen when the
// host is known, Instances and MaxBatchRows when the model is.
var builtinOptions = ModelOptions{ExpectedRows: 1, MaxQueue: 1024, Priority: Normal}

// batchRows is MaxBatchRows where neither the options nor the model tell it. More
// would keep the first of them for long and take much memory with models whose rows
// are large or slow.
const batchRows = 64

// limits no configuration sensibly exceeds; they keep sums far from overflow.
const (
	maxInstances = 1024
	maxBatchRows = 1 << 20
	maxQueue     = 1 << 20
)

func (o ModelOptions) check() error {
	for _, f := range [...]struct {
		name       string
		value, max int64
	}{
		{"expected rows", int64(o.ExpectedRows), maxBatchRows},
		{"instances", int64(o.Instances), maxInstances},
		{"threads", int64(o.Threads), maxInstances},
		{"max batch rows", int64(o.MaxBatchRows), maxBatchRows},
		{"max queue", int64(o.MaxQueue), maxQueue},
		{"batch delay", int64(o.BatchDelay), int64(time.Minute)},
		{"timeout", int64(o.Timeout), int64(24 * time.Hour)},
	} {
		if f.value < 0 || f.value > f.max {
			return fmt.Errorf("option %s is %d, it must be from 0 to %d", f.name, f.value, f.max)
		}
	}
	if o.Priority >= priorities {
		return fmt.Errorf("option priority is %d, which is none", uint8(o.Priority))
	}
	return nil
}

// maxNameLength keeps names usable as file names and metric labels.
const maxNameLength = 255

// The form is the one the Edge Manager agent had.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)

// CheckName tells whether a model may be called that; the error wraps
// ErrInvalidName.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrInvalidName)
	case len(name) > maxNameLength:
		return fmt.Errorf("%w: it is longer than %d bytes", ErrInvalidName, maxNameLength)
	case !namePattern.MatchString(name):
		return fmt.Errorf("%w %q: letters, digits and inner hyphens are allowed", ErrInvalidName, name)
	}
	return nil
}
