package models

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"github.com/picket-ml/picket/bench/source"
	"github.com/picket-ml/picket/tensor"
)

// The libraries that train models.
const (
	XGBoost  = "xgboost"
	LightGBM = "lightgbm"
	ONNX     = "onnx" // of those that need not be trained: a forest that was converted
)

// Spec says how a model is trained.
type Spec struct {
	Name     string
	Library  string // XGBoost or LightGBM
	Trees    int    // rounds; a model of several classes has a tree per round and class
	Size     int    // depth with XGBoost, leaves with LightGBM
	Features int
	Classes  int // 2 makes a binary model, of one output
	// File is the model where it need not be trained: it is there already. Its name tells its form.
	File string
}

// Specs are the models that forests are measured with: the usual size first, then smaller, larger, of ragged trees, of more
// leaves than a byte numbers, of several classes, and one that no second-level cache holds.
func Specs() []Spec {
	return []Spec{
		{Name: "500x6x30", Library: XGBoost, Trees: 500, Size: 6, Features: 30, Classes: 2},
		{Name: "100x4x30", Library: XGBoost, Trees: 100, Size: 4, Features: 30, Classes: 2},
		{Name: "1000x8x100", Library: XGBoost, Trees: 1000, Size: 8, Features: 100, Classes: 2},
		{Name: "lightgbm-300x63", Library: LightGBM, Trees: 300, Size: 63, Features: 30, Classes: 2},
		{Name: "lightgbm-200x255", Library: LightGBM, Trees: 200, Size: 255, Features: 30, Classes: 2},
		{Name: "4class-200x6x30", Library: XGBoost, Trees: 200, Size: 6, Features: 30, Classes: 4},
		{Name: "5000x6x30", Library: XGBoost, Trees: 5000, Size: 6, Features: 30, Classes: 2},
	}
}

// Outputs is how many values the model gives for a row.
func (s Spec) Outputs() int {
	if s.Classes == 2 {
		return 1
	}
	return s.Classes
}

// Train trains the model unless that was done before, and gives the path of its file.
func (s Spec) Train(ctx context.Context) (string, error) {
	if s.File != "" {
		return s.File, nil
	}
	train := exec.CommandContext(ctx, filepath.Join(source.Root(), "bench/models/train.sh"),
		s.Name, s.Library, strconv.Itoa(s.Trees), strconv.Itoa(s.Size), strconv.Itoa(s.Features), strconv.Itoa(s.Classes))
	train.Stderr = os.Stderr
	if err := train.Run(); err != nil {
		return "", fmt.Errorf("training model %s: %w", s.Name, err)
	}
	return s.path(), nil
}

// Answers trains the model if need be and gives what the library that trained it answers to rows, Features values each: Outputs
// values a row.
func (s Spec) Answers(ctx context.Context, rows []float32) ([]float32, error) {
	trained, err := s.Train(ctx)
	if err != nil {
		return nil, err
	}
	predict := exec.CommandContext(ctx, filepath.Join(source.Root(), "bench/models/predict.sh"), s.Library, trained, strconv.Itoa(s.Features))
	predict.Stdin, predict.Stderr = bytes.NewReader(tensor.AsBytes(rows)), os.Stderr
	out, err := predict.Output()
	if err != nil {
		return nil, fmt.Errorf("having %s answer for model %s: %w", s.Library, s.Name, err)
	}
	answers := make([]float32, len(rows)/s.Features*s.Outputs())
	if len(out) != 4*len(answers) {
		return nil, fmt.Errorf("%s gave %d bytes of answers for model %s instead of %d", s.Library, len(out), s.Name, 4*len(answers))
	}
	copy(tensor.AsBytes(answers), out)
	return answers, nil
}

// Trained reports whether the model was trained before.
func (s Spec) Trained() bool {
	_, err := os.Stat(s.path())
	return err == nil
}

func (s Spec) path() string {
	extension := ".ubj"
	if s.Library == LightGBM {
		extension = ".txt"
	}
	return filepath.Join(Cache(), s.Name+extension)
}

// Folder trains the model if need be and gives a folder that holds just its file.
func (s Spec) Folder(ctx context.Context) (string, error) {
	trained, err := s.Train(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(Cache(), "files", s.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	link := filepath.Join(dir, "model"+filepath.Ext(trained))
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	// Not a symbolic link: backends do not follow them out of the folder.
	if err := os.Link(trained, link); err != nil {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	return dir, nil
}

// Compiled trains the model if need be and gives its artifact by picket compile, which is made once: delete the folder to have
// it made again.
func (s Spec) Compiled(ctx context.Context) (Model, error) {
	trained, err := s.Train(ctx)
	if err != nil {
		return Model{}, err
	}
	m, err := compiled(ctx, s.Name, trained, false)
	m.Features = s.Features
	return m, err
}

// ArtifactFolder is where Compiled puts the artifact.
func (s Spec) ArtifactFolder(ctx context.Context) string {
	_, dir := artifact(ctx, s.Name)
	return dir
}
