//go:build !cgo || !linux

package forest

import (
	"errors"

	"github.com/picket-ml/picket/internal/ensemble"
)

// Sources fails: what lays models out for the kernels in C is not in this program.
func Sources(*ensemble.Ensemble, string) (map[string][]byte, error) {
	return nil, errors.New("engine " + EngineName + " takes a program that was built with cgo, on Linux; this one was not")
}
