package cuda

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder: a little less than backend forest, which its answers are held against. See there for what they mean.
const (
	matchModel   = 99
	matchSource  = 109
	matchOther   = 89
	matchUnknown = engine.LastResort - 2
	matchGraph   = 49
)

// Options are what the backend is made with.
type Options struct {
	// Devices are shared with the other backends of the process. Nil for all that there are.
	Devices *devices.Set
	// Slots is how many chunks of a large batch are on their way at once, 1 to 8: copied in, computed, copied out. With 1 nothing
	// overlaps, which is for measuring what overlapping is worth. Default: 3.
	Slots int
	// Timeline is told of every chunk of a large batch, when it is done, on the thread that runs the batch: for showing what overlaps. Nil, the default,
	// records nothing.
	Timeline func(Chunk)
}

// Chunk is when a chunk of a large batch was where, by the device's clock, since its batch began.
type Chunk struct {
	Slot, Rows int
	// Began is when its copy to the device could begin; Copied, Computed and Returned when it was there, was computed, and was back.
	Began, Copied, Computed, Returned time.Duration
}

// Backend runs tree models on GPUs. It is safe for concurrent use.
type Backend struct {
	set      *devices.Set
	slots    int
	timeline func(Chunk)
	mu       sync.Mutex
	usable   map[*devices.Device]*device // those that can run the kernels, filled by Probe
}

// New makes the backend. Nothing is opened before Probe.
func New(o Options) *Backend {
	if o.Devices == nil {
		o.Devices = devices.New(devices.Options{})
	}
	if o.Slots == 0 {
		o.Slots = 3
	}
	return &Backend{set: o.Devices, slots: min(max(1, o.Slots), 8), timeline: o.Timeline}
}

// Name is "cuda".
func (*Backend) Name() string { return "cuda" }

// minMajor is the compute capability that the kernels are compiled for.
const minMajor = 7

// Probe opens the driver where there is a GPU, and looks for devices that can run the kernels.
func (b *Backend) Probe(host *hw.Host) error {
	if err := b.set.Open(host); err != nil {
		return err
	}
	usable := map[*devices.Device]*device{}
	var left []string
	for _, d := range b.set.All() {
		if f := d.Facts(); f.Major < minMajor {
			left = append(left, fmt.Sprintf("%s is of compute capability %s, and %d.0 is needed", f.UUID, f.ComputeCapability(), minMajor))
			continue
		}
		usable[d] = &device{Device: d, slots: b.slots, timeline: b.timeline}
	}
	if len(usable) == 0 {
		return fmt.Errorf("no GPU can run the kernels: %s", strings.Join(left, "; "))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.usable = usable
	return nil
}

// Match wants what backend forest wants, but for folders of several models, of which that one says what is wrong.
func (*Backend) Match(a *engine.Artifact) int {
	s, err := neo.FindModelFile(a)
	switch {
	case err != nil || s.Name == "":
		return 0
	case s.Beside:
		return map[neo.Origin]int{neo.OriginSame: matchSource, neo.OriginOther: matchOther, neo.OriginUnknown: matchUnknown}[s.Origin(a)]
	case s.Format == neo.FormatONNX:
		return matchGraph
	}
	return matchModel
}

// Open puts the model on the device that has the fewest, of those that are in use, or on those that options.GPUs names. See engine.Backend for the
// errors.
func (b *Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	e, signature, err := neo.OpenModelFile(ctx, a)
	if err != nil {
		return nil, err
	}
	t, err := layOut(e)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	usable := b.usable
	b.mu.Unlock()
	return b.set.Place(options.GPUs, func(d *devices.Device) (engine.Model, error) {
		on := usable[d]
		if on == nil {
			f := d.Facts()
			return nil, fmt.Errorf("%w: %s is of compute capability %s, and %d.0 is needed", engine.ErrUnsupported, f.UUID, f.ComputeCapability(), minMajor)
		}
		l, err := on.enter()
		if err != nil {
			return nil, err
		}
		m, err := newModel(e, t, signature, on, l)
		if err != nil {
			return nil, d.Failed(devices.And(err, on.leave(l)))
		}
		return m, nil
	})
}
