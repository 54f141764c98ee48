//go:build cgo && linux

// Command gpu measures backends/cuda on the GPUs of this host against backends/forest on its processors, and the copies against what the bus
// gives; with -check it only makes sure that a million rows have the same bits from both, one way and the other. It needs the driver and
// nothing else: no toolkit, no network, no fixtures. Where it cannot run it says why and fails.
//
// A table goes to standard error, everything as JSON to standard output.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/backends/cuda"
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
)

type options struct {
	check          bool
	model, library string
	rows           string
	fil            string
	timeline       string
}

func main() {
	var o options
	flag.BoolVar(&o.check, "check", false, "only compare answers")
	flag.StringVar(&o.model, "model", "", "an XGBoost or LightGBM model file; default one of 500 trees of depth 6 over 30 columns that is made up")
	flag.StringVar(&o.library, "library", "", "the driver's libcuda.so.1; default the system's")
	flag.StringVar(&o.rows, "rows", "1024,4096,16384,65536,262144,1048576", "rows per call, separated by commas")
	flag.StringVar(&o.fil, "fil", "", "a Python with nvforest or cuML, to measure FIL with; default that of bench/gpu/fil.sh where it is there")
	flag.StringVar(&o.timeline, "timeline", "", "write when each chunk of a large batch was copied in, computed and copied out to this `FILE`, for chrome://tracing or Perfetto")
	program.Main("bench-gpu", func(ctx context.Context) error { return run(ctx, o) })
}

func run(ctx context.Context, o options) (err error) {
	var sizes []int
	for text := range strings.SplitSeq(o.rows, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxRows {
			return fmt.Errorf("-rows: %q is no number of rows from 1 to %d", text, maxRows)
		}
		sizes = append(sizes, n)
	}
	host := hw.Detect(ctx, hw.Options{NoIMDS: true})
	set := devices.New(devices.Options{Library: o.library})
	make := func(slots int) (*cuda.Backend, error) {
		b := cuda.New(cuda.Options{Devices: set, Slots: slots})
		if err := b.Probe(host); err != nil {
			return nil, fmt.Errorf("this host cannot show what a GPU does: %w", err)
		}
		return b, nil
	}
	gpu, err := make(0)
	if err != nil {
		return err
	}
	serial, err := make(1)
	if err != nil {
		return err
	}
	for _, d := range set.All() {
		f := d.Facts()
		fmt.Fprintf(os.Stderr, "device %s, %s\n", f.Name, f.UUID)
	}
	fmt.Fprintln(os.Stderr, "the first is tested and measured")
	dir, err := os.MkdirTemp("", "picket-gpu")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &subjects{host: host, forest: forest.New(), gpu: gpu, serial: serial, on: set.All()[0].Facts().UUID}
	large, err := folder(dir, "large", o.model, madeUp{500, 6, 30})
	if err != nil {
		return err
	}
	for _, check := range []struct {
		what string
		of   madeUp
		rows int
	}{
		{"a tree of depth 1 over 30 columns", madeUp{1, 1, 30}, 100_000}, {"50 trees of depth 8 over 200 columns", madeUp{50, 8, 200}, 100_000},
		{"20 trees over 3000 columns, of which few are looked at", madeUp{20, 5, 3000}, 10_000}, {"200 trees over 10000 columns", madeUp{200, 5, 10000}, 10_000},
	} {
		small, err := folder(dir, strings.ReplaceAll(check.what, " ", "-"), "", check.of)
		if err != nil {
			return err
		}
		if err := s.same(ctx, small, check.rows); err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
	}
	if err := s.same(ctx, large, maxRows); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d rows have the bits of backend forest, from pinned memory and from other, with chunks that overlap and without\n", maxRows)
	if o.check {
		return nil
	}

	r := report.New()
	r.Host.Facts = host
	bus, err := bandwidth(o.library, turns)
	if err != nil {
		return err
	}
	r.Tell("copy to the device, pinned", bus.in, "GB/s")
	r.Tell("copy from the device, pinned", bus.out, "GB/s")
	tiny, err := folder(dir, "tiny", "", madeUp{1, 1, 30})
	if err != nil {
		return err
	}
	kernels, err := s.measure(ctx, large, sizes)
	if err != nil {
		return err
	}
	through, err := s.copyRate(ctx, tiny)
	if err != nil {
		return err
	}
	r.Reach("a run of one small tree against the bus, bytes a second", through/bus.in, 0.9)
	for _, n := range sizes {
		us := func(engine string) float64 { return kernels.of(engine, n) }
		r.Tell(fmt.Sprintf("times as fast as backend forest with all cores, %d rows", n), us("forest")/us("cuda"), "ratio")
	}
	most := sizes[len(sizes)-1]
	r.Tell(fmt.Sprintf("times as fast as without overlapping, %d rows", most), kernels.of("cuda, nothing overlaps", most)/kernels.of("cuda", most), "ratio")
	var told []cuda.Chunk
	watched := cuda.New(cuda.Options{Devices: set, Timeline: func(c cuda.Chunk) { told = append(told, c) }})
	if err := watched.Probe(host); err != nil {
		return err
	}
	chunks, err := s.timeline(ctx, watched, &told, large, timelineRows)
	if err != nil {
		return err
	}
	showTimeline(chunks)
	r.Tell(fmt.Sprintf("chunks on the device at once, on average, %d rows", timelineRows), atOnce(chunks), "chunks")
	if o.timeline != "" {
		if err := writeTimeline(o.timeline, chunks); err != nil {
			return err
		}
	}
	fil, err := s.measureFIL(ctx, o.fil, large, sizes)
	if err != nil {
		r.LeftOut = append(r.LeftOut, report.LeftOut{Model: "all", Engine: "FIL", Why: err.Error()})
	}
	for _, k := range fil {
		kernels = append(kernels, k)
		switch ratio := k.USPerRow / kernels.of("cuda", k.Rows); k.Engine {
		case "FIL, from main memory":
			r.Reach(fmt.Sprintf("times as fast as FIL from main memory, %d rows", k.Rows), ratio, 1.5)
		case "FIL, from pinned memory":
			r.Tell(fmt.Sprintf("times as fast as FIL from pinned memory, %d rows", k.Rows), ratio, "ratio")
		}
	}
	r.Results = []report.Kernel(kernels)
	return r.Write()
}

// folder is an artifact with the model of the file, or with one that is made up.
func folder(dir, name, file string, of madeUp) (string, error) {
	to := filepath.Join(dir, name)
	if err := os.Mkdir(to, 0o700); err != nil {
		return "", err
	}
	data, extension := of.json(), ".json"
	if file != "" {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return "", err
		}
		extension = filepath.Ext(file)
	}
	return to, os.WriteFile(filepath.Join(to, "model"+extension), data, 0o600)
}
