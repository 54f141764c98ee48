package treelite

import (
	"fmt"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Limits on what a library may say of itself. The widest models met in practice
// have some ten thousand features; beyond these the numbers are damage, and
// memory for them would be taken before anyone noticed.
const (
	maxFeatures = 1 << 20
	maxClasses  = 1 << 16
	maxTargets  = 1 << 12
)

// facts are what a library says of itself.
type facts struct {
	generation generation
	features   uint64
	// targets is 1 but for TL2cgen; classes is the largest number of classes of
	// a target, 1 where the model gives one number.
	targets, classes uint64
	// wide is set where thresholds and leaves are float64.
	wide bool
	// width is how many values predict gives a row: targets x classes, or less
	// for a model that gives the winning class only.
	width uint64
}

// check refuses numbers that no model has.
func (f facts) check(library string) error {
	problem := ""
	switch {
	case f.features == 0:
		problem = "takes no features"
	case f.features > maxFeatures:
		problem = fmt.Sprintf("claims to take %d features, the limit is %d", f.features, maxFeatures)
	case f.targets == 0 || f.classes == 0:
		problem = "gives no output"
	case f.targets > maxTargets:
		problem = fmt.Sprintf("claims to have %d targets, the limit is %d", f.targets, maxTargets)
	case f.classes > maxClasses || f.targets*f.classes > maxClasses:
		problem = fmt.Sprintf("claims to give %d values a row, the limit is %d", f.targets*f.classes, maxClasses)
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %s", engine.ErrArtifact, library, problem)
}

// setTypes reads the type names of thresholds and leaves.
func (f *facts) setTypes(library, threshold, leaf string) error {
	if threshold == leaf && (threshold == "float32" || threshold == "float64") {
		f.wide = threshold == "float64"
		return nil
	}
	return fmt.Errorf("%w: %s compares in %q and answers in %q; both must be float32 or both float64",
		engine.ErrUnsupported, library, threshold, leaf)
}

// signature is what the model takes and gives.
func (f facts) signature(m neo.Metadata) (engine.Signature, error) {
	d := tensor.FP32
	if f.wide && len(m.Outputs) == 1 && m.Outputs[0].DType == tensor.FP64 {
		d = tensor.FP64
	}
	if f.targets > 1 {
		return m.TreeSignature(int64(f.features), d, int64(f.targets), int64(f.classes))
	}
	return m.TreeSignature(int64(f.features), d, int64(f.width))
}
