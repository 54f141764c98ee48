//go:build cgo && linux

// Command onnx measures backends/onnx against ONNX Runtime's own C API on the same networks, and what the lane adds. JSON goes
// to standard output.
//
// A call is everything from rows in memory to answers in memory. The C API is called from C as its examples do: a tensor is laid over
// the rows, Run makes the output, and only the library's own calls are timed. The backend is called from Go, as the engine does: rows
// are copied into a Buffer that comes back from call to call, which is in its time, and answers are written into another. Over the lane, a client in this process
// asks picketd over a socket, or in a ring, and waits for the answer. All have one thread and take turns.
//
// Whoever asks another process cannot have the C API's time, whatever that process does. So the least that it takes is measured in the same turns: the C API in a
// process of its own, asked from C over a socket of the lane's kind, whose bytes it reads into the same memory each time, and through memory that both have mapped,
// where nothing is copied on its side; and the socket without the network, which answers at once.
//
// With -cuda all run on the first GPU. The C API is given ordinary memory there, as its examples do, and, a second time, rows that lie in pinned
// memory already; so is the backend, and answers in the memory that it asks for, which servers read requests into and write answers from.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

const (
	testRows = 256
	// What is promised: the backend is as good as the C API, and the lane disappears behind some pictures, on a socket and in a ring.
	mostBackend, mostLane = 1.05, 1.05
)

// The ways to run a network that are measured.
const (
	inC           = "C API"
	backend       = "onnx"
	overLane      = "lane"
	inRing        = "ring"
	behindSocket  = "C API behind a socket"
	behindMemory  = "C API behind shared memory"
	emptySocket   = "empty socket"
	pinnedAPI     = "C API, pinned" // on a GPU, from rows in pinned memory
	pinnedBackend = "onnx, pinned"
)

// setting is where the networks run.
type setting struct {
	library  string
	peer     native.Kind
	provider string
	rows     []int  // of a call
	picketd  string // the daemon's program; empty on a GPU, where the lane is not measured
	host     *hw.Host
	gpus     *devices.Set
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveRemote {
		if err := serve(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	library := flag.String("library", models.ONNXRuntime(), "the libonnxruntime.so to measure")
	rows := flag.String("rows", "", "the rows of a call, such as 16,64; by default 1,16,64, and 1,16,256 on a GPU")
	onGPU := flag.Bool("cuda", false, "run on the first GPU; -library is to be a build with CUDA, as in the wheel onnxruntime-gpu")
	program.Main("bench-onnx", func(ctx context.Context) error {
		s := setting{library: *library, peer: native.ONNXRuntime, provider: "cpu", rows: []int{1, 16, 64}, host: hw.Detect(ctx, hw.Options{NoGPU: !*onGPU, NoIMDS: true}), gpus: devices.New(devices.Options{})}
		if *onGPU {
			s.peer, s.provider, s.rows = native.ONNXRuntimeCUDA, "cuda:0", []int{1, 16, 256}
		}
		if *rows != "" {
			s.rows = s.rows[:0]
			for _, text := range strings.Split(*rows, ",") {
				n, err := strconv.Atoi(text)
				if err != nil || n < 1 || n > testRows {
					return fmt.Errorf("-rows %s: %q is not a number from 1 to %d", *rows, text, testRows)
				}
				s.rows = append(s.rows, n)
			}
		}
		return run(ctx, s)
	})
}

func run(ctx context.Context, s setting) error {
	dir, err := os.MkdirTemp("", "bench-onnx")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	if s.provider == "cpu" {
		if s.picketd, err = versus.BuildDaemon(ctx, dir); err != nil {
			return err
		}
	}
	out := report.New()
	var results []report.Kernel
	for i, n := range []*network{tabular(), vision(), mean()} {
		folder := filepath.Join(dir, strconv.Itoa(i))
		if err := n.write(folder); err != nil {
			return err
		}
		measured, err := measure(ctx, s, folder, n, out)
		if err != nil {
			return fmt.Errorf("measuring %s: %w", n.name, err)
		}
		results = append(results, measured...)
	}
	out.Results = results
	return out.Write()
}

// folders is the engine's source: folders by their path.
type folders struct{}

func (folders) Open(_ context.Context, dir string) (*engine.Artifact, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the artifact: %w", err)
	}
	return engine.NewArtifact(dir, root)
}

// opened is an instance of the network, with tensors for its input and its output where it wants them.
type opened struct {
	instance engine.Instance
	in, out  tensor.Tensor
	model    engine.Model
}

// open opens the network with the backend, with tensors of these shapes. The caller closes it.
func open(ctx context.Context, s setting, backend *onnx.Backend, folder string, input, output tensor.Shape) (o *opened, err error) {
	a, err := folders{}.Open(ctx, folder)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	o = &opened{}
	if o.model, err = backend.Open(ctx, a, engine.OpenOptions{Host: s.host, Threads: 1, Provider: s.provider}); err != nil {
		return nil, err
	}
	if o.in, err = o.room("input", input); err == nil {
		o.out, err = o.room("output", output)
	}
	if err == nil {
		o.instance, err = o.model.NewInstance()
	}
	if err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// room is a tensor in the memory that the model asks for.
func (o *opened) room(name string, shape tensor.Shape) (tensor.Tensor, error) {
	n, err := shape.ByteSize(tensor.FP32)
	if err != nil {
		return tensor.Tensor{}, err
	}
	memory := tensor.Alloc
	if own, is := o.model.(engine.Allocator); is {
		memory = own.Allocate
	}
	b, err := memory(n)
	if err != nil {
		return tensor.Tensor{}, err
	}
	t, err := tensor.In(name, tensor.FP32, shape, b, 0)
	if err != nil {
		b.Release()
	}
	return t, err
}

func (o *opened) close() (err error) {
	if o.instance != nil {
		err = o.instance.Close()
	}
	o.in.Buffer.Release()
	o.out.Buffer.Release()
	return errors.Join(err, o.model.Close())
}

// measured is one network in all the ways in which it is measured.
type measured struct {
	subjects []interleave.Subject
	failed   error // of a call of one of them
	stops    []func() error
}

// stop ends it, the last that was started first.
func (m *measured) stop() (err error) {
	for _, stop := range slices.Backward(m.stops) {
		err = errors.Join(err, stop())
	}
	return err
}

// start makes the subjects and has them answer the same. After an error nothing is left.
func start(ctx context.Context, s setting, folder string, n *network) (m *measured, err error) {
	m = &measured{}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.stop())
			m = nil
		}
	}()
	shape := tensor.MustShape(append([]int64{testRows}, n.input...)...)
	rows, err := tensor.New("input", tensor.FP32, shape)
	if err != nil {
		return m, err
	}
	release := func(t tensor.Tensor) {
		m.stops = append(m.stops, func() error { t.Buffer.Release(); return nil })
	}
	release(rows)
	random := rand.New(rand.NewPCG(3, 4))
	values, err := tensor.View[float32](rows)
	if err != nil {
		return m, err
	}
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	var answers [7]tensor.Tensor
	for i := range answers {
		if answers[i], err = tensor.New("output", tensor.FP32, tensor.MustShape(testRows, n.outputs)); err != nil {
			return m, err
		}
		release(answers[i])
	}
	task := native.Task{Library: s.library, Model: modelIn(folder), Features: rows.Size() / 4 / testRows, Outputs: int(n.outputs), Threads: 1}
	peer, err := native.OpenPeer(s.peer, task)
	if err != nil {
		return m, fmt.Errorf("%w (make fixtures fetches the library for the processor)", err)
	}
	m.stops = append(m.stops, peer.Close)
	ours := onnx.New(onnx.Options{LibraryPath: s.library, GPUs: s.gpus})
	m.stops = append(m.stops, ours.Close)
	own, err := open(ctx, s, ours, filepath.Dir(task.Model), shape, tensor.MustShape(testRows, n.outputs))
	if err != nil {
		return m, err
	}
	m.stops = append(m.stops, own.close)
	note := m.note
	in, given := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
	m.subjects = []interleave.Subject{
		{Name: inC, Run: func(from, count int) time.Duration {
			took, err := peer.Run(rows.Rows(from, from+count), tensor.Tensor{}, answers[0].Rows(from, from+count))
			note(err)
			return took
		}},
		{Name: backend, Run: func(from, count int) time.Duration {
			in[0], given[0] = own.in.Rows(0, count), answers[1].Rows(0, count)
			copy(in[0].Bytes(), rows.Rows(from, from+count).Bytes())
			note(own.instance.Run(in, given, count))
			return 0
		}},
	}
	if s.provider == "cpu" {
		if err := m.startApart(ctx, s, folder, task, rows, answers[2:]); err != nil {
			return m, err
		}
	} else {
		// The rows are there before the clock starts.
		there := func(from, count int) tensor.Tensor {
			t := own.in.Rows(0, count)
			copy(t.Bytes(), rows.Rows(from, from+count).Bytes())
			return t
		}
		m.subjects = append(m.subjects, interleave.Subject{Name: pinnedAPI, Run: func(from, count int) time.Duration {
			took, err := peer.Run(there(from, count), tensor.Tensor{}, answers[2].Rows(from, from+count))
			note(err)
			return took
		}}, interleave.Subject{Name: pinnedBackend, Run: func(from, count int) time.Duration {
			in[0], given[0] = there(from, count), own.out.Rows(0, count)
			start := time.Now()
			note(own.instance.Run(in, given, count))
			took := time.Since(start)
			copy(answers[3].Rows(from, from+count).Bytes(), given[0].Bytes())
			return took
		}})
	}
	for _, s := range m.subjects {
		s.Run(0, testRows)
	}
	if m.failed != nil {
		return m, m.failed
	}
	for i, subject := range m.subjects[1:] {
		if subject.Name == emptySocket {
			continue
		}
		if err := same(answers[i+1], answers[0], s.provider == "cpu"); err != nil {
			return m, fmt.Errorf("the answers of %s differ from those of the C API: %w", subject.Name, err)
		}
	}
	return m, nil
}

// startApart adds the subjects that run the network in another process, and leaves their answers one after the other.
func (m *measured) startApart(ctx context.Context, s setting, folder string, task native.Task, rows tensor.Tensor, answers []tensor.Tensor) error {
	onSocket, ring, stop, err := daemon(ctx, s, folder)
	if stop != nil {
		m.stops = append(m.stops, stop)
	}
	if err != nil {
		return err
	}
	api, stop, err := remote(ctx, folder, task)
	if err != nil {
		return err
	}
	m.stops = append(m.stops, stop)
	over := func(name string, model *lane.Model, answers tensor.Tensor) interleave.Subject {
		sent, received := make([][]byte, 1), make([][]byte, 1)
		return interleave.Subject{Name: name, Run: func(from, count int) time.Duration {
			sent[0], received[0] = rows.Rows(from, from+count).Bytes(), answers.Rows(from, from+count).Bytes()
			m.note(model.PredictInto(ctx, count, sent, received))
			return 0
		}}
	}
	behind := func(name string, way native.Way, run bool, answers tensor.Tensor) interleave.Subject {
		return interleave.Subject{Name: name, Run: func(from, count int) time.Duration {
			took, err := api.Ask(way, rows.Rows(from, from+count), run, answers.Rows(from, from+count))
			m.note(err)
			return took
		}}
	}
	m.subjects = append(m.subjects,
		over(overLane, onSocket, answers[0]),
		over(inRing, ring, answers[1]),
		behind(behindSocket, native.OverSocket, true, answers[2]),
		behind(behindMemory, native.ThroughMemory, true, answers[3]),
		behind(emptySocket, native.OverSocket, false, answers[4]),
	)
	return nil
}

// note keeps an error of a call.
func (m *measured) note(err error) {
	if err != nil {
		m.failed = err
	}
}

// same compares answers: bit for bit, or within what the choice of an algorithm for a GPU changes.
func same(a, b tensor.Tensor, exact bool) error {
	x, err := tensor.View[float32](a)
	if err != nil {
		return err
	}
	y, err := tensor.View[float32](b)
	if err != nil {
		return err
	}
	for i := range x {
		if exact && math.Float32bits(x[i]) != math.Float32bits(y[i]) || !(math.Abs(float64(x[i]-y[i])) <= 1e-3*max(1, math.Abs(float64(y[i])))) { // nor NaN
			return fmt.Errorf("number %d is %v, not %v", i, x[i], y[i])
		}
	}
	return nil
}

func measure(ctx context.Context, s setting, folder string, n *network, out *report.Report) (results []report.Kernel, err error) {
	m, err := start(ctx, s, folder, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.stop()) }()
	for _, count := range s.rows {
		plan := interleave.Plan{TestRows: testRows, Rows: count, Rounds: 15, Turn: 40 * time.Millisecond, Calls: 300 + 2000/count, Seed: 1, Budget: 3 * time.Second}
		for _, c := range interleave.Conditions() {
			us := make(map[string]float64, len(m.subjects)) // a row, by subject
			for i, d := range c.Measure(m.subjects, plan) {
				name := m.subjects[i].Name
				us[name] = float64(d.Nanoseconds()) / 1e3 / float64(count)
				results = append(results, report.Kernel{Model: n.name, Engine: name, Condition: c.Name, Rows: count, Cores: 1, USPerRow: us[name]})
			}
			where := fmt.Sprintf("%s, %d rows, %s", n.name, count, c.Name)
			if s.provider == "cpu" {
				tell(out, n, where, count, us)
			} else if !n.idle { // whose copy of the rows is all
				tellGPU(out, where, us)
			}
		}
	}
	return results, m.failed
}

// times is a ratio as it is told.
func times(us, of float64) float64 { return math.Round(1000*us/of) / 1000 }

// tell tells what a condition comes to, in microseconds a row, of a network on the processor.
func tell(out *report.Report, n *network, where string, count int, us map[string]float64) {
	ratio := fmt.Sprintf("to ONNX Runtime's C API, %s (%.2f us a row)", where, us[inC])
	if !n.idle {
		out.Promise("onnx "+ratio, times(us[backend], us[inC]), "ratio", mostBackend)
	}
	if !n.idle && n.large() && count > 1 {
		out.Promise("over the lane's socket "+ratio, times(us[overLane], us[inC]), "ratio", mostLane)
		out.Promise("in the lane's ring "+ratio, times(us[inRing], us[inC]), "ratio", mostLane)
		for _, floor := range []string{behindSocket, behindMemory} {
			out.Tell(floor+" "+ratio, times(us[floor], us[inC]), "ratio")
		}
		out.Tell("over the lane's socket to the C API behind a socket, "+where, times(us[overLane], us[behindSocket]), "ratio")
		out.Tell("in the lane's ring to the C API behind shared memory, "+where, times(us[inRing], us[behindMemory]), "ratio")
	}
	for _, way := range []struct {
		name string
		us   float64
	}{
		{"what the lane's socket adds to a call", us[overLane] - us[backend]},
		{"what the lane's ring adds to a call", us[inRing] - us[backend]},
		{"what a socket adds to the C API", us[behindSocket] - us[inC]},
		{"what shared memory adds to the C API", us[behindMemory] - us[inC]},
		{"an empty call over a socket", us[emptySocket]},
	} {
		out.Tell(way.name+", "+where, float64(count)*way.us, "us")
	}
}

// tellGPU tells the same of a network on a GPU.
func tellGPU(out *report.Report, where string, us map[string]float64) {
	ratio := fmt.Sprintf("to ONNX Runtime's C API, on a GPU, %s (%.2f us a row)", where, us[inC])
	out.Promise("onnx, both from pinned memory, "+ratio, times(us[pinnedBackend], us[pinnedAPI]), "ratio", mostBackend)
	out.Tell("onnx, from pinned memory against ordinary memory, "+ratio, times(us[pinnedBackend], us[inC]), "ratio")
	out.Tell("onnx, copying from ordinary memory to pinned, "+ratio, times(us[backend], us[inC]), "ratio")
}
