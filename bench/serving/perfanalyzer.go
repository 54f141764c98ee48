package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/testkit"
)

const byPerfAnalyzer = "OIP gRPC, by perf_analyzer"

// otherClient has NVIDIA's perf_analyzer, a client that nobody of ours wrote, ask the servers that answer what it wants to know
// first. It makes up its rows, so that answers are not compared.
func (b *benchmark) otherClient(ctx context.Context) []report.Serving {
	root := testkit.ModuleRoot()
	setup := exec.CommandContext(ctx, filepath.Join(root, "examples/clients/oip/run.sh"), "--setup")
	setup.Stdout, setup.Stderr = os.Stderr, os.Stderr
	if err := setup.Run(); err != nil {
		b.leave("perf_analyzer", fmt.Errorf("it could not be installed: %w", err))
		return nil
	}
	var results []report.Serving
	for _, outstanding := range []int{1, 16, 64} {
		for _, t := range b.targets {
			if t.protocol != grpcOIP || t.server.Name != picketd && t.server.Name != "Triton" {
				continue
			}
			r, err := b.analyze(ctx, t, outstanding)
			if err != nil {
				b.leave(t.server.Name+", "+byPerfAnalyzer, err)
				continue
			}
			results = append(results, r)
		}
	}
	return results
}

// analyze runs perf_analyzer on one target.
func (b *benchmark) analyze(ctx context.Context, t *target, outstanding int) (r report.Serving, err error) {
	if err := t.server.Wake(); err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.server.Rest()) }()
	venv := filepath.Join(testkit.ModuleRoot(), ".cache/oip-client/venv")
	cuda, err := filepath.Glob(filepath.Join(venv, "lib/python3*/site-packages/nvidia/cuda_runtime/lib"))
	if err != nil || len(cuda) != 1 {
		return r, errors.New("it lacks its CUDA runtime")
	}
	address := t.ask.Address
	if strings.HasPrefix(address, "/") {
		address = "unix:" + address
	}
	file := filepath.Join(b.dir, "perf.csv")
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	// It stops after three windows that differ by less than 1000 per cent.
	c := exec.CommandContext(ctx, filepath.Join(venv, "bin/perf_analyzer"), "-m", b.spec.Name, "-i", "grpc", "-u", address,
		"--concurrency-range", strconv.Itoa(outstanding), "-p", "500", "-s", "1000", "-r", "10", "--percentile", "99", "-f", file)
	c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+cuda[0])
	if said, err := c.CombinedOutput(); err != nil {
		return r, fmt.Errorf("it failed: %w: %.300q", err, said)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return r, fmt.Errorf("reading its figures: %w", err)
	}
	rows, err := csv.NewReader(strings.NewReader(string(text))).ReadAll()
	if err != nil || len(rows) != 2 {
		return r, fmt.Errorf("its figures cannot be read: %.300q", text)
	}
	r = report.Serving{Target: t.server.Name, Protocol: byPerfAnalyzer, Transport: t.transport(), Model: b.spec.Name, Outstanding: outstanding, Rows: 1}
	for name, value := range map[string]*float64{"Inferences/Second": &r.RowsPerS, "p50 latency": &r.P50US, "p99 latency": &r.P99US} {
		for i, column := range rows[0] {
			if column == name {
				if *value, err = strconv.ParseFloat(rows[1][i], 64); err != nil {
					return r, fmt.Errorf("its figures cannot be read: %.300q", text)
				}
			}
		}
		if *value == 0 {
			return r, fmt.Errorf("its figures have no %s: %.300q", name, text)
		}
	}
	return r, nil
}
