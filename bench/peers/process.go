//go:build cgo && linux

package peers

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/bench/source"
)

// process is a library that only Python calls, in a process of its own: bench/peers/serve.py.
type process struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

// request is a command for the process; reply its answer. serve.py describes them.
type request struct {
	Do       string  `json:"do"`
	Engine   string  `json:"engine,omitempty"`
	Model    string  `json:"model,omitempty"`
	File     string  `json:"file,omitempty"`
	Features int     `json:"features,omitempty"`
	Outputs  int     `json:"outputs,omitempty"`
	Threads  int     `json:"threads,omitempty"`
	From     int     `json:"from"`
	Rows     int     `json:"rows"`
	Seconds  float64 `json:"seconds"`
	Least    int     `json:"least"`
	Out      string  `json:"out,omitempty"`
}

type reply struct {
	Note    string  `json:"note"`
	HotOnly bool    `json:"hot_only"`
	NS      []int64 `json:"ns"`
	Error   string  `json:"error"`
}

func openProcess(engine string) func(context.Context, Task) (*Instance, error) {
	return func(ctx context.Context, t Task) (*Instance, error) {
		model, err := t.Model.Train(ctx)
		if err != nil {
			return nil, err
		}
		p, err := startProcess(ctx)
		if err != nil {
			return nil, err
		}
		opened, err := p.do(request{
			Do: "open", Engine: engine, Model: model, File: t.Rows.File, Features: t.Model.Features, Outputs: t.Model.Outputs(), Threads: t.Threads,
		})
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		i := &Instance{Note: opened.Note, HotOnly: opened.HotOnly, Close: p.close}
		i.Run = func(from, rows int) (time.Duration, error) {
			r, err := p.do(request{Do: "call", From: from, Rows: rows})
			if err == nil && len(r.NS) != 1 {
				err = fmt.Errorf("%s gave %d times of one call", engine, len(r.NS))
			}
			if err != nil {
				return 0, err
			}
			return time.Duration(r.NS[0]), nil
		}
		i.Turn = func(from, rows int, d time.Duration, least int) ([]time.Duration, error) {
			r, err := p.do(request{Do: "turn", From: from, Rows: rows, Seconds: d.Seconds(), Least: least})
			times := make([]time.Duration, len(r.NS))
			for i, ns := range r.NS {
				times[i] = time.Duration(ns)
			}
			return times, err
		}
		i.Answers = func(from, n int) ([]float32, error) {
			out := filepath.Join(filepath.Dir(t.Rows.File), engine)
			if _, err := p.do(request{Do: "answers", From: from, Rows: n, Out: out}); err != nil {
				return nil, err
			}
			return readFloats(out, n*t.Model.Outputs())
		}
		return i, nil
	}
}

func startProcess(ctx context.Context) (*process, error) {
	c := exec.CommandContext(ctx, filepath.Join(environment(), "bin/python"), "-W", "ignore", filepath.Join(source.Root(), "bench/peers/serve.py"))
	in, err := c.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a peer: %w", err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a peer: %w", err)
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("starting a peer: %w", err)
	}
	return &process{c, in, bufio.NewReader(out)}, nil
}

// do sends a command and waits for its answer.
func (p *process) do(q request) (reply, error) {
	var r reply
	line, err := json.Marshal(q)
	if err != nil {
		return r, fmt.Errorf("asking a peer: %w", err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return r, fmt.Errorf("asking a peer: %w", err)
	}
	answer, err := p.out.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("a peer's process ended: %w", err)
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return r, fmt.Errorf("reading a peer's answer: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// close ends the process, which leaves its loop when its input ends.
func (p *process) close() error {
	err := p.in.Close()
	return errors.Join(err, p.command.Wait())
}

// readFloats reads a file of n float32 values.
func readFloats(path string, n int) ([]float32, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading a peer's answers: %w", err)
	}
	if len(data) != 4*n {
		return nil, fmt.Errorf("a peer gave %d bytes of answers instead of %d", len(data), 4*n)
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values, nil
}
