// Command score measures picket score beside the engine that it calls: how many rows a second it scores of a file, CSV and
// Parquet, and how many the engine scores of the same rows when they lie in memory already, on as many cores, with requests of
// the same size. They take turns in one run. A table goes to standard error, JSON to standard output.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/score"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// batchRows is how many rows a request has, which is what picket score takes.
const batchRows = 1024

func main() {
	rows := flag.Int("rows", 400_000, "how many rows the files have")
	rounds := flag.Int("rounds", 5, "how often each takes its turn")
	program.Main("bench-score", func(ctx context.Context) error { return run(ctx, *rows, *rounds) })
}

// way is one way to score the rows.
type way struct {
	name string
	turn func() (time.Duration, error)
	took []time.Duration
}

func run(ctx context.Context, rows, rounds int) (err error) {
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for files: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	spec := models.Specs()[0]
	model, err := spec.Folder(ctx)
	if err != nil {
		return err
	}
	values := testkit.RowsNoMissing(rows, spec.Features)
	csv, table := filepath.Join(dir, "rows.csv"), filepath.Join(dir, "rows.parquet")
	if err := writeCSV(csv, values, spec.Features); err != nil {
		return err
	}
	if err := writeParquet(table, values, spec.Features); err != nil {
		return err
	}
	source, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		return err
	}
	host := hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true})
	list := backends.All(backends.Options{})
	defer func() { err = errors.Join(err, backends.Close(list)) }()
	file := func(input, output string) func() (time.Duration, error) {
		return func() (time.Duration, error) {
			s, err := score.Run(ctx, score.Options{
				Model: model, Source: source, Backends: list, Host: host, Backend: "forest",
				Input: input, Output: filepath.Join(dir, output), Every: 2 * time.Second,
			})
			return time.Duration(s.Seconds * float64(time.Second)), err
		}
	}
	memory, stop, err := inMemory(ctx, model, source, list, host, values, spec.Features)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	ways := []*way{
		{name: "engine, rows in memory", turn: memory},
		{name: "CSV to CSV", turn: file(csv, "scores.csv")},
		{name: "CSV to Parquet", turn: file(csv, "scores.parquet")},
		{name: "Parquet to Parquet", turn: file(table, "scores.parquet")},
	}
	for range rounds {
		for _, w := range ways {
			took, err := w.turn()
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			w.took = append(w.took, took)
		}
	}
	out := report.New()
	var kernels []report.Kernel
	rate := func(w *way) float64 {
		slices.Sort(w.took)
		return float64(rows) / w.took[len(w.took)/2].Seconds()
	}
	for _, w := range ways {
		kernels = append(kernels, report.Kernel{Model: spec.Name, Engine: w.name, Rows: batchRows, Cores: runtime.GOMAXPROCS(0), USPerRow: 1e6 / rate(w)})
		out.Tell(w.name, rate(w), "rows/s")
		if w != ways[0] {
			out.Tell(w.name+", of the engine's rate", rate(w)/rate(ways[0]), "ratio")
		}
	}
	info, err := os.Stat(csv)
	if err != nil {
		return fmt.Errorf("looking at the file: %w", err)
	}
	out.Tell("bytes of CSV a row", float64(info.Size())/float64(rows), "bytes")
	out.Results = kernels
	return out.Write()
}

// inMemory scores the rows with as many goroutines as there are cores.
func inMemory(ctx context.Context, model string, source engine.Source, list []engine.Backend, host *hw.Host, values []float32, features int) (func() (time.Duration, error), func() error, error) {
	eng, err := engine.New(engine.Options{Host: host, Backends: list, Source: source})
	if err != nil {
		return nil, nil, err
	}
	cores := runtime.GOMAXPROCS(0)
	if _, err := eng.Load(ctx, "m", model, engine.ModelOptions{Backend: "forest", ExpectedRows: batchRows, Instances: cores, Threads: 1}); err != nil {
		return nil, nil, errors.Join(err, eng.Close(ctx))
	}
	snapshot, err := eng.Acquire("m")
	if err != nil {
		return nil, nil, errors.Join(err, eng.Close(ctx))
	}
	data := tensor.AsBytes(values)
	part := batchRows * features * 4
	turn := func() (time.Duration, error) {
		var all sync.WaitGroup
		failed := make([]error, cores)
		began := time.Now()
		for core := range cores {
			all.Go(func() {
				for from := core * part; from < len(data) && failed[core] == nil; from += cores * part {
					batch := data[from:min(from+part, len(data))]
					r, err := snapshot.NewRequest(len(batch) / features / 4)
					if err != nil {
						failed[core] = err
						return
					}
					copy(r.Inputs[0].Bytes(), batch)
					failed[core] = r.Predict(ctx)
					r.Release()
				}
			})
		}
		all.Wait()
		return time.Since(began), errors.Join(failed...)
	}
	return turn, func() error { snapshot.Release(); return eng.Close(ctx) }, nil
}

func writeCSV(path string, values []float32, columns int) error {
	var text bytes.Buffer
	for i, v := range values {
		text.Write(strconv.AppendFloat(text.AvailableBuffer(), float64(v), 'g', -1, 32))
		if i%columns == columns-1 {
			text.WriteByte('\n')
		} else {
			text.WriteByte(',')
		}
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the rows: %w", err)
	}
	return nil
}

func writeParquet(path string, values []float32, columns int) error {
	group := parquet.Group{}
	for c := range columns {
		group[fmt.Sprintf("f%02d", c)] = parquet.Leaf(parquet.FloatType)
	}
	var file bytes.Buffer
	w := parquet.NewWriter(&file, parquet.NewSchema("rows", group), parquet.Compression(&parquet.Snappy))
	column := make([]parquet.Value, 0, len(values)/columns)
	for c := range columns {
		column = column[:0]
		for at := c; at < len(values); at += columns {
			column = append(column, parquet.FloatValue(values[at]).Level(0, 0, c))
		}
		if _, err := w.ColumnWriters()[c].WriteRowValues(column); err != nil {
			return fmt.Errorf("writing the rows: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("writing the rows: %w", err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing the rows: %w", err)
	}
	return nil
}
