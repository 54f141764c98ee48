//go:build cgo && linux

// Command onnx measures backends/onnx against ONNX Runtime's own C API on the same networks, and what the lane adds. JSON goes
// to standard output.
//
// A call is everything from rows in memory to answers in memory. The C API is called from C as its examples do: a tensor is laid over
// the rows, Run makes the output, and only the library's own calls are timed. The backend is called from Go, as the engine does: rows
// are copied into a Buffer that comes back from call to call, which is in its time, and answers are written into another. Over the lane, a client in this process asks a server in this process over a socket, and waits
// for the answer: what two processes on the same cores would do. All have one thread and take turns.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	lanes "github.com/picket-ml/picket/internal/server/lane"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/lane"
	"github.com/picket-ml/picket/tensor"
)

const (
	testRows = 256
	// What is promised: the backend is as good as the C API, and the lane disappears behind some pictures.
	mostBackend, mostLane = 1.05, 1.05
)

func main() {
	program.Main("bench-onnx", run)
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "bench-onnx")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary folder
	out := report.New()
	var results []report.Kernel
	for _, n := range []*network{tabular(), vision()} {
		folder := filepath.Join(dir, fmt.Sprint(len(n.input)))
		if err := os.Mkdir(folder, 0o700); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
		if err := os.WriteFile(filepath.Join(folder, "model.onnx"), n.file(), 0o600); err != nil {
			return fmt.Errorf("writing a model: %w", err)
		}
		measured, err := measure(ctx, folder, n, out)
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

// serve has a server of the lane answer for the model, and gives a client's view of it.
func serve(ctx context.Context, folder, socket string) (_ *lane.Model, stop func() error, err error) {
	host := hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true})
	backend := onnx.New(onnx.Options{LibraryPath: models.ONNXRuntime()})
	e, err := engine.New(engine.Options{Host: host, Backends: []engine.Backend{backend}, Source: folders{}})
	if err != nil {
		return nil, nil, err
	}
	stop = func() error { return errors.Join(e.Close(ctx), backend.Close()) }
	if _, err := e.Load(ctx, "network", folder, engine.ModelOptions{Threads: 1}); err != nil {
		return nil, stop, err
	}
	server, err := lanes.New(lanes.Options{Engine: e})
	if err != nil {
		return nil, stop, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, stop, fmt.Errorf("listening: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, local.Access{}) }()
	end := stop
	stop = func() error { return errors.Join(server.Shutdown(ctx), <-served, end()) }
	client, err := lane.Dial(ctx, socket, lane.Options{})
	if err != nil {
		return nil, stop, err
	}
	before := stop
	stop = func() error { return errors.Join(client.Close(), before()) }
	model, err := client.Model(ctx, "network")
	return model, stop, err
}

func measure(ctx context.Context, folder string, n *network, out *report.Report) (results []report.Kernel, err error) {
	dims := append([]int64{testRows}, n.input...)
	rows, err := tensor.New("input", tensor.FP32, tensor.MustShape(dims...))
	if err != nil {
		return nil, err
	}
	defer rows.Buffer.Release()
	own, err := tensor.New("input", tensor.FP32, tensor.MustShape(dims...))
	if err != nil {
		return nil, err
	}
	defer own.Buffer.Release()
	random := rand.New(rand.NewPCG(3, 4))
	values, err := tensor.View[float32](rows)
	if err != nil {
		return nil, err
	}
	for i := range values {
		values[i] = float32(random.NormFloat64())
	}
	var answers [3]tensor.Tensor
	for i := range answers {
		if answers[i], err = tensor.New("output", tensor.FP32, tensor.MustShape(testRows, n.outputs)); err != nil {
			return nil, err
		}
		defer answers[i].Buffer.Release()
	}

	peer, err := native.OpenPeer(native.ONNXRuntime, native.Task{
		Library: models.ONNXRuntime(), Model: filepath.Join(folder, "model.onnx"), Features: rows.Size() / 4 / testRows, Outputs: int(n.outputs), Threads: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("%w (make fixtures fetches the library)", err)
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	backend := onnx.New(onnx.Options{LibraryPath: models.ONNXRuntime()})
	instance, closeInstance, err := models.Open(ctx, backend, folder, "", 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeInstance(), backend.Close()) }()
	model, stop, err := serve(ctx, folder, filepath.Join(folder, "lane.sock"))
	if stop != nil {
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err != nil {
		return nil, err
	}

	var failed error
	note := func(err error) {
		if err != nil {
			failed = err
		}
	}
	in, given := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
	sent, received := make([][]byte, 1), make([][]byte, 1)
	subjects := []interleave.Subject{
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
		{Name: "lane", Run: func(from, count int) time.Duration {
			sent[0], received[0] = rows.Rows(from, from+count).Bytes(), answers[2].Rows(from, from+count).Bytes()
			note(model.PredictInto(ctx, count, sent, received))
			return 0
		}},
	}
	for _, s := range subjects {
		s.Run(0, testRows)
	}
	if failed != nil {
		return nil, failed
	}
	for i, a := range answers[1:] {
		if string(a.Bytes()) != string(answers[0].Bytes()) {
			return nil, fmt.Errorf("the answers of %s differ from those of the C API", subjects[i+1].Name)
		}
	}

	for _, count := range []int{1, 16, 64} {
		plan := interleave.Plan{TestRows: testRows, Rows: count, Rounds: 15, Turn: 40 * time.Millisecond, Calls: 300 + 2000/count, Seed: 1, Budget: 3 * time.Second}
		for _, c := range interleave.Conditions() {
			var us [3]float64
			for i, d := range c.Measure(subjects, plan) {
				us[i] = float64(d.Nanoseconds()) / 1e3 / float64(count)
				results = append(results, report.Kernel{Model: n.name, Engine: subjects[i].Name, Condition: c.Name, Rows: count, Cores: 1, USPerRow: us[i]})
			}
			what := fmt.Sprintf("to ONNX Runtime's C API, %s, %d rows, %s (%.2f us a row)", n.name, count, c.Name, us[0])
			round := func(x float64) float64 { return math.Round(1000*x) / 1000 }
			out.Promise("onnx "+what, round(us[1]/us[0]), "ratio", mostBackend)
			if len(n.input) > 1 && count > 1 {
				out.Promise("over the lane "+what, round(us[2]/us[0]), "ratio", mostLane)
			} else {
				out.Tell(fmt.Sprintf("what the lane adds to a call, %s, %d rows, %s", n.name, count, c.Name), float64(count)*(us[2]-us[1]), "us")
			}
		}
	}
	return results, failed
}
