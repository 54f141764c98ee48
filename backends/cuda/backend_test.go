//go:build cgo && linux

package cuda

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// withGPU is a host on which NVML has found a GPU.
var withGPU = &hw.Host{GPUs: []hw.GPU{{Name: "Fake GPU"}}}

// fake is the backend over a driver without a GPU.
func fake(t testing.TB, o devices.Options) *Backend {
	t.Helper()
	o.Library = cudatest.Library(t)
	b := New(Options{Devices: devices.New(o)})
	if err := b.Probe(withGPU); err != nil {
		t.Fatal(err)
	}
	return b
}

// onFake has the suite probe it on a host with a GPU.
type onFake struct{ *Backend }

func (onFake) Probe(*hw.Host) error { return nil }

func parse(t testing.TB, file string) (*ensemble.Ensemble, error) {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return ensemble.Parse(data, ensemble.Limits{})
}

// predictions are those of package ensemble.
func predictions(t testing.TB, e *ensemble.Ensemble, rows []float32) (all []float32) {
	t.Helper()
	out := make([]float32, e.Outputs())
	for at := 0; at < len(rows); at += e.NumFeature {
		if err := e.Predict(rows[at:at+e.NumFeature], out); err != nil {
			t.Fatal(err)
		}
		all = append(all, out...)
	}
	return all
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

func TestConformance(t *testing.T) {
	for _, name := range []string{"binary-3.2.0", "multi-softmax-1.7.6"} {
		t.Run(name, func(t *testing.T) {
			f := testkit.ModelNamed(t, name)
			e, err := parse(t, f.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			rows := testkit.Rows(300, f.Features)
			dir := testkit.Alone(t, f.Files[0])
			spec := func(name string, n int) []engine.TensorSpec {
				return []engine.TensorSpec{{Name: name, DType: tensor.FP32, Dims: []int64{-1, int64(n)}}}
			}
			backendtest.Run(t, backendtest.Case{
				Backend: onFake{fake(t, devices.Options{})}, Dir: dir, Model: "model" + filepath.Ext(f.Files[0]),
				Signature: engine.Signature{Inputs: spec("data", f.Features), Outputs: spec("output", f.Outputs)},
				Input:     rows, Expected: predictions(t, e, rows), NaNIsMissing: true, Cycles: 20,
			})
		})
	}
}

// TestTrainer holds margins against those of the library that trained the model, bit for bit, for every committed model, and
// predictions against those of package ensemble. The kernels are the GPU's, compiled for the processor.
func TestTrainer(t *testing.T) {
	b := fake(t, devices.Options{})
	read, sets, wide := 0, 0, 0
	for _, f := range testkit.Models(t) {
		for _, file := range f.Files {
			e, err := parse(t, file)
			if err != nil {
				continue // refusals are package ensemble's matter
			}
			read++
			if e.Categorical() {
				sets++
			}
			if e.Wide() {
				wide++
			}
			t.Run(file, func(t *testing.T) {
				rows := testkit.Rows(f.Rows, f.Features)
				m := backendtest.Open(t, b, testkit.Alone(t, file)).(*model)
				r := backendtest.NewRunner(t, m)
				got := r.Run(rows)
				r.Close()
				if want := predictions(t, e, rows); !slices.EqualFunc(got, want, sameBits) {
					t.Errorf("predictions are not those of package ensemble: %v, %v", got[:4], want[:4])
				}
				checkMargins(t, m, rows, f)
			})
		}
	}
	if read < 40 || sets < 2 || wide < 5 {
		t.Errorf("only %d files could be read, %d with categories, %d of LightGBM", read, sets, wide)
	}
}

// checkMargins looks at what comes back from the device before anything is made of it.
func checkMargins(t *testing.T, m *model, rows []float32, f testkit.Model) {
	m.run.transform = transformHost
	made, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer made.Close()
	i := made.(*instance)
	var want []float64
	exact := strings.HasSuffix(f.Margin, ".f64")
	if exact {
		want = testkit.ReadF64(t, f.Margin)
	} else {
		for _, v := range testkit.ReadF32(t, f.Margin) {
			want = append(want, float64(v))
		}
	}
	for at := 0; at < f.Rows; at += m.chunk {
		n := min(m.chunk, f.Rows-at)
		in, out := tensorOf(t, m, n, m.features, true), tensorOf(t, m, n, m.outputs, true)
		defer in.Buffer.Release()
		defer out.Buffer.Release()
		copy(in.Bytes(), tensor.AsBytes(rows[at*m.features:][:n*m.features]))
		if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
			t.Fatal(err)
		}
		back := unsafe.Pointer(unsafe.SliceData(i.slots[0].stageOut.Bytes()))
		for k := range n * m.groups {
			w := want[at*m.groups+k]
			var same bool
			var got float64
			if m.valueBytes == 8 {
				got = unsafe.Slice((*float64)(back), n*m.groups)[k]
			} else {
				got = float64(unsafe.Slice((*float32)(back), n*m.groups)[k])
			}
			if same = math.Float64bits(got) == math.Float64bits(w); !exact {
				same = sameBits(float32(got), float32(w))
			}
			if !same {
				t.Fatalf("margin %d is %v, the trainer says %v", at*m.groups+k, got, w)
			}
		}
	}
}

// TestBatches holds batches of all the ways in which rows are sent against package ensemble: read where they are, copied in several chunks, from
// pinned memory and from other.
func TestBatches(t *testing.T) {
	b := fake(t, devices.Options{})
	for _, name := range []string{"binary-3.2.0", "multi-softprob-3.2.0", "multi-softmax-1.7.6"} {
		t.Run(name, func(t *testing.T) {
			f := testkit.ModelNamed(t, name)
			e, err := parse(t, f.Files[0])
			if err != nil {
				t.Fatal(err)
			}
			m := backendtest.Open(t, b, testkit.Alone(t, f.Files[0])).(*model)
			m.chunk = minChunk // so that few rows are many chunks
			const most = 9000
			rows := testkit.Rows(most, f.Features)
			want := predictions(t, e, rows)
			i, err := m.NewInstance()
			if err != nil {
				t.Fatal(err)
			}
			defer i.Close()
			for _, n := range []int{1, 31, 32, 33, 500, minChunk, minChunk + 1, 2 * minChunk, 3*minChunk + 1, most} {
				for pinned := range 4 {
					in, out := tensorOf(t, m, n, f.Features, pinned&1 != 0), tensorOf(t, m, n, m.outputs, pinned&2 != 0)
					copy(in.Bytes(), tensor.AsBytes(rows[:n*f.Features]))
					if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, n); err != nil {
						t.Fatal(err)
					}
					if got, err := tensor.View[float32](out); err != nil || !slices.EqualFunc(got, want[:n*m.outputs], sameBits) {
						t.Errorf("%d rows, %b pinned: the answers differ, %v", n, pinned, err)
					}
					in.Buffer.Release()
					out.Buffer.Release()
				}
			}
		})
	}
}

func tensorOf(t testing.TB, m *model, rows, columns int, pinned bool) tensor.Tensor {
	t.Helper()
	shape := tensor.MustShape(int64(rows), int64(columns))
	if !pinned {
		x, err := tensor.New("x", tensor.FP32, shape)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	b, err := m.Allocate(4 * rows * columns)
	if err != nil {
		t.Fatal(err)
	}
	x, err := tensor.In("x", tensor.FP32, shape, b, 0)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// TestOverlap wants the next chunks to be on their way before the first is waited for, each in a stream of its own, and no more than there are
// slots.
func TestOverlap(t *testing.T) {
	f := testkit.ModelNamed(t, "binary-3.2.0")
	m := backendtest.Open(t, fake(t, devices.Options{}), testkit.Alone(t, f.Files[0])).(*model)
	m.chunk = minChunk
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, out := tensorOf(t, m, 6*minChunk, f.Features, true), tensorOf(t, m, 6*minChunk, m.outputs, true)
	defer in.Buffer.Release()
	defer out.Buffer.Release()
	clear(in.Bytes())
	read := cudatest.Log(t)
	if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 6*minChunk); err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, line := range read() {
		kind, rest, _ := strings.Cut(line, " ")
		stream, _, _ := strings.Cut(rest, " ")
		what = append(what, kind+stream)
	}
	streams := map[string]string{}
	got := strings.Join(what, " ")
	for _, w := range what {
		n := strings.TrimLeft(w, "abcdefghijklmnopqrstuvwxyz")
		if _, ok := streams[n]; !ok {
			streams[n] = string(rune('A' + len(streams)))
		}
	}
	var named []string
	for _, w := range what {
		kind := strings.TrimRight(w, "0123456789")
		named = append(named, kind+streams[strings.TrimPrefix(w, kind)])
	}
	want := "inA kernelA outA inB kernelB outB inC kernelC outC waitA inA kernelA outA waitB inB kernelB outB waitC inC kernelC outC waitA waitB waitC"
	if strings.Join(named, " ") != want {
		t.Errorf("the work was put as\n%s (%s), want\n%s", strings.Join(named, " "), got, want)
	}
}

// TestOneChunkIsNotCopied wants one call into the driver for the rows of one chunk, which the kernel reads where they are, and no allocation, neither
// there nor with several chunks.
func TestOneChunkIsNotCopied(t *testing.T) {
	f := testkit.ModelNamed(t, "binary-3.2.0")
	m := backendtest.Open(t, fake(t, devices.Options{}), testkit.Alone(t, f.Files[0])).(*model)
	m.chunk = minChunk
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	for _, n := range []int{20, minChunk + 500} {
		in, out := tensorOf(t, m, n, f.Features, true), tensorOf(t, m, n, m.outputs, true)
		clear(in.Bytes())
		ins, outs := []tensor.Tensor{in}, []tensor.Tensor{out}
		if got := testing.AllocsPerRun(20, func() {
			if err := i.Run(ins, outs, n); err != nil {
				t.Fatal(err)
			}
		}); got != 0 {
			t.Errorf("a run of %d rows allocates %v times", n, got)
		}
		if err := i.Run(ins, outs, n+1); !errors.Is(err, engine.ErrInvalidInput) {
			t.Errorf("more rows than there are: %v", err)
		}
		in.Buffer.Release()
		out.Buffer.Release()
	}
	in, out := tensorOf(t, m, 20, f.Features, true), tensorOf(t, m, 20, m.outputs, true)
	defer in.Buffer.Release()
	defer out.Buffer.Release()
	read := cudatest.Log(t)
	if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 20); err != nil {
		t.Fatal(err)
	}
	if got := read(); len(got) != 2 || !strings.HasPrefix(got[0], "kernel") || !strings.HasPrefix(got[1], "wait") {
		t.Errorf("a run of one chunk is %q", got)
	}
}

// TestProbeSaysWhyNot covers every reason for which there is no device.
func TestProbeSaysWhyNot(t *testing.T) {
	library := cudatest.Library(t)
	for name, c := range map[string]struct {
		host *hw.Host
		o    devices.Options
		set  func(t *testing.T)
		want string
	}{
		"no GPU":           {&hw.Host{GPUReason: "no NVIDIA driver is loaded"}, devices.Options{}, func(*testing.T) {}, "there is no GPU: no NVIDIA driver is loaded"},
		"no library":       {withGPU, devices.Options{Library: "/nowhere/libcuda.so.1"}, func(*testing.T) {}, "install the driver's libraries"},
		"none shown":       {withGPU, devices.Options{Library: library}, func(t *testing.T) { t.Setenv("FAKE_CUDA_DEVICES", "0") }, "CUDA_VISIBLE_DEVICES"},
		"none configured":  {withGPU, devices.Options{Library: library, Use: []string{"GPU-x"}}, func(*testing.T) {}, "is not among the configured ones"},
		"they do not tell": {withGPU, devices.Options{Library: library}, func(t *testing.T) { cudatest.Fail(t, "cuDeviceGetCount", 1, 999) }, "counting devices"},
	} {
		t.Run(name, func(t *testing.T) {
			c.set(t)
			if err := New(Options{Devices: devices.New(c.o)}).Probe(c.host); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Probe gives %v, want %q", err, c.want)
			}
		})
	}
}

// TestShapes wants every division of work to fit what the device has, and to have a thread for every row.
func TestShapes(t *testing.T) {
	b := fake(t, devices.Options{})
	facts := b.set.All()[0].Facts()
	for _, views := range []int{1, 30, 31, 200, 1000, 3000, 12000} {
		for _, rows := range []int{1, 32, 2048, 100000} {
			for _, value := range []int{4, 8} {
				for _, plain := range []bool{true, false} {
					s, ok := shapeFor(facts, views, rows, 500, value, plain)
					if !ok {
						if plain || shapeOf(maxLanes, views, value).shared <= facts.Shared {
							t.Errorf("%d columns have no shape", views)
						}
						continue
					}
					if s.blockRows*s.lanes != threads || s.shared > facts.Shared || s.blocks(rows)*s.blockRows < rows || !plain && s.staged == 0 {
						t.Errorf("%d columns, %d rows, plain %v: %+v", views, rows, plain, s)
					}
				}
			}
		}
	}
	facts.Shared = 227 << 10 // of an H100
	facts.Processors = 132
	for rows, want := range map[int]int{32: maxLanes, 1024: 64, 4096: 32, 16384: 16, 65536: 8, 3 << 15: 4, 1 << 23: 1} {
		if s, _ := shapeFor(facts, 30, rows, 500, 4, true); s.lanes != want || s.staged == 0 {
			t.Errorf("%d rows have %d lanes", rows, s.lanes)
		}
	}
	if s, _ := shapeFor(facts, 30, 32, 9, 4, true); s.lanes != 4 {
		t.Errorf("9 trees have %d lanes", s.lanes)
	}
}

// TestUnsupported refuses what the tables cannot hold, by name.
func TestUnsupported(t *testing.T) {
	tree := func(nodes int) ensemble.Tree {
		t := ensemble.Tree{Scale: 1}
		for i := range nodes / 2 {
			t.Nodes = append(t.Nodes, ensemble.Node{Op: ensemble.Less, Value: 1, Left: int32(2*i + 1), Right: int32(2*i + 2), Set: -1})
		}
		for len(t.Nodes) < nodes {
			t.Nodes = append(t.Nodes, ensemble.Node{Left: -1, Right: -1, Set: -1})
		}
		return t
	}
	e := &ensemble.Ensemble{Library: ensemble.XGBoost, NumFeature: 1, Groups: 1, BaseMargin: []float32{0}, Trees: []ensemble.Tree{tree(65535)}}
	if _, err := layOut(e); err != nil {
		t.Errorf("a tree of 65535 nodes: %v", err)
	}
	e.Trees[0] = tree(65537)
	if _, err := layOut(e); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "has more than 65535 nodes") {
		t.Errorf("a tree of 65537 nodes: %v", err)
	}
	e.NumFeature, e.Trees = 20000, []ensemble.Tree{tree(3)}
	if l, err := layOut(e); err != nil || len(l.views) != 1 {
		t.Errorf("20000 columns of which one is looked at: %v", err)
	}
	for c := range 17000 {
		x := tree(3)
		x.Nodes[0].Feature = int32(c)
		e.Trees = append(e.Trees, x)
	}
	if _, err := layOut(e); !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "the limit is 16383") {
		t.Errorf("17000 columns: %v", err)
	}
}
