package suite

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/bench/target"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// ownModel is what the caller's own model is called.
const ownModel = "model"

// leastRows is how many different rows targets are asked about, at least, and mostRows at most: enough that caches do not hold the
// paths of all.
const (
	leastRows = 4096
	mostRows  = 1 << 16
)

// prepare makes the models that runs need, with rows and the reference's answers.
func (r *runner) prepare(runs []suites.Run) error {
	rows := leastRows
	if r.Quick {
		rows = 1024
	}
	for _, run := range runs {
		if len(run.Rows) > 0 {
			rows = max(rows, 2*slices.Max(run.Rows))
		}
	}
	if rows > mostRows {
		return fmt.Errorf("the suite has requests of more than %d rows", mostRows/2)
	}
	wanted := func(name string) bool {
		return slices.ContainsFunc(runs, func(run suites.Run) bool { return slices.Contains(run.Models, name) })
	}
	if r.Model != "" {
		dir := filepath.Join(r.dir, "models", ownModel)
		file, err := copied(r.Model, dir)
		if err != nil {
			return err
		}
		return r.add(ownModel, dir, file, rows)
	}
	for _, m := range r.Suite.Models {
		if !wanted(m.Name) {
			continue
		}
		if r.Quick {
			m = smaller(m)
		}
		dir := filepath.Join(r.dir, "models", m.Name)
		file, err := m.Write(dir)
		if err != nil {
			return err
		}
		if err := r.add(m.Name, dir, file, rows); err != nil {
			return err
		}
	}
	return nil
}

// smaller is a model that is ready at once.
func smaller(m synthetic.Model) synthetic.Model {
	m.Trees, m.Depth = min(m.Trees, 20), min(m.Depth, 4)
	return m
}

// copied copies a model's file into a folder of its own.
func copied(from, dir string) (string, error) {
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	to := filepath.Join(dir, "model"+strings.ToLower(filepath.Ext(from)))
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		return "", fmt.Errorf("taking the model %s: %w", from, err)
	}
	return to, nil
}

// reference says what answers are compared with.
const reference = "each row taken through the trees of the model's file node by node, in float32 as its library does, without any of the engine's kernels"

// add adds the model in dir.
func (r *runner) add(name, dir, file string, rows int) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading model %s: %w", name, err)
	}
	e, err := ensemble.Parse(data, ensemble.Limits{})
	if err != nil {
		return fmt.Errorf("reading model %s: %w", name, err)
	}
	if e.Outputs() != 1 {
		return fmt.Errorf("model %s gives %d numbers a row; suites measure models that give one", name, e.Outputs())
	}
	values := synthetic.Rows(rows, e.NumFeature)
	answers := make([]float32, rows)
	for i := range rows {
		if err := e.Predict(values[i*e.NumFeature:(i+1)*e.NumFeature], answers[i:i+1]); err != nil {
			return fmt.Errorf("having the reference answer for model %s: %w", name, err)
		}
		if math.IsNaN(float64(answers[i])) {
			return errors.New("the reference answers with something that is no number")
		}
	}
	data32, err := tensor.New("data", tensor.FP32, tensor.MustShape(int64(rows), int64(e.NumFeature)))
	if err != nil {
		return fmt.Errorf("making rows for model %s: %w", name, err)
	}
	copy(data32.Bytes(), tensor.AsBytes(values))
	depth := 0
	for i := range e.Trees {
		depth = max(depth, e.Trees[i].Depth)
	}
	digest := sha256.Sum256(data)
	m := &target.Model{
		ModelInfo: report.ModelInfo{
			Name: name, Library: strings.ToLower(e.Library.String()), Trees: len(e.Trees), Depth: depth, Features: e.NumFeature, Outputs: 1,
			Digest: hex.EncodeToString(digest[:]), Reference: reference,
		},
		Dir: dir, File: file,
		Rows: (&protocols.Rows{Data: data32, Answers: answers}).WithText(),
	}
	r.models = append(r.models, m)
	r.result.Models = append(r.result.Models, m.ModelInfo)
	return nil
}
