package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/suites"
	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/bench/target"
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

// add adds the model in dir.
func (r *runner) add(name, dir, file string, rows int) error {
	m, err := target.ReadModel(name, dir, file, rows)
	if err != nil {
		return err
	}
	r.models = append(r.models, m)
	r.result.Models = append(r.result.Models, m.ModelInfo)
	return nil
}
