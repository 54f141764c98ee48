package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/packaging"
)

// model is what training made.
type model struct {
	// File is the model file, below the run's folder; empty for a model that is not of trees, which only Neo can compile.
	File    string `json:"file"`
	SHA256  string `json:"sha256"`
	Library string `json:"library"`
	// Features and Trees are the model's.
	Features int `json:"features"`
	Trees    int `json:"trees"`
	// URI is the archive in S3, of a model that SageMaker trained.
	URI string `json:"uri,omitempty"`
}

// whole tells whether the model file is the one on record.
func (m *model) whole(ctx context.Context, r *run) bool {
	if m.File == "" {
		return m.URI != ""
	}
	digest, err := digestFile(ctx, r.path(m.File))
	return err == nil && digest == m.SHA256
}

// takeArchive fetches an archive that SageMaker has left in S3 and unpacks it into a folder of the run. Nothing in it is
// believed: plain files below the folder, in bounded number and size, or nothing.
func (r *run) takeArchive(ctx context.Context, step, uri, name string) error {
	from, err := parseLocation(uri)
	if err != nil {
		return err
	}
	dir, err := r.fresh(name)
	if err != nil {
		return err
	}
	archive, err := r.fetch(ctx, step, from, filepath.Join("archives", name))
	if err != nil {
		return err
	}
	defer func() { _ = removeAll(filepath.Dir(archive)) }() // what is left is removed the next time
	if err := unpack(ctx, archive, dir); err != nil {
		return fmt.Errorf("unpacking %s: %w", uri, errors.Join(err, removeAll(dir)))
	}
	_, err = r.keep(name)
	return err
}

// unpack unpacks an archive of others.
func unpack(ctx context.Context, archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	digest, err := packaging.DigestOfFile(ctx, f)
	if err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	_, err = packaging.UnpackOld(ctx, f, digest, root)
	return err
}

// maxModel bounds a model file that is read whole.
const maxModel = 2 << 30

// findModel finds the model file among what training left in a folder below the run's.
func (r *run) findModel(ctx context.Context, below string) (model, error) {
	if name := r.spec.Training.Model; name != "" {
		return r.readModel(ctx, filepath.Join(below, name))
	}
	files, err := listFiles(r.path(below))
	if err != nil {
		return model{}, fmt.Errorf("looking for the model that training has left: %w", err)
	}
	var found []model
	var refused []string
	for _, f := range files {
		if strings.Contains(f.Path, "/") {
			continue // a container leaves its program in a folder
		}
		m, err := r.readModel(ctx, filepath.Join(below, f.Path))
		if ctx.Err() != nil {
			return model{}, context.Cause(ctx)
		}
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		found = append(found, m)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return model{}, fmt.Errorf("training has left %d model files, %s and %s among them: name the one to use as training.model", len(found), filepath.Base(found[0].File), filepath.Base(found[1].File))
	case onlyNeo(r.targets()):
		return model{}, nil // Neo compiles what is no forest
	case len(refused) == 0:
		return model{}, errors.New("training has left no model file")
	}
	return model{}, fmt.Errorf("training has left no model of trees: %s", strings.Join(refused, "; "))
}

func onlyNeo(targets []Target) bool {
	for _, t := range targets {
		if t.With == withLocal {
			return false
		}
	}
	return true
}

func (r *run) readModel(ctx context.Context, name string) (model, error) {
	f, err := os.Open(r.path(name))
	if err != nil {
		return model{}, fmt.Errorf("opening the model that training has left: %w", err)
	}
	defer f.Close()
	e, err := ensemble.Read(io.LimitReader(contextReader{ctx, f}, maxModel), ensemble.Limits{})
	if err != nil {
		return model{}, fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	digest, err := digestFile(ctx, r.path(name))
	return model{File: name, SHA256: digest, Library: e.Library.String(), Features: e.NumFeature, Trees: len(e.Trees)}, err
}
