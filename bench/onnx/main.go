//go:build cgo && linux

// Command onnx measures backends/onnx against ONNX Runtime's own C API on the same networks, and what the lane adds. JSON goes
// to standard output.
//
// A call is everything from rows in memory to answers in memory. The C API is called from C as its examples do: a tensor is laid over
// the rows, Run makes the output, and only the library's own calls are timed. The backend is called from Go, as the engine does: rows
// are copied into a Buffer that comes back from call to call, which is in its time, and answers are written into another. Over the lane, a client in this process asks a server in this process over a socket, or in a ring, and waits
// for the answer: what two processes on the same cores would do. All have one thread and take turns, and so does the least that a socket of that kind allows:
// the bytes of a request, sent to one that reads them into the same memory each time and answers with as many as an answer has.
//
// With -cuda all run on the first GPU. The C API is given ordinary memory there, as its examples do, and, a second time, rows that lie in pinned
// memory already; so is the backend, in the memory that it asks for, which servers read requests into.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
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
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
	lanes "github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

const (
	testRows = 256
	// What is promised: the backend is as good as the C API, and the lane disappears behind some pictures, on a socket and in a ring.
	mostBackend, mostLane = 1.05, 1.05
)

// What runs on a GPU from rows in pinned memory.
const pinnedAPI, pinnedBackend = "C API, pinned", "onnx, pinned"

// setting is where the networks run.
type setting struct {
	library  string
	peer     native.Kind
	provider string
	rows     []int // of a call
	host     *hw.Host
	gpus     *devices.Set
}

func main() {
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
	out := report.New()
	var results []report.Kernel
	for i, n := range []*network{tabular(), vision(), mean()} {
		folder := filepath.Join(dir, strconv.Itoa(i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		if err := os.WriteFile(filepath.Join(folder, "model.onnx"), n.file(), 0o600); err != nil {
			return fmt.Errorf("writing a model: %w", err)
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

// serve has a server of the lane answer for the model, and gives views of it of two clients, of which one has a ring.
func serve(ctx context.Context, s setting, folder, socket string) (onSocket, inRing *lane.Model, stop func() error, err error) {
	backend := onnx.New(onnx.Options{LibraryPath: s.library, GPUs: s.gpus})
	e, err := engine.New(engine.Options{Host: s.host, Backends: []engine.Backend{backend}, Source: folders{}})
	if err != nil {
		return nil, nil, nil, errors.Join(err, backend.Close())
	}
	stop = func() error { return errors.Join(e.Close(ctx), backend.Close()) }
	if _, err := e.Load(ctx, "network", folder, engine.ModelOptions{Threads: 1, Provider: s.provider}); err != nil {
		return nil, nil, stop, err
	}
	server, err := lanes.New(lanes.Options{Engine: e, MaxRings: 1})
	if err != nil {
		return nil, nil, stop, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		return nil, nil, stop, fmt.Errorf("listening: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, local.Access{}) }()
	end := stop
	stop = func() error { return errors.Join(server.Shutdown(ctx), <-served, end()) }
	dial := func(o lane.Options) (*lane.Model, error) {
		client, err := lane.Dial(ctx, socket, o)
		if err != nil {
			return nil, err
		}
		before := stop
		stop = func() error { return errors.Join(client.Close(), before()) }
		if client.HasRing() != o.Ring {
			return nil, errors.New("the server has no ring to give")
		}
		return client.Model(ctx, "network")
	}
	if onSocket, err = dial(lane.Options{}); err != nil {
		return nil, nil, stop, err
	}
	inRing, err = dial(lane.Options{Ring: true})
	return onSocket, inRing, stop, err
}

// open makes an instance of the network with the backend, and a tensor for its input where it wants it.
func open(ctx context.Context, s setting, backend *onnx.Backend, folder string, shape tensor.Shape) (i engine.Instance, in tensor.Tensor, stop func() error, err error) {
	a, err := folders{}.Open(ctx, folder)
	if err != nil {
		return nil, in, nil, err
	}
	defer a.Close()
	m, err := backend.Open(ctx, a, engine.OpenOptions{Host: s.host, Threads: 1, Provider: s.provider})
	if err != nil {
		return nil, in, nil, err
	}
	n, err := shape.ByteSize(tensor.FP32)
	if err != nil {
		return nil, in, nil, errors.Join(err, m.Close())
	}
	memory := tensor.Alloc
	if own, is := m.(engine.Allocator); is {
		memory = own.Allocate
	}
	b, err := memory(n)
	if err == nil {
		if in, err = tensor.In("input", tensor.FP32, shape, b, 0); err == nil {
			i, err = m.NewInstance()
		}
		if err != nil {
			b.Release()
		}
	}
	if err != nil {
		return nil, in, nil, errors.Join(err, m.Close())
	}
	return i, in, func() error {
		closed := i.Close()
		b.Release()
		return errors.Join(closed, m.Close())
	}, nil
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
	var answers [4]tensor.Tensor
	for i := range answers {
		if answers[i], err = tensor.New("output", tensor.FP32, tensor.MustShape(testRows, n.outputs)); err != nil {
			return m, err
		}
		release(answers[i])
	}
	peer, err := native.OpenPeer(s.peer, native.Task{
		Library: s.library, Model: filepath.Join(folder, "model.onnx"), Features: rows.Size() / 4 / testRows, Outputs: int(n.outputs), Threads: 1,
	})
	if err != nil {
		return m, fmt.Errorf("%w (make fixtures fetches the library for the processor)", err)
	}
	m.stops = append(m.stops, peer.Close)
	backend := onnx.New(onnx.Options{LibraryPath: s.library, GPUs: s.gpus})
	m.stops = append(m.stops, backend.Close)
	instance, own, closeInstance, err := open(ctx, s, backend, folder, shape)
	if err != nil {
		return m, err
	}
	m.stops = append(m.stops, closeInstance)
	onSocket, inRing, stop, err := serve(ctx, s, folder, filepath.Join(folder, "lane.sock"))
	if stop != nil {
		m.stops = append(m.stops, stop)
	}
	if err != nil {
		return m, err
	}
	empty, err := newEmpty(filepath.Join(folder, "empty.sock"), rows.Size())
	if err != nil {
		return m, err
	}
	m.stops = append(m.stops, empty.close)
	note := func(err error) {
		if err != nil {
			m.failed = err
		}
	}
	in, given := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
	over := func(name string, model *lane.Model, answers tensor.Tensor) interleave.Subject {
		sent, received := make([][]byte, 1), make([][]byte, 1)
		return interleave.Subject{Name: name, Run: func(from, count int) time.Duration {
			sent[0], received[0] = rows.Rows(from, from+count).Bytes(), answers.Rows(from, from+count).Bytes()
			note(model.PredictInto(ctx, count, sent, received))
			return 0
		}}
	}
	m.subjects = []interleave.Subject{
		{Name: "C API", Run: func(from, count int) time.Duration {
			took, err := peer.Run(rows.Rows(from, from+count), tensor.Tensor{}, answers[0].Rows(from, from+count))
			note(err)
			return took
		}},
		{Name: "onnx", Run: func(from, count int) time.Duration {
			in[0], given[0] = own.Rows(0, count), answers[1].Rows(0, count)
			copy(in[0].Bytes(), rows.Rows(from, from+count).Bytes())
			note(instance.Run(in, given, count))
			return 0
		}},
		over("lane", onSocket, answers[2]),
		over("ring", inRing, answers[3]),
		{Name: "empty socket", Run: func(from, count int) time.Duration {
			note(empty.ask(rows.Rows(from, from+count).Bytes(), 4*count*int(n.outputs)))
			return 0
		}},
	}
	if s.provider != "cpu" {
		// The rows are there before the clock starts.
		there := func(from, count int) tensor.Tensor {
			t := own.Rows(0, count)
			copy(t.Bytes(), rows.Rows(from, from+count).Bytes())
			return t
		}
		m.subjects = append(m.subjects, interleave.Subject{Name: pinnedAPI, Run: func(from, count int) time.Duration {
			took, err := peer.Run(there(from, count), tensor.Tensor{}, answers[0].Rows(from, from+count))
			note(err)
			return took
		}}, interleave.Subject{Name: pinnedBackend, Run: func(from, count int) time.Duration {
			in[0], given[0] = there(from, count), answers[1].Rows(0, count)
			start := time.Now()
			note(instance.Run(in, given, count))
			return time.Since(start)
		}})
	}
	for _, s := range m.subjects {
		s.Run(0, testRows)
	}
	if m.failed != nil {
		return m, m.failed
	}
	for i, a := range answers[1:] {
		if err := same(a, answers[0], s.provider == "cpu"); err != nil {
			return m, fmt.Errorf("the answers of %s differ from those of the C API: %w", m.subjects[i+1].Name, err)
		}
	}
	return m, nil
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
	where := ""
	if s.provider != "cpu" {
		where = "on a GPU, "
	}
	for _, count := range s.rows {
		plan := interleave.Plan{TestRows: testRows, Rows: count, Rounds: 15, Turn: 40 * time.Millisecond, Calls: 300 + 2000/count, Seed: 1, Budget: 3 * time.Second}
		for _, c := range interleave.Conditions() {
			us := make([]float64, len(m.subjects))
			for i, d := range c.Measure(m.subjects, plan) {
				us[i] = float64(d.Nanoseconds()) / 1e3 / float64(count)
				results = append(results, report.Kernel{Model: n.name, Engine: m.subjects[i].Name, Condition: c.Name, Rows: count, Cores: 1, USPerRow: us[i]})
			}
			what := fmt.Sprintf("%s%s, %d rows, %s", where, n.name, count, c.Name)
			peer, backend, onSocket, inRing, empty := us[0], us[1], us[2], us[3], us[4]
			ratio := fmt.Sprintf("to ONNX Runtime's C API, %s (%.2f us a row)", what, peer)
			times := func(us float64) float64 { return math.Round(1000*us/peer) / 1000 }
			switch {
			case n.idle: // there the backend's copy of the rows is all
			case s.provider == "cpu":
				out.Promise("onnx "+ratio, times(backend), "ratio", mostBackend)
			default:
				out.Promise("onnx, both from pinned memory, "+ratio, math.Round(1000*us[6]/us[5])/1000, "ratio", mostBackend)
				out.Tell("onnx, from pinned memory against ordinary memory, "+ratio, times(us[6]), "ratio")
				out.Tell("onnx, copying from ordinary memory to pinned, "+ratio, times(backend), "ratio")
			}
			if len(n.input) > 1 && count > 1 && !n.idle && s.provider == "cpu" {
				out.Promise("over the lane's socket "+ratio, times(onSocket), "ratio", mostLane)
				out.Promise("in the lane's ring "+ratio, times(inRing), "ratio", mostLane)
				out.Tell("the C API itself and an empty call over a socket "+ratio, times(peer+empty), "ratio")
			}
			for _, way := range []struct {
				name string
				us   float64
			}{{"what the lane's socket adds to a call", onSocket - backend}, {"what the lane's ring adds to a call", inRing - backend}, {"an empty call over a socket", empty}} {
				out.Tell(way.name+", "+what, float64(count)*way.us, "us")
			}
		}
	}
	return results, m.failed
}
