package cuda

import (
	"fmt"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// run is the kernels' parameter, picket_run in kernel/forest.h byte for byte.
type run struct {
	nodes, roots, words, leaves, base, groupFirst, viewColumn, viewRule cuda.Ptr
	alpha                                                               float64
	features, views, groups, trees                                      uint32
	plain, baseLast, transform, rows                                    uint32
	in, margins, out                                                    cuda.Ptr
	blockRows, lanes, rowBits, staged, stride, apart                    uint32
}

// model is an opened model file on a device, of which it counts as a user. It owns its tables; its instances only run it.
type model struct {
	device    *device
	lease     *devices.Lease // on the device
	signature engine.Signature
	head      ensemble.Ensemble // without its trees: what the transform of margins depends on
	rounds    int
	tables    *cuda.Memory
	run       run // all but the rows
	function  cuda.Function
	plain     bool
	staged    bool // blocks copy their rows to shared memory, each value once

	features, groups, outputs int
	views                     int
	valueBytes                int // of a margin: 4 or 8
	chunk                     int // rows
}

// Rows of a chunk take about so many bytes: enough for a copy of a tenth of a millisecond and more, against which starting it is nothing, and few
// enough that a request of some hundred thousand rows has several of them to overlap.
const chunkBytes = 4 << 20

// Chunks have no fewer and no more rows.
const (
	minChunk = 2048
	maxChunk = 128 << 10
)

// batchRows is how many rows can be worth being gathered: about as many as a GPU has threads for at once. How many are, the engine measures.
const batchRows = 16 << 10

// newModel puts the model's tables on the device.
func newModel(e *ensemble.Ensemble, t *tables, signature engine.Signature, d *device, l *devices.Lease) (*model, error) {
	m := &model{
		device: d, lease: l, signature: signature, head: *e, rounds: e.Rounds(),
		features: e.NumFeature, groups: e.Groups, outputs: e.Outputs(), views: len(t.views), plain: t.plain, valueBytes: 4,
	}
	m.head.Trees = nil
	name := "picket_forest"
	if t.sets {
		name += "_sets"
	}
	if e.Wide() {
		m.valueBytes = 8
		name += "_f64"
	} else {
		name += "_f32"
	}
	m.function = d.functions[name]
	m.chunk = min(maxChunk, max(minChunk, chunkBytes/(4*m.features)/threads*threads))
	shape, ok := shapeFor(d.Facts(), m.views, m.chunk, len(t.roots), m.valueBytes, m.plain)
	if m.staged = shape.staged > 0; !ok {
		return nil, fmt.Errorf("%w on a GPU: its splits look at %d columns in ways of their own, more than the shared memory of %s holds", engine.ErrUnsupported, m.views, d.Facts().Name)
	}
	data, at := t.bytes()
	var err error
	if m.tables, err = l.Pool.Alloc(at.size); err != nil {
		return nil, err
	}
	if err := m.load(data); err != nil {
		l.Pool.Free(m.tables)
		return nil, err
	}
	base := m.tables.At
	ptr := func(offset int) cuda.Ptr { return base + cuda.Ptr(offset) }
	m.run = run{
		nodes: ptr(at.nodes), roots: ptr(at.roots), words: ptr(at.words), leaves: ptr(at.leaves), base: ptr(at.base), groupFirst: ptr(at.groupFirst),
		viewColumn: ptr(at.viewColumn), viewRule: ptr(at.viewRule), alpha: e.Objective.SigmoidAlpha,
		features: uint32(m.features), views: uint32(m.views), groups: uint32(m.groups), trees: uint32(len(t.roots)),
		plain: flag(t.plain), baseLast: flag(e.BaseLast), transform: transformOf(e),
	}
	return m, nil
}

func flag(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// load copies the tables to the device. They are copied from an off-heap Buffer, as everything that C sees.
func (m *model) load(data []byte) error {
	b, err := tensor.Alloc(len(data))
	if err != nil {
		return err
	}
	defer b.Release()
	copy(b.Bytes(), data)
	s, err := m.lease.Context.NewStream()
	if err != nil {
		return err
	}
	err = s.CopyIn(m.tables.At, unsafe.Pointer(unsafe.SliceData(b.Bytes())), len(data))
	if waited := s.Synchronize(); err == nil {
		err = waited
	}
	if closed := s.Close(); err == nil {
		err = closed
	}
	return err
}

// onHost tells whether margins come back for the host to transform.
func (m *model) onHost() bool { return m.run.transform == transformHost }

// resultBytes is how many bytes come back for a row.
func (m *model) resultBytes() int {
	if m.onHost() {
		return m.valueBytes * m.groups
	}
	return 4 * m.outputs
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties says which device it is on.
func (m *model) Properties() engine.Properties {
	d := m.device.Facts()
	return engine.Properties{
		BatchRows: batchRows, Variant: fmt.Sprintf("%s, compute capability %s", d.Name, d.ComputeCapability()), Version: m.head.Version, Devices: []string{d.UUID},
	}
}

// Allocate lends pinned memory, which the device copies by itself. See engine.Allocator.
func (m *model) Allocate(n int) (*tensor.Buffer, error) { return m.lease.Pool.Pinned(n) }

// Close gives back the tables, and with the last model of a device all that is held of it. The engine has released every Buffer by then.
func (m *model) Close() error {
	m.lease.Pool.Free(m.tables)
	return m.device.leave(m.lease)
}
