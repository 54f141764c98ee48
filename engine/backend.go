package engine

import (
	"context"
	"log/slog"

	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// Backend opens artifacts of one format. A Backend is used by many goroutines
// at once and keeps no reference to what its methods are given.
type Backend interface {
	// Name is short, lower case and constant: it is what PICKET_BACKEND, the
	// configuration and `picket explain` call the backend.
	Name() string

	// Probe tells whether the backend can work on this host: nil, or the reason
	// why not in one sentence, such as a library that was not found. It is
	// called once, when the engine starts, and does not take longer than
	// opening a library takes.
	Probe(host *hw.Host) error

	// Match tells how well the backend suits the artifact by looking at names
	// and, where names do not say, at the first bytes of its files or their
	// digests: 0 for not at all; a tie goes to the order of the list. The highest
	// is opened first and what it answers is what others must answer; see
	// LastResort and Candidate for how one is chosen.
	Match(a *Artifact) int

	// Open makes a Model of the artifact, which is borrowed for the call: a
	// backend that needs a file later opens it now, through a.Root.
	// Errors wrap ErrArtifact, ErrHost, ErrMemory or ErrUnsupported; after an
	// error nothing of the artifact stays open. Nothing of the artifact may run
	// before the backend has checked that the host can run it.
	Open(ctx context.Context, a *Artifact, options OpenOptions) (Model, error)
}

// LastResort is the highest Match of a backend that is opened only where no
// better one can: one that leaks, that leaves something behind in the process,
// or that would run the same code as another. Such a backend is not timed
// against others, because that takes opening it.
const LastResort = 10

// OpenOptions is what the engine tells a backend about how a model will be
// used.
type OpenOptions struct {
	// Host is what the model will run on. Never nil.
	Host *hw.Host
	// Threads is how many threads one Run may use, at least 1 and by default as
	// many as the process has cores. All runs of all models share these cores: a
	// backend that starts threads takes them from one count for the whole process,
	// and only for runs that are long enough to pay for the hand-over.
	Threads int
	// Pin asks for the model's working memory to be locked in memory.
	Pin bool
	// Explain asks for a model whose Signature has Contributions and whose Instances
	// are Explainers. A backend that knows of nothing of the kind need not look at it:
	// the engine leaves its model to others.
	Explain bool
	// Bind, where it is not nil, calls something on the CPUs that the model is to keep
	// to, and leaves the thread as it was. It is for goroutines that a backend starts
	// for a Run: the threads of Instances are bound already, and so is what a native
	// library starts from those.
	Bind func(func())
	// Provider is what the model is to run on, in the words of a backend that knows several,
	// such as "cpu" and "cuda:0" of ONNX Runtime's; empty for the backend's choice. A backend
	// that knows but one need not look at it.
	Provider string
	// GPUs says on which GPUs a backend that runs models on them puts this one: "all" that
	// are in use, or those of these UUIDs, separated by commas, with an instance on one after
	// the other; empty for the one that has the fewest models.
	GPUs string
}

// Model is one opened artifact. Its methods may be called by many goroutines at
// once, but Close only when every Instance is closed.
type Model interface {
	// Signature is what the model takes and gives. It does not change.
	Signature() Signature

	// Properties is how the model likes to be run. It does not change.
	Properties() Properties

	// NewInstance makes one executor. Unless the Properties are Inline or Anywhere,
	// the engine calls it, and all methods of what it returns, from one OS thread,
	// which lives as long as the Instance. Instances share the Model's
	// read-only parts; they do not share scratch memory.
	NewInstance() (Instance, error)

	// Close releases the model. It is called once, after the last Instance was
	// closed.
	Close() error
}

// Instance is one executor of a model. It is used by one goroutine at a time.
type Instance interface {
	// Run predicts. in and out are in the order of the Signature; their element
	// types are the Signature's, their first dimension is rows wherever the
	// Signature's is variable, and their Buffers start at an address aligned to
	// tensor.Alignment unless a batch is run in parts, when only an element's own
	// alignment holds. Both are borrowed for the call: after it, whether it
	// failed or not, the Instance must not touch them. Run does not write to
	// in, and writes every byte of out unless it returns an error.
	// rows is at least 1, and 1 where the Signature has no variable dimension.
	Run(in, out []tensor.Tensor, rows int) error

	// Close releases the instance; it is called once.
	Close() error
}

// Explainer is an Instance of a model whose Signature has Contributions.
type Explainer interface {
	Instance
	// Explain writes the contributions of the rows of in to out. It is called after
	// Run on the same rows, and what holds of Run's tensors holds of these.
	Explain(in []tensor.Tensor, out tensor.Tensor, rows int) error
}

// Allocator is a Model whose tensors are best in memory of its own, such as memory
// that a GPU copies by itself.
type Allocator interface {
	Model
	// Allocate gives n bytes, not cleared and aligned to tensor.Alignment, with one
	// reference, which is the caller's. Where it fails, ordinary memory does as well.
	// All is given back before the Model is closed. Any goroutine may call it.
	Allocate(n int) (*tensor.Buffer, error)
}

// Properties is how a model likes to be run.
type Properties struct {
	// Inline declares that Run is so cheap that handing the request to another
	// thread would cost more, and that an Instance does not care which thread
	// it is called from. When nothing is queued, Run is then called on the
	// thread that brought the request, unless the model is to keep to some CPUs.
	Inline bool
	// Anywhere declares that an Instance does not care which thread it is called from,
	// though Run is not cheap. When nothing is queued and the run is not expected to take
	// longer than a moment (50 ms), nor than its deadline allows, it is called on the
	// thread that brought the request, unless the model is to keep to some CPUs: that
	// spares waking a thread for it, and another one when it is over.
	Anywhere bool
	// MaxInstances is how many instances may exist at once; 0 for any number.
	MaxInstances int
	// MaxRows is how many rows one Run can take; 0 for any number. Larger
	// requests are run in parts.
	MaxRows int
	// BatchRows is up to how many rows a Run's cost for a row falls, which is how many
	// are gathered into one where the options do not say it; 0 where it is not known. Of
	// a model on GPUs it is the most, and the engine measures how many are worth it.
	BatchRows int
	// Instances is how many are worth having where the options do not say it; 0 where that
	// is not known.
	Instances int
	// Variant says which build of the model this is, such as "x86-64-v3"; it
	// may be empty.
	Variant string
	// Version is the model's own version if the artifact tells one.
	Version string
	// Devices are the UUIDs of the GPUs that run the model; none for the processor.
	Devices []string
	// Notes is what an operator should know of the model's answers. The engine
	// logs each with the name of the model, and adds it to the reason of the
	// chosen Candidate.
	Notes []Note
}

// bound tells whether an Instance has to be called from one thread.
func (p *Properties) bound() bool { return !p.Inline && !p.Anywhere }

// Note is one thing to know of how a model answers.
type Note struct {
	// Level is slog.LevelWarn where the answers may not be those of the trainer.
	Level slog.Level
	Text  string // as the end of a sentence
}
