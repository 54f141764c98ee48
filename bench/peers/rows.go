//go:build cgo && linux

package peers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/tensor"
)

// Rows are a benchmark's rows in every form that a peer takes: N with missing values, then the same N without.
type Rows struct {
	N       int
	Single  tensor.Tensor // FP32 [2N, features]
	Wide    tensor.Tensor // FP64 [2N, features]
	File    string        // of Single's bytes
	Answers tensor.Tensor // FP32 [2N, outputs], where every peer writes in its turn
}

// NewRows makes rows of values: n that may have missing ones, and n that have none. Exact zeros are replaced by 1e-40, because
// libdlr 1.6 would take them for missing and walk other paths. The caller calls Close.
func NewRows(m models.Spec, values []float32) (*Rows, error) {
	r := &Rows{N: len(values) / m.Features / 2}
	if err := r.fill(m, slices.Clone(values)); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func (r *Rows) fill(m models.Spec, values []float32) error {
	for i, v := range values {
		if v == 0 {
			values[i] = 1e-40
		}
	}
	wide := make([]float64, len(values))
	for i, v := range values {
		wide[i] = float64(v)
	}
	var err error
	if r.Single, err = tensor.New("data", tensor.FP32, tensor.MustShape(int64(2*r.N), int64(m.Features))); err != nil {
		return err
	}
	copy(r.Single.Bytes(), tensor.AsBytes(values))
	if r.Wide, err = tensor.New("data", tensor.FP64, tensor.MustShape(int64(2*r.N), int64(m.Features))); err != nil {
		return err
	}
	copy(r.Wide.Bytes(), tensor.AsBytes(wide))
	if r.Answers, err = tensor.New("answers", tensor.FP32, tensor.MustShape(int64(2*r.N), int64(m.Outputs()))); err != nil {
		return err
	}
	folder, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for rows: %w", err)
	}
	r.File = filepath.Join(folder, "rows")
	if err := os.WriteFile(r.File, r.Single.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	return nil
}

// Close frees the rows and removes their file.
func (r *Rows) Close() error {
	for _, t := range []tensor.Tensor{r.Single, r.Wide, r.Answers} {
		if t.Buffer != nil {
			t.Buffer.Release()
		}
	}
	if r.File == "" {
		return nil
	}
	return os.RemoveAll(filepath.Dir(r.File))
}

// Written are the values that a peer has written for n rows from row from: a view, which the next call changes.
func (r *Rows) Written(from, n int) ([]float32, error) {
	return tensor.View[float32](r.Answers.Rows(from, from+n))
}

// answers are a copy of them.
func (r *Rows) answers(from, n int) ([]float32, error) {
	view, err := r.Written(from, n)
	return slices.Clone(view), err
}
