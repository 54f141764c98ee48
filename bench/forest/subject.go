//go:build cgo && linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/peers"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// ours is how the engines of backends/forest are called here: this and the family of kernels.
const ours = "forest "

// subject is an engine with the model. Its owner calls Close of the instance.
type subject struct {
	*peers.Instance
	name string
	peer *peers.Peer // nil for ours
	// perRow is how long a row took at most in the calls before, to know what calls of more rows will take.
	perRow time.Duration
}

// open opens the model with every engine, those of backends/forest first. What it gives is to be closed even after an error.
func (b *benchmark) open(ctx context.Context, m models.Spec, rows *peers.Rows, threads int) (subjects []*subject, err error) {
	dir, err := m.Folder(ctx)
	if err != nil {
		return nil, err
	}
	var seen []string
	for _, mask := range []string{"", "avx512vbmi", "avx512f"} {
		family := forest.Family(hw.Detect(ctx, hw.Options{NoGPU: true, NoIMDS: true, Mask: mask}))
		if slices.Contains(seen, family) || threads > 1 && len(seen) > 0 {
			continue
		}
		seen = append(seen, family)
		i, err := openForest(ctx, dir, mask, threads, rows)
		if err != nil {
			return subjects, err
		}
		subjects = append(subjects, &subject{Instance: i, name: ours + family})
	}
	for _, p := range peers.All() {
		if !chosen(b.options.peers, p.Name) {
			continue
		}
		i, err := p.Open(ctx, peers.Task{Model: m, Rows: rows, Threads: threads, Ready: b.options.ready})
		if err != nil {
			// A peer that cannot be had is left out of the comparison, and the results say so.
			b.leave(m, p.Name, threads, 0, err.Error())
			if !errors.Is(err, peers.ErrUnsuited) {
				fmt.Fprintf(os.Stderr, "bench-forest: %s, %d threads: without %s: %v\n", m.Name, threads, p.Name, err)
			}
			continue
		}
		subjects = append(subjects, &subject{Instance: i, name: p.Name, peer: p})
		if i.Note != "" {
			b.notes[p.Name] = i.Note
		}
	}
	return subjects, nil
}

// openForest opens dir with backends/forest on this host less what mask names.
func openForest(ctx context.Context, dir, mask string, threads int, rows *peers.Rows) (*peers.Instance, error) {
	instance, closeBoth, err := models.Open(ctx, forest.New(), dir, mask, threads)
	if err != nil {
		return nil, err
	}
	in, out := make([]tensor.Tensor, 1), make([]tensor.Tensor, 1)
	run := func(from, n int) (time.Duration, error) {
		in[0], out[0] = rows.Single.Rows(from, from+n), rows.Answers.Rows(from, from+n)
		return 0, instance.Run(in, out, n)
	}
	answers := func(from, n int) ([]float32, error) {
		if _, err := run(from, n); err != nil {
			return nil, err
		}
		view, err := tensor.View[float32](out[0])
		return slices.Clone(view), err
	}
	return &peers.Instance{Run: run, Answers: answers, Close: closeBoth}, nil
}

// leave notes that an engine was not measured; rows 0 stands for all.
func (b *benchmark) leave(m models.Spec, engine string, cores, rows int, why string) {
	b.left = append(b.left, report.LeftOut{Model: m.Name, Engine: engine, Cores: cores, Rows: rows, Why: strings.Join(strings.Fields(strings.TrimPrefix(why, peers.ErrUnsuited.Error()+": ")), " ")})
}
