//go:build cgo && linux

package main

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/tensor"
)

// filProgram measures FIL: it goes with this program, which is carried to hosts without the source.
//
//go:embed fil.py
var filProgram []byte

// mostApart is how far an answer of FIL's may be from ours: it adds up the trees in another order.
const mostApart = 1e-4

// measureFIL has a Python program measure FIL on the same model, rows and numbers of rows, and compares its answers with backend forest's.
func (s *subjects) measureFIL(ctx context.Context, python, dir string, sizes []int) (_ kernels, err error) {
	if python == "" {
		python = ".cache/fil/bin/python"
		if _, err := os.Stat(python); err != nil {
			return nil, errors.New("it is not installed; bench/gpu/fil.sh does it")
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "model.*"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("looking for the model: %v, %w", files, err)
	}
	room, err := os.MkdirTemp("", "picket-fil")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(room)) }()
	program, rows, answers := filepath.Join(room, "fil.py"), filepath.Join(room, "rows"), filepath.Join(room, "answers")
	want, columns, err := s.rowsFor(ctx, dir, rows, slices.Max(sizes))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(program, filProgram, 0o600); err != nil {
		return nil, err
	}
	args := []string{program, files[0], rows, strconv.Itoa(columns), answers}
	for _, n := range sizes {
		args = append(args, strconv.Itoa(n))
	}
	command := exec.CommandContext(ctx, python, args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("measuring it failed: %w", err)
	}
	got, err := os.ReadFile(answers)
	if err != nil {
		return nil, err
	}
	if err := near(got, want); err != nil {
		return nil, fmt.Errorf("its answers: %w", err)
	}
	return filTimes(string(out))
}

// rowsFor writes rows to a file and gives backend forest's answers for them, and how many columns they have.
func (s *subjects) rowsFor(ctx context.Context, dir, file string, rows int) (answers []float32, columns int, err error) {
	o, in, out, err := s.reference(ctx, dir, rows)
	if err != nil {
		return nil, 0, err
	}
	defer o.close()
	defer in.Buffer.Release()
	defer out.Buffer.Release()
	values, err := tensor.View[float32](out)
	if err != nil {
		return nil, 0, err
	}
	return slices.Clone(values), o.in, os.WriteFile(file, in.Bytes(), 0o600)
}

// near wants the float32 of a file to be those that are wanted, but for the order in which they were added up.
func near(file []byte, want []float32) error {
	if len(file) != 4*len(want) {
		return fmt.Errorf("%d bytes for %d rows", len(file), len(want))
	}
	for i, w := range want {
		g := math.Float32frombits(binary.LittleEndian.Uint32(file[4*i:]))
		if apart := math.Abs(float64(g) - float64(w)); !(apart <= mostApart) {
			return fmt.Errorf("row %d is %v, and %v from backend forest", i, g, w)
		}
	}
	return nil
}

// filTimes reads what the program prints: engine, rows and microseconds per row.
func filTimes(printed string) (kernels, error) {
	var all kernels
	for line := range strings.Lines(printed) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) != 3 {
			return nil, fmt.Errorf("it said %q", line)
		}
		n, err := strconv.Atoi(f[1])
		us, err2 := strconv.ParseFloat(f[2], 64)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("it said %q: %w", line, err)
		}
		fmt.Fprintf(os.Stderr, "%-40s %9d %12.4f\n", f[0], n, us)
		all = append(all, report.Kernel{Model: "large", Engine: f[0], Condition: "hot", Rows: n, USPerRow: us})
	}
	return all, nil
}
