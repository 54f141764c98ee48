package backendtest

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Runner is one instance on a thread of its own, as the engine keeps it, with
// tensors to put rows into. It is used by the goroutine that made it.
type Runner struct {
	t         testing.TB
	instance  engine.Instance
	signature engine.Signature
	batchable bool
	// InRow and OutRow are the number of values of a row of the input and the
	// output, or of the whole tensor where the signature has no rows.
	InRow, OutRow int
}

// NewRunner makes an instance of m. The caller closes it on the same goroutine,
// which stays on its thread until then.
func NewRunner(t testing.TB, m engine.Model) *Runner {
	t.Helper()
	runtime.LockOSThread()
	i, err := m.NewInstance()
	if err != nil {
		t.Fatalf("making an instance: %v", err)
	}
	s := m.Signature()
	in, err := s.Inputs[0].RowBytes()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Outputs[0].RowBytes()
	if err != nil {
		t.Fatal(err)
	}
	return &Runner{t: t, instance: i, signature: s, batchable: s.Batchable(), InRow: in / 4, OutRow: out / 4}
}

// Close closes the instance.
func (r *Runner) Close() {
	r.t.Helper()
	if err := r.instance.Close(); err != nil {
		r.t.Errorf("closing the instance: %v", err)
	}
	runtime.UnlockOSThread()
}

// guard is how many values around the output must not change, and poison what
// the output holds before the model writes it: a NaN that no model gives.
const (
	guard  = 32
	poison = 0x7fa5a5a5
)

// Run predicts rows in one call where the signature has rows, else one by one,
// and returns the answers. It also holds every call to the promises that all
// calls make: in unchanged, all of out written, nothing beside it.
func (r *Runner) Run(rows []float32) []float32 {
	r.t.Helper()
	if r.batchable {
		return r.call(rows, 0)
	}
	var out []float32
	for at := 0; at < len(rows); at += r.InRow {
		out = append(out, r.call(rows[at:at+r.InRow], 0)...)
	}
	return out
}

// call is one call of the instance with tensors that start shift values after
// an aligned address.
func (r *Runner) call(rows []float32, shift int) []float32 {
	r.t.Helper()
	n := len(rows) / r.InRow
	in, inAll := r.tensor(r.signature.Inputs[0], n, r.InRow, shift)
	defer in.Buffer.Release()
	out, outAll := r.tensor(r.signature.Outputs[0], n, r.OutRow, shift)
	defer out.Buffer.Release()
	copy(inAll[guard+shift:], rows)
	for i := range outAll {
		outAll[i] = math.Float32frombits(poison)
	}
	if err := r.instance.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
		r.t.Fatalf("running %d rows: %v", n, err)
	}
	for i, v := range inAll[guard+shift:][:len(rows)] {
		if math.Float32bits(v) != math.Float32bits(rows[i]) {
			r.t.Fatalf("Run changed value %d of its input from %#x to %#x", i, math.Float32bits(rows[i]), math.Float32bits(v))
		}
	}
	lo, hi := guard+shift, guard+shift+n*r.OutRow
	for i, v := range outAll {
		written := math.Float32bits(v) != poison
		switch inside := i >= lo && i < hi; {
		case inside && !written:
			r.t.Fatalf("Run left value %d of %d of its output unwritten", i-lo, hi-lo)
		case !inside && written:
			r.t.Fatalf("Run wrote %d values beside its output of %d", i-lo, hi-lo)
		}
	}
	return slices.Clone(outAll[lo:hi])
}

// tensor makes a tensor of n rows with guard values around it, and shows it
// with them.
func (r *Runner) tensor(spec engine.TensorSpec, n, row, shift int) (tensor.Tensor, []float32) {
	r.t.Helper()
	total := guard + shift + n*row + guard
	shape, err := spec.Shape(n)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := tensor.Alloc(4 * total)
	if err != nil {
		r.t.Fatal(err)
	}
	whole, err := tensor.In(spec.Name, tensor.FP32, tensor.MustShape(int64(total)), b, 0)
	if err != nil {
		r.t.Fatal(err)
	}
	values, err := tensor.View[float32](whole)
	if err != nil {
		r.t.Fatal(err)
	}
	in, err := tensor.In(spec.Name, spec.DType, shape, b, 4*(guard+shift))
	if err != nil {
		r.t.Fatal(err)
	}
	return in, values
}

// near tells whether a is b, or within tolerance of it.
func near(a, b float32, tolerance float64) bool {
	return sameBits(a, b) || tolerance > 0 && math.Abs(float64(a)-float64(b)) <= tolerance
}

// sameBits compares values as a client would compare bytes.
func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }
