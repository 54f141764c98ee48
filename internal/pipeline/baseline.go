package pipeline

import (
	"context"
	"errors"
)

// Baseliner computes what monitoring compares a model's traffic with.
type Baseliner interface {
	// Baseline reads the training set and writes statistics.json and constraints.json into a folder that is there and empty.
	// files are the set's, as they lie on this machine; format is csv, parquet or libsvm, the first column the label. It is
	// called once at a time, ends with ctx, and keeps nothing.
	Baseline(ctx context.Context, files []string, format, dir string) error
}

// baseline is what a Baseliner has written.
type baseline struct {
	Dir    string `json:"dir"` // below the run's folder
	Digest string `json:"digest"`
}

// baseline computes it where the file asks for it; nil where it does not.
func (r *run) baseline(ctx context.Context, d *data, _ model) (*baseline, error) {
	if !r.spec.Baseline.Enabled {
		return nil, nil
	}
	if r.options.Baseline == nil {
		return nil, errors.New("baseline.enabled: this program cannot compute a baseline")
	}
	b := &baseline{Dir: stepBaseline}
	whole := func() bool { digest, err := digestFolder(ctx, r.path(b.Dir)); return err == nil && digest == b.Digest }
	from := map[string]string{"rows": d.Channels[0].Digest, "format": r.spec.Dataset.Format}
	return b, r.step(ctx, stepBaseline, from, b, whole, func(ctx context.Context, _ *record) error {
		dir, err := r.fresh(stepBaseline)
		if err != nil {
			return err
		}
		var files []string
		for _, f := range d.Channels[0].files {
			files = append(files, f.from)
		}
		if err := r.options.Baseline.Baseline(ctx, files, r.spec.Dataset.Format, dir); err != nil {
			return err
		}
		if dir, err = r.keep(stepBaseline); err != nil {
			return err
		}
		b.Digest, err = digestFolder(ctx, dir)
		return err
	})
}
