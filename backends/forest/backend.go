package forest

import (
	"context"
	"time"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cores"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder; see engine.Backend.
const (
	// matchModel is for a folder that holds just a model file.
	matchModel = 100
	// matchSource is for a model file beside the library that was compiled from it, as compiled.meta says by its digest:
	// above what the backend that runs the library gives, because the model is what the library was made to answer like.
	matchSource = 110
	// matchOther is for a model file beside a library that was compiled from another one, as compiled.meta says: below what
	// the backend that runs the library gives, and high enough for Open to be asked, which says so.
	matchOther = 90
	// matchUnknown is for a model file beside a library of which nothing says that it was compiled from that file. It is
	// below what every backend that runs the library gives, and it is not timed against them: that the answers agree on some
	// hundred rows does not make it the same model, of which one leaf may be another.
	matchUnknown = engine.LastResort - 1
	// matchGraph is for an ONNX file on its own, of which nothing is known yet but that it is one: above what a backend for
	// graphs of any kind gives, which gets those without trees.
	matchGraph = 50
	// matchBroken is for a folder of several model files: low, but enough to say so in Open.
	matchBroken = 1
)

// Backend opens model files of XGBoost and LightGBM. It has no state; the zero Backend works.
type Backend struct{}

// New gives the backend.
func New() *Backend { return &Backend{} }

// Name is "forest".
func (*Backend) Name() string { return "forest" }

// Probe never fails: without C, and on any processor, there is a kernel that works.
func (*Backend) Probe(*hw.Host) error { return nil }

// Match wants a folder with a model file that starts like one, alone or beside a library that it may have been compiled to.
func (*Backend) Match(a *engine.Artifact) int {
	s, err := neo.FindModelFile(a)
	switch {
	case err != nil:
		return matchBroken
	case s.Name == "":
		return 0
	case s.Beside:
		return map[neo.Origin]int{neo.OriginSame: matchSource, neo.OriginOther: matchOther, neo.OriginUnknown: matchUnknown}[s.Origin(a)]
	case s.Format == neo.FormatONNX:
		return matchGraph
	}
	return matchModel
}

// Open reads the model and chooses its kernels, which takes some milliseconds and runs them on made-up rows. See
// engine.Backend for the errors; a model that another backend might run all the same is engine.ErrUnsupported.
func (*Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	e, signature, err := neo.OpenModelFile(ctx, a)
	if err != nil {
		return nil, err
	}
	return newModel(e, signature, options)
}

// minPart is how long a thread should be busy with what it takes of a batch. Waking up a helper takes some microseconds.
const minPart = 40 * time.Microsecond

func newModel(e *ensemble.Ensemble, signature engine.Signature, options engine.OpenOptions) (*model, error) {
	p := newPlan(e)
	program, err := newProgram(p, options.Host, options.Pin)
	if err != nil {
		return nil, err
	}
	m := &model{
		program: program, signature: signature, pin: options.Pin,
		features: e.NumFeature, groups: e.Groups, outputs: e.Outputs(), wide: p.wide, rounds: e.Rounds(), version: e.Version,
		threads: options.Threads, cores: cores.Limit(options.Host), bind: options.Bind, part: program.part(minPart),
	}
	m.typical = newTypical(p, typicalThresholds)
	if options.Explain {
		if err := m.explainWith(e); err != nil {
			program.Close()
			return nil, err
		}
	}
	// What the transform needs; the trees are laid out now.
	m.head = *e
	m.head.Trees = nil
	return m, nil
}
