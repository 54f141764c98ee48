package neo

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// newerTVM is what the names of all functions begin with in a library of TVM since
// it has its foreign function interface: other parameters, and no graph.
const newerTVM = "__tvm_ffi_"

// CheckNewerTVM refuses, by name, a library that was made by a TVM later than those
// of graphs and Relay VM programs. The error wraps engine.ErrArtifact, because
// nothing here can run it.
func CheckNewerTVM(o *dl.Object) error {
	if !slices.ContainsFunc(o.Exported, func(name string) bool { return strings.HasPrefix(name, newerTVM) }) {
		return nil
	}
	return fmt.Errorf("%w: %s was compiled by TVM 0.20 or later, whose functions (%s...) have an interface of their own that no backend here calls; "+
		"compile the model with TVM 0.19 or earlier for the graph executor, or serve its ONNX file", engine.ErrArtifact, o.Name, newerTVM)
}
