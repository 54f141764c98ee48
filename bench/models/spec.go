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

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// The libraries that train models.
const (
	XGBoost  = "xgboost"
	LightGBM = "lightgbm"
)

// Spec says how a model is trained.
type Spec struct {
	Name     string
	Library  string // XGBoost or LightGBM
	Trees    int    // rounds; a model of several classes has a tree per round and class
	Size     int    // depth with XGBoost, leaves with LightGBM
	Features int
	Classes  int // 2 makes a binary model, of one output
}

// Specs are the models that forests are measured with: the usual size first, then smaller, larger, of ragged trees, of more
// leaves than a byte numbers, of several classes, and one that no second-level cache holds.
func Specs() []Spec {
	return []Spec{
		{"500x6x30", XGBoost, 500, 6, 30, 2},
		{"100x4x30", XGBoost, 100, 4, 30, 2},
		{"1000x8x100", XGBoost, 1000, 8, 100, 2},
		{"lightgbm-300x63", LightGBM, 300, 63, 30, 2},
		{"lightgbm-200x255", LightGBM, 200, 255, 30, 2},
		{"4class-200x6x30", XGBoost, 200, 6, 30, 4},
		{"5000x6x30", XGBoost, 5000, 6, 30, 2},
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
	train := exec.CommandContext(ctx, filepath.Join(testkit.ModuleRoot(), "bench/models/train.sh"),
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
	source, err := s.Train(ctx)
	if err != nil {
		return nil, err
	}
	predict := exec.CommandContext(ctx, filepath.Join(testkit.ModuleRoot(), "bench/models/predict.sh"), s.Library, source, strconv.Itoa(s.Features))
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
	source, err := s.Train(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(Cache(), "files", s.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	link := filepath.Join(dir, "model"+filepath.Ext(source))
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	// Not a symbolic link: backends do not follow them out of the folder.
	if err := os.Link(source, link); err != nil {
		return "", fmt.Errorf("making a folder for model %s: %w", s.Name, err)
	}
	return dir, nil
}

// Compiled trains the model if need be and gives its artifact by picket compile, which is made once: delete the folder to have
// it made again.
func (s Spec) Compiled(ctx context.Context) (Model, error) {
	source, err := s.Train(ctx)
	if err != nil {
		return Model{}, err
	}
	m, err := compiled(ctx, s.Name, source, false)
	m.Features = s.Features
	return m, err
}

// ArtifactFolder is where Compiled puts the artifact.
func (s Spec) ArtifactFolder(ctx context.Context) string {
	_, dir := artifact(ctx, s.Name)
	return dir
}
