//go:build !(linux && cgo)

package gpu

import (
	"context"
	"errors"
)

// Watch cannot exist in this build.
type Watch struct{}

// Open says why.
func Open(Options) (*Watch, error) {
	return nil, errors.New("watching GPUs: this program was built without cgo or for another system than Linux, and NVML needs both")
}

// Run does nothing.
func (*Watch) Run(context.Context) {}

// States are none.
func (*Watch) States() []State { return nil }
