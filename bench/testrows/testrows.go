// Package testrows gives benchmarks the rows they measure models with.
package testrows

import (
	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// New is models.TestRows rows for a model of that many features, with 5% of the
// values missing. Exact zeros are replaced by 1e-40, because libdlr 1.6 would
// take them for missing and walk other paths.
func New(features int) (tensor.Tensor, error) {
	t, err := tensor.New("data", tensor.FP32, tensor.MustShape(models.TestRows, int64(features)))
	if err != nil {
		return t, err
	}
	copy(t.Bytes(), tensor.AsBytes(testkit.RowsNoZeros(models.TestRows, features)))
	return t, nil
}
