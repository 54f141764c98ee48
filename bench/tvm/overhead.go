package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/interleave"
	"github.com/picket-ml/picket/tensor"
)

// nothing is a library of one function that does nothing, and its graph.
const (
	nothing      = "int nothing(void *values, int *kinds, int count, void *result, int *kind, void *resource) { return 0; }\n"
	nothingGraph = `{"nodes": [{"op": "null", "name": "input", "inputs": []},
		{"op": "tvm_op", "name": "nothing", "inputs": [[0, 0, 0]], "attrs": {"func_name": "nothing", "num_inputs": "1", "num_outputs": "1", "flatten_data": "0"}}],
		"arg_nodes": [0], "heads": [[1, 0, 0]], "node_row_ptr": [0, 1, 2],
		"attrs": {"dltype": ["list_str", ["float32", "float32"]], "shape": ["list_shape", [[1, 30], [1, 1]]], "storage_id": ["list_int", [0, 1]]}}`
)

// overhead is how long a call of the engine takes that runs nothing, in us.
func overhead(ctx context.Context) (us float64, err error) {
	dir, err := os.MkdirTemp("", "bench-tvm-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	source := filepath.Join(dir, "nothing.c")
	params := append(binary.LittleEndian.AppendUint64(nil, 0xF7E58D4F05049CB7), make([]byte, 24)...)
	for name, data := range map[string][]byte{source: []byte(nothing), filepath.Join(dir, "compiled_model.json"): []byte(nothingGraph), filepath.Join(dir, "compiled.params"): params} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return 0, err
		}
	}
	if output, err := exec.CommandContext(ctx, "cc", "-O2", "-shared", "-fPIC", "-o", filepath.Join(dir, "compiled.so"), source).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("compiling a function that does nothing: %w: %s", err, output)
	}
	m, err := open(ctx, dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	i, err := m.NewInstance()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	in, err := tensor.New("input", tensor.FP32, tensor.MustShape(1, 30))
	if err != nil {
		return 0, err
	}
	defer in.Buffer.Release()
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(1, 1))
	if err != nil {
		return 0, err
	}
	defer out.Buffer.Release()
	ins, outs := []tensor.Tensor{in}, []tensor.Tensor{out}
	var failed error
	subject := interleave.Subject{Name: "nothing", Run: func(int, int) time.Duration {
		if err := i.Run(ins, outs, 1); err != nil {
			failed = err
		}
		return 0
	}}
	d := interleave.Hot([]interleave.Subject{subject}, interleave.Plan{TestRows: 1, Rows: 1, Rounds: 15, Turn: 30 * time.Millisecond, Seed: 1})
	return float64(d[0].Nanoseconds()) / 1e3, failed
}
