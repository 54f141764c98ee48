package onnx

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/tensor"
)

// opening is one Open on its way from a file in memory to a model.
type opening struct {
	ctx     context.Context
	library *library
	content *content
	name    string // of the model's file
	options engine.OpenOptions
	place   place
	lease   *devices.Lease // of the GPU; nil elsewhere
	memory  int64          // the most that may be taken of a GPU, in bytes; 0 for no limit
	// What compiled.meta says, and whether it is of another model beside this one.
	metadata neo.Metadata
	beside   bool

	session *session
	in, out []engine.TensorSpec
	rows    bool // the session's tensors have rows, whose number varies
	batch   int  // the session's number of rows where it is fixed and rows can be told apart
	apart   bool // rows do not depend on each other
}

const (
	// pooledBytes is the size from which a model is given threads without trying whether it needs them: loading it twice
	// would take longer, and so many weights are not read in less than poolTime.
	pooledBytes = 16 << 20
	// poolTime is how long one row has to take for more threads to be worth waking up. They do not spin, so that waking
	// them takes some ten microseconds for every operator.
	poolTime = time.Millisecond
	// inlineTime is the longest row that is run on the thread that brought the request: about what handing it to another
	// thread costs.
	inlineTime = 50 * time.Microsecond
	// timingTime bounds the runs that are timed.
	timingTime, timingRuns = 5 * time.Millisecond, 50
)

// model loads the model and finds out what it takes, gives and costs. The errors are Open's.
func (o *opening) model() (_ *model, err error) {
	pooled := o.options.Threads > 1 && o.content.bytes >= pooledBytes
	if err := o.load(pooled); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil { // there is no session while another is loaded
			o.session.end(o.lease)
		}
	}()
	if err := o.learn(); err != nil {
		return nil, err
	}
	took, err := o.time()
	if err != nil {
		return nil, err
	}
	if !pooled && o.place.provider == cpu && o.options.Threads > 1 && took > poolTime {
		o.session.close()
		o.session = nil
		if err := o.load(true); err != nil {
			return nil, err
		}
	}
	m := &model{session: o.session, signature: engine.Signature{Inputs: o.in, Outputs: o.out}, batch: o.batch, lease: o.lease}
	m.properties = engine.Properties{
		Inline:   o.place.provider == cpu && took <= inlineTime,
		Anywhere: o.place.provider == cpu,
		MaxRows:  maxRows, BatchRows: o.batch,
		Variant: fmt.Sprintf("ONNX Runtime %s, %s", o.library.version, o.place),
	}
	if o.lease != nil {
		m.properties.Devices = []string{o.lease.Facts().UUID}
		m.properties.Instances = gpuInstances
		m.properties.BatchRows = cmp.Or(o.batch, maxRows)
	}
	if o.content.facts.version > 0 {
		m.properties.Version = fmt.Sprint(o.content.facts.version)
	}
	if o.rows && !o.apart {
		m.properties.BatchRows = 1
		m.properties.Notes = append(m.properties.Notes, engine.Note{Level: slog.LevelWarn,
			Text: "the answer to a row depends on the rows beside it, so requests are not run together unless max_batch_rows asks for it"})
	}
	return m, nil
}

// gpuInstances is how many instances have a GPU compute while rows and answers of others are copied, each on a stream of its own.
const gpuInstances = 2

// maxRows bounds one run, whose intermediate results may take thousands of times what its rows do.
const maxRows = 1024

// load makes the session: with one thread, or with as many as the engine gives the model.
func (o *opening) load(pooled bool) (err error) {
	if err := o.ctx.Err(); err != nil {
		return err
	}
	s := sessionOptions{threads: 1, variable: o.content.facts.open, place: o.place, memory: o.memory}
	if pooled {
		s.threads = o.options.Threads
		if o.options.Bind == nil && s.threads >= poolSize(o.options.Host) {
			s.threads = 0
		}
	}
	o.session = nil
	make := func() { o.session, err = o.library.newSession(o.content.data, o.content.weights, s) }
	if o.options.Bind != nil {
		// Threads that the library starts keep to the CPUs of the one that starts them.
		o.options.Bind(make)
	} else {
		make()
	}
	if err == nil {
		return nil
	}
	text := err.Error()
	kind := engine.ErrArtifact
	switch {
	case outOfMemory(err):
		kind = engine.ErrMemory
	case o.place.provider != cpu:
		return fmt.Errorf("%w: provider %s of ONNX Runtime %s: %s: %w", engine.ErrHost, o.place, o.library.version, o.name, o.lostBy(err))
	case slices.ContainsFunc(newer, func(words string) bool { return strings.Contains(text, words) }):
		kind = engine.ErrUnsupported
	}
	return fmt.Errorf("%w: ONNX Runtime %s refuses %s: %w", kind, o.library.version, o.name, err)
}

// newer are the library's words for what it lacks, as an older one does of newer models.
var newer = []string{"Unsupported model IR version", "ONNX Runtime only *guarantees* support", "is under development", "No Op registered for",
	"is not a registered function/op", "is not currently registered or supported", "Could not find an implementation"}

// learn finds the shapes of what comes out, and what is rows.
func (o *opening) learn() (err error) {
	if o.in, err = o.specs("input", o.session.inputs); err != nil {
		return err
	}
	if o.content.facts.shapeless {
		return fmt.Errorf("%w: %s: an input tells nothing of its shape; export the model with it", engine.ErrUnsupported, o.name)
	}
	if o.out, err = o.specs("output", o.session.outputs); err != nil {
		return err
	}
	o.rows = slices.ContainsFunc(o.in, func(s engine.TensorSpec) bool { return s.HasRows() })
	c, err := o.session.newCall()
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	defer c.close()
	one, err := o.try(c, 1)
	if err != nil {
		return err
	}
	several := one
	if o.rows {
		if several, err = o.try(c, triedRows); err != nil {
			return err
		}
	}
	for i := range o.out {
		if err := o.shape(&o.out[i], one[i], several[i]); err != nil {
			return err
		}
	}
	if o.rows {
		o.apart, err = o.together(c)
		return err
	}
	return o.fixed(c)
}

// triedRows is the second number of rows that a model is tried with: no power of two, and no multiple of what is fixed.
const triedRows = 3

// specs takes what the library says of inputs or outputs. Dimensions of outputs that the model does not tell are -1 still.
func (o *opening) specs(role string, values []value) ([]engine.TensorSpec, error) {
	specs := make([]engine.TensorSpec, len(values))
	for i, v := range values {
		dtype, known := elements[v.element]
		switch {
		case !v.tensor:
			return nil, fmt.Errorf("%w: %s: %s %q is no tensor but a sequence or a map, which no client could be sent; export the model without it (skl2onnx and onnxmltools: zipmap=False)",
				engine.ErrUnsupported, o.name, role, v.name)
		case v.element == elementText:
			return nil, fmt.Errorf("%w: %s: %s %q is texts, which are not supported; export the model with numbers in their place", engine.ErrUnsupported, o.name, role, v.name)
		case !known:
			return nil, fmt.Errorf("%w: %s: %s %q is of element type %d of ONNX, which is not supported", engine.ErrUnsupported, o.name, role, v.name, v.element)
		case v.rank > tensor.MaxRank:
			return nil, fmt.Errorf("%w: %s: %s %q has %d dimensions, the limit is %d", engine.ErrUnsupported, o.name, role, v.name, v.rank, tensor.MaxRank)
		}
		specs[i] = engine.TensorSpec{Name: v.name, DType: dtype, Dims: slices.Clone(v.dims)}
		if role != "input" {
			continue
		}
		for j, d := range v.dims {
			if j > 0 && d < 0 {
				return nil, fmt.Errorf("%w: %s: dimension %d of input %q is left open; only the first, which is rows, may be: export the model with a fixed size there",
					engine.ErrUnsupported, o.name, j, v.name)
			}
			if d == 0 || d < engine.Variable {
				return nil, fmt.Errorf("%w: %s: dimension %d of input %q is %d", engine.ErrArtifact, o.name, j, v.name, d)
			}
		}
	}
	if len(specs) == 0 {
		return nil, fmt.Errorf("%w: %s has no %s", engine.ErrUnsupported, o.name, role)
	}
	return specs, nil
}

// inputs are made-up tensors of that many rows, which the caller releases.
func (o *opening) inputs(rows int) ([]tensor.Tensor, error) {
	in, err := newTensors(o.in, rows)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", engine.ErrMemory, o.name, err)
	}
	random := rand.New(rand.NewPCG(uint64(rows), 1))
	for _, t := range in {
		makeUp(t, random)
	}
	return in, nil
}

// makeUp fills t with numbers that a model has no reason to treat specially; whole ones are 0 and 1, because they may be
// indices into tables of any size.
func makeUp(t tensor.Tensor, random *rand.Rand) {
	b, size := t.Bytes(), t.DType.Size()
	clear(b)
	for at := 0; at < len(b); at += size {
		x := random.NormFloat64()
		switch t.DType {
		case tensor.FP32:
			binary.LittleEndian.PutUint32(b[at:], math.Float32bits(float32(x)))
		case tensor.FP64:
			binary.LittleEndian.PutUint64(b[at:], math.Float64bits(x))
		case tensor.BF16:
			binary.LittleEndian.PutUint16(b[at:], uint16(math.Float32bits(float32(x))>>16))
		case tensor.FP16: // from 0.5 up to 2, of either sign
			binary.LittleEndian.PutUint16(b[at:], uint16(random.Uint32())&0x8000|0x3800+uint16(random.Uint32N(0x800)))
		default:
			b[at] = byte(random.Uint32N(2))
		}
	}
}

// try runs that many made-up rows and tells what comes out.
func (o *opening) try(c *call, rows int) ([]value, error) {
	if err := o.ctx.Err(); err != nil {
		return nil, err
	}
	in, err := o.inputs(rows)
	if err != nil {
		return nil, err
	}
	defer releaseAll(in)
	out, err := c.try(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: ONNX Runtime cannot run %d made-up rows: %w", o.runKind(err), o.name, rows, o.lostBy(err))
	}
	return out, nil
}

// shape fills in what the model does not tell of an output, from what came of one row and of several. Where both have the
// same size there are no rows in it.
func (o *opening) shape(spec *engine.TensorSpec, one, several value) error {
	dtype, known := elements[one.element]
	if !one.tensor || !known || dtype != spec.DType {
		return fmt.Errorf("%w: %s: output %q came out as something else than the model says", engine.ErrUnsupported, o.name, spec.Name)
	}
	if one.rank != several.rank || one.rank > tensor.MaxRank || len(spec.Dims) > 0 && len(spec.Dims) != one.rank {
		return fmt.Errorf("%w: %s: output %q has %d dimensions for one row, %d for %d", engine.ErrUnsupported, o.name, spec.Name, one.rank, several.rank, triedRows)
	}
	dims := slices.Clone(one.dims)
	for i, d := range one.dims {
		switch {
		case i == 0 && o.rows && d == 1 && several.dims[0] == triedRows:
			dims[0] = engine.Variable
		case d != several.dims[i]:
			return fmt.Errorf("%w: %s: the size of output %q depends on more than the number of rows: it is %v for one, %v for %d",
				engine.ErrUnsupported, o.name, spec.Name, one.dims, several.dims, triedRows)
		case d == 0:
			return fmt.Errorf("%w: %s: output %q comes out empty, as its size depends on the numbers that go in", engine.ErrUnsupported, o.name, spec.Name)
		}
	}
	spec.Dims = dims
	return nil
}

// together tells whether rows that are run together answer as each does alone.
func (o *opening) together(c *call) (bool, error) {
	s := engine.Signature{Inputs: o.in, Outputs: o.out}
	if !s.Batchable() {
		return true, nil // they never are
	}
	in, err := o.inputs(triedRows)
	if err != nil {
		return false, err
	}
	defer releaseAll(in)
	all, err := newTensors(o.out, triedRows)
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", engine.ErrMemory, o.name, err)
	}
	defer releaseAll(all)
	alone, err := newTensors(o.out, triedRows)
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", engine.ErrMemory, o.name, err)
	}
	defer releaseAll(alone)
	err = c.run(in, all, false)
	for row := 0; row < triedRows && err == nil; row++ {
		err = c.run(rowsOf(in, row, row+1), rowsOf(alone, row, row+1), false)
	}
	if err != nil {
		return false, fmt.Errorf("%w: %s: ONNX Runtime cannot run made-up rows: %w", o.runKind(err), o.name, o.lostBy(err))
	}
	return alike(all, alone), nil
}

// fixed looks whether a fixed first dimension, the same everywhere, is rows: whether what goes in shifted comes out shifted.
// Then it becomes rows, of which any number can be asked for.
func (o *opening) fixed(c *call) error {
	n := int64(0)
	for _, side := range [][]engine.TensorSpec{o.in, o.out} {
		for _, s := range side {
			if len(s.Dims) == 0 || n > 0 && s.Dims[0] != n || s.Dims[0] > maxRows {
				return nil
			}
			n = s.Dims[0]
		}
	}
	if slices.ContainsFunc(o.in, func(s engine.TensorSpec) bool { return len(s.Dims) < 2 }) {
		return nil // a vector is one thing as a rule
	}
	if n > 1 {
		shifts, err := o.shifts(c, int(n))
		if err != nil || !shifts {
			return err
		}
	}
	for _, side := range [][]engine.TensorSpec{o.in, o.out} {
		for i := range side {
			side[i].Dims[0] = engine.Variable
		}
	}
	o.batch, o.apart = int(n), true
	return nil
}

// shifts runs n made-up rows, and the same with each row in the next one's place and the first one new.
func (o *opening) shifts(c *call, n int) (bool, error) {
	var sets [4][]tensor.Tensor // in, out, and both shifted
	defer func() {
		for _, s := range sets {
			releaseAll(s)
		}
	}()
	var err error
	for i := range sets {
		specs := o.in
		if i%2 == 1 {
			specs = o.out
		}
		if sets[i], err = newTensors(specs, n); err != nil {
			return false, fmt.Errorf("%w: %s: %w", engine.ErrMemory, o.name, err)
		}
	}
	random := rand.New(rand.NewPCG(uint64(n), 2))
	for i, t := range sets[0] {
		makeUp(t, random)
		makeUp(sets[2][i], random)
		copy(sets[2][i].Rows(1, n).Bytes(), t.Rows(0, n-1).Bytes())
	}
	for i := 0; i < len(sets); i += 2 {
		if err := c.run(sets[i], sets[i+1], false); err != nil {
			return false, fmt.Errorf("%w: %s: ONNX Runtime cannot run made-up rows: %w", o.runKind(err), o.name, o.lostBy(err))
		}
	}
	return alike(rowsOf(sets[1], 0, n-1), rowsOf(sets[3], 1, n)), nil
}

func rowsOf(tensors []tensor.Tensor, lo, hi int) []tensor.Tensor {
	part := make([]tensor.Tensor, len(tensors))
	for i, t := range tensors {
		part[i] = t.Rows(lo, hi)
	}
	return part
}

// alike tells whether answers differ by no more than the order in which sums are added up explains. Whole numbers are equal
// or not alike, and so are NaN and infinities.
func alike(a, b []tensor.Tensor) bool {
	for i := range a {
		x, y, size := a[i].Bytes(), b[i].Bytes(), a[i].DType.Size()
		largest := 0.0
		for at := 0; at < len(x); at += size {
			if n := math.Abs(number(a[i].DType, x[at:])); !math.IsInf(n, 0) && n > largest { // nor NaN
				largest = n
			}
		}
		for at := 0; at < len(x); at += size {
			p, q := number(a[i].DType, x[at:]), number(b[i].DType, y[at:])
			same := p == q || math.IsNaN(p) && math.IsNaN(q)
			if !same && !(math.Abs(p-q) <= likeness(a[i].DType)*largest) { // of a NaN nothing is true
				return false
			}
		}
	}
	return true
}

func likeness(d tensor.DType) float64 {
	switch d {
	case tensor.FP32, tensor.FP64:
		return 1e-3
	case tensor.FP16, tensor.BF16:
		return 5e-2
	}
	return 0
}

// number is the first element of b, as far as it matters to how alike two are.
func number(d tensor.DType, b []byte) float64 {
	switch d {
	case tensor.FP32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case tensor.FP64:
		return math.Float64frombits(binary.LittleEndian.Uint64(b))
	case tensor.BF16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))
	case tensor.FP16:
		bits := binary.LittleEndian.Uint16(b)
		exponent, fraction := int(bits>>10&0x1f), float64(bits&0x3ff)
		x := math.Ldexp(1024+fraction, exponent-25)
		switch {
		case exponent == 0:
			x = math.Ldexp(fraction, -24)
		case exponent == 0x1f && fraction != 0:
			x = math.NaN()
		case exponent == 0x1f:
			x = math.Inf(1)
		}
		if bits>>15 != 0 {
			return -x
		}
		return x
	}
	var whole [8]byte
	copy(whole[:], b[:d.Size()])
	return float64(binary.LittleEndian.Uint64(whole[:]))
}

// time is how long one run takes, of one row or of the batch that is fixed, the shortest of some.
func (o *opening) time() (time.Duration, error) {
	c, err := o.session.newCall()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	defer c.close()
	rows := max(1, o.batch)
	in, err := o.inputs(rows)
	if err != nil {
		return 0, err
	}
	defer releaseAll(in)
	out, err := newTensors(o.out, rows)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", engine.ErrMemory, o.name, err)
	}
	defer releaseAll(out)
	best := time.Duration(math.MaxInt64)
	began := time.Now()
	for i := 0; i < timingRuns && time.Since(began) < timingTime; i++ {
		start := time.Now()
		if err := c.run(in, out, false); err != nil {
			return 0, fmt.Errorf("%w: %s: ONNX Runtime cannot run made-up rows: %w", o.runKind(err), o.name, o.lostBy(err))
		}
		best = min(best, time.Since(start))
	}
	return best, nil
}
