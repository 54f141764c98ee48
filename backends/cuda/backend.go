package cuda

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
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
	// Library is the path of libcuda.so.1. Default: where the loader finds it.
	Library string
	// Devices are the UUIDs of the GPUs, or of their MIG instances, that may be used, "GPU-..." or "MIG-..." as nvidia-smi -L prints them. Default:
	// all that the driver shows to this process.
	Devices []string
	// Limits bound what is taken of each device.
	Limits cuda.Limits
	// Slots is how many chunks of a large batch are on their way at once, 1 to 8: copied in, computed, copied out. With 1 nothing
	// overlaps, which is for measuring what overlapping is worth. Default: 3.
	Slots int
	// Lost is told of a device that has been lost, once, on the goroutine that found out, which must not wait. Nil for nobody.
	Lost func(uuid, reason string)
}

// Backend runs tree models on GPUs. It is safe for concurrent use.
type Backend struct {
	options Options
	mu      sync.Mutex
	devices []*device // filled by Probe
}

// New makes the backend. Nothing is opened before Probe.
func New(o Options) *Backend {
	if o.Slots == 0 {
		o.Slots = 3
	}
	o.Slots = min(max(1, o.Slots), 8)
	return &Backend{options: o}
}

// Name is "cuda".
func (*Backend) Name() string { return "cuda" }

// Probe opens the driver where there is a GPU, and looks for devices that can run the kernels.
func (b *Backend) Probe(host *hw.Host) error {
	if len(host.GPUs) == 0 {
		return fmt.Errorf("there is no GPU: %s", cmp.Or(host.GPUReason, "none was looked for"))
	}
	driver, err := cuda.Open(b.options.Library)
	if err != nil {
		return err
	}
	devices, err := b.choose(driver)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.devices = devices
	return nil
}

// minMajor is the compute capability that the kernels are compiled for.
const minMajor = 7

func (b *Backend) choose(driver *cuda.Driver) ([]*device, error) {
	all, err := driver.Devices()
	if err != nil {
		return nil, err
	}
	var use []*device
	var left []string
	for _, d := range all {
		switch {
		case len(b.options.Devices) > 0 && !slices.Contains(b.options.Devices, d.UUID):
			left = append(left, d.UUID+" is not among the configured ones")
		case d.Major < minMajor:
			left = append(left, fmt.Sprintf("%s is of compute capability %s, and %d.0 is needed", d.UUID, d.ComputeCapability(), minMajor))
		default:
			x := &device{driver: driver, facts: d, limits: b.options.Limits, slots: b.options.Slots, tell: func(string) {}}
			if b.options.Lost != nil {
				x.tell = func(reason string) { b.options.Lost(d.UUID, reason) }
			}
			use = append(use, x)
		}
	}
	if len(use) == 0 {
		return nil, fmt.Errorf("the CUDA driver shows no device to use: %s", cmp.Or(strings.Join(left, "; "), "it shows none at all, which CUDA_VISIBLE_DEVICES may be the reason for"))
	}
	return use, nil
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

// Open puts the model on the device that has the fewest, of those that are in use. See engine.Backend for the errors.
func (b *Backend) Open(ctx context.Context, a *engine.Artifact, _ engine.OpenOptions) (engine.Model, error) {
	e, signature, err := neo.OpenModelFile(ctx, a)
	if err != nil {
		return nil, err
	}
	t, err := layOut(e)
	if err != nil {
		return nil, err
	}
	var last error
	for _, d := range b.byLoad() {
		if err := d.use(); err != nil {
			last = d.failed(err)
			continue
		}
		m, err := newModel(e, t, signature, d)
		if err == nil {
			return m, nil
		}
		last = d.failed(and(err, d.leave()))
	}
	return nil, cmp.Or(last, fmt.Errorf("%w: there is no GPU to open it on", engine.ErrUnsupported))
}

// byLoad are the devices, those in use first and of these the ones with the fewest models.
func (b *Backend) byLoad() []*device {
	type loaded struct {
		d      *device
		out    bool
		models int
	}
	b.mu.Lock()
	all := make([]loaded, len(b.devices))
	for i, d := range b.devices {
		s := d.describe()
		all[i] = loaded{d, s.Out != "", s.Models}
	}
	b.mu.Unlock()
	slices.SortStableFunc(all, func(x, y loaded) int {
		if x.out != y.out {
			if x.out {
				return -1 // so that what it says is not the last word
			}
			return 1
		}
		return cmp.Compare(x.models, y.models)
	})
	devices := make([]*device, len(all))
	for i, l := range all {
		devices[i] = l.d
	}
	return devices
}

// Drain takes a device out of use: nothing is opened on it any more, until the process ends. Models that are on it stay until they are
// closed; Engine.Reopen moves them.
func (b *Backend) Drain(uuid, reason string) {
	for _, d := range b.byLoad() {
		if d.facts.UUID == uuid {
			d.drain(reason)
		}
	}
}

// Devices are those that Probe found.
func (b *Backend) Devices() []Device {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []Device
	for _, d := range b.devices {
		all = append(all, d.describe())
	}
	return all
}
