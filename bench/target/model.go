package target

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/picket-ml/picket/bench/protocols"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/bench/synthetic"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// reference says what answers are compared with.
const reference = "each row taken through the trees of the model's file node by node, in float32 as its library does, without any of the engine's kernels"

// ReadModel reads the model in a file, which is all that dir holds, and has the reference answer so many random rows.
func ReadModel(name, dir, file string, rows int) (*Model, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading model %s: %w", name, err)
	}
	e, err := ensemble.Parse(data, ensemble.Limits{})
	if err != nil {
		return nil, fmt.Errorf("reading model %s: %w", name, err)
	}
	if e.Outputs() != 1 {
		return nil, fmt.Errorf("model %s gives %d numbers a row; suites measure models that give one", name, e.Outputs())
	}
	values := synthetic.Rows(rows, e.NumFeature)
	answers := make([]float32, rows)
	for i := range rows {
		if err := e.Predict(values[i*e.NumFeature:(i+1)*e.NumFeature], answers[i:i+1]); err != nil {
			return nil, fmt.Errorf("having the reference answer for model %s: %w", name, err)
		}
		if math.IsNaN(float64(answers[i])) {
			return nil, errors.New("the reference answers with something that is no number")
		}
	}
	data32, err := tensor.New("data", tensor.FP32, tensor.MustShape(int64(rows), int64(e.NumFeature)))
	if err != nil {
		return nil, fmt.Errorf("making rows for model %s: %w", name, err)
	}
	copy(data32.Bytes(), tensor.AsBytes(values))
	depth := 0
	for i := range e.Trees {
		depth = max(depth, e.Trees[i].Depth)
	}
	digest := sha256.Sum256(data)
	return &Model{
		ModelInfo: report.ModelInfo{
			Name: name, Library: strings.ToLower(e.Library.String()), Trees: len(e.Trees), Depth: depth, Features: e.NumFeature, Outputs: 1,
			Digest: hex.EncodeToString(digest[:]), Reference: reference,
		},
		Dir: dir, File: file,
		Rows: (&protocols.Rows{Data: data32, Answers: answers}).WithText(),
	}, nil
}
