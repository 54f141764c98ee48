package backends_test

import (
	"slices"
	"testing"

	"github.com/picket-ml/picket/backends"
)

// TestAll pins names and order: configurations use the one, ties the other.
func TestAll(t *testing.T) {
	var names []string
	for _, b := range backends.All(backends.Options{}) {
		names = append(names, b.Name())
	}
	if want := []string{"treelite", "forest", "cuda", "tvm", "onnx", "dlr"}; !slices.Equal(names, want) {
		t.Errorf("the backends are %v, want %v", names, want)
	}
}
