package pipeline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/picket-ml/picket/internal/monitor"
	"github.com/picket-ml/picket/packaging"
)

// baseline is what is known of the training set, as files.
type baseline struct {
	Dir    string `json:"dir"` // below the run's folder
	Digest string `json:"digest"`
}

// baseline computes what monitoring compares a model's traffic with, where the file asks for it; nil where it does not.
func (r *run) baseline(ctx context.Context, d *data) (*baseline, error) {
	s := &r.spec.Baseline
	if !s.Enabled {
		return nil, nil
	}
	b := &baseline{Dir: stepBaseline}
	whole := func() bool { digest, err := digestFolder(ctx, r.path(b.Dir)); return err == nil && digest == b.Digest }
	from := map[string]any{"rows": d.Channels[0].Digest, "header": s.Header, "drop": s.Drop, "score": s.Score}
	return b, r.step(ctx, stepBaseline, from, b, whole, func(ctx context.Context, _ *record) error {
		dir, err := r.fresh(stepBaseline)
		if err != nil {
			return err
		}
		packed, err := r.readBaseline(ctx, d)
		if err != nil {
			return err
		}
		for name, data := range map[string][]byte{monitor.StatisticsFile: packed.Statistics, monitor.ConstraintsFile: packed.Constraints} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				return fmt.Errorf("writing the baseline: %w", err)
			}
		}
		if dir, err = r.keep(stepBaseline); err != nil {
			return err
		}
		b.Digest, err = digestFolder(ctx, dir)
		return err
	})
}

// readBaseline reads the training set.
func (r *run) readBaseline(ctx context.Context, d *data) (*packaging.Baseline, error) {
	s := &r.spec.Baseline
	files, err := monitor.LocalFiles(d.Channels[0].Path)
	if err != nil {
		return nil, err
	}
	rows, err := monitor.OpenTable(ctx, files, monitor.TableOptions{NoHeader: !s.Header})
	if err != nil {
		return nil, fmt.Errorf("reading the training set: %w", err)
	}
	defer rows.Close()
	drop := s.Drop
	if columns := rows.Columns(); len(drop) == 0 && len(columns) > 0 {
		drop = columns[:1] // the label
	}
	statistics, constraints, err := monitor.Baseline(ctx, rows, monitor.BaselineOptions{Drop: drop, Score: s.Score})
	if err != nil {
		return nil, err
	}
	packed := &packaging.Baseline{}
	if packed.Statistics, err = statistics.Encode(); err != nil {
		return nil, err
	}
	packed.Constraints, err = constraints.Encode()
	return packed, err
}

// packed are the files as a package takes them; nil where there is no baseline.
func (b *baseline) packed(r *run) (*packaging.Baseline, error) {
	if b == nil {
		return nil, nil
	}
	packed := &packaging.Baseline{}
	var err error
	if packed.Statistics, err = os.ReadFile(filepath.Join(r.path(b.Dir), monitor.StatisticsFile)); err != nil {
		return nil, fmt.Errorf("reading the baseline: %w", err)
	}
	if packed.Constraints, err = os.ReadFile(filepath.Join(r.path(b.Dir), monitor.ConstraintsFile)); err != nil {
		return nil, fmt.Errorf("reading the baseline: %w", err)
	}
	return packed, nil
}
