package treelite

import (
	"fmt"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// generation is one of the interfaces that compiled tree models have had.
type generation int

const (
	// treelite0: size_t get_num_output_group(), size_t get_num_feature();
	// everything is float32.
	treelite0 generation = iota + 1
	// treelite1: size_t get_num_class(), size_t get_num_feature(), and the types
	// by name from get_threshold_type() and get_leaf_output_type().
	treelite1
	// tl2cgen1: int32_t get_num_target(), void get_num_class(int32_t *),
	// int32_t get_num_feature(), types as above; predict adds into its result.
	tl2cgen1
)

// String is the generation as a message names it.
func (g generation) String() string {
	switch g {
	case treelite0:
		return "Treelite 0.x"
	case treelite1:
		return "Treelite 1.0 to 3.9"
	case tl2cgen1:
		return "TL2cgen 1.0"
	}
	return "unknown"
}

// generationOf recognises the interface by what the library exports.
func generationOf(object *dl.Object) (generation, error) {
	g := treelite0
	// What the runtime of the generation would not load without. For the second
	// it is more than we call: it keeps a library from being taken for one of
	// a generation whose functions have the same names and other parameters.
	var want []string
	switch {
	case object.Exports("get_num_target"):
		g, want = tl2cgen1, []string{"get_num_class", "get_num_feature", "get_threshold_type", "get_leaf_output_type", "predict"}
	case object.Exports("get_num_class"):
		g = treelite1
		want = []string{"get_num_feature", "get_threshold_type", "get_leaf_output_type", "get_pred_transform", "get_sigmoid_alpha", "get_global_bias"}
	case object.Exports("get_num_output_group"):
		want = []string{"get_num_feature"}
	default:
		if err := neo.CheckNewerTVM(object); err != nil {
			return 0, err
		}
		return 0, fmt.Errorf("%w: %s exports none of get_num_output_group, get_num_class and get_num_target, so it is not a tree model that Treelite or TL2cgen compiled",
			engine.ErrArtifact, object.Name)
	}
	err := object.Require(want...)
	if err == nil {
		err = object.RequireAny("predict", "predict_multiclass")
	}
	if err != nil {
		return 0, fmt.Errorf("%w: made for %s, %w", engine.ErrArtifact, g, err)
	}
	return g, nil
}

// notTrees says why a folder of another kind is none of ours.
func notTrees(kind neo.Kind) error {
	return fmt.Errorf("%w: the folder holds %s; the treelite backend runs compiled tree models, a .so beside no .params or .ro", engine.ErrArtifact, kind)
}
