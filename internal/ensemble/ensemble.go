package ensemble

// Library is the training library that wrote a model; it decides the arithmetic.
type Library uint8

// The libraries whose models are read.
const (
	XGBoost  Library = iota + 1 // float32 thresholds, leaves and sums
	LightGBM                    // float64 thresholds, leaves and sums
	ONNX                        // as ONNX Runtime computes: float32, or float64 where Ensemble.Double says so
)

// String names the library as its users spell it.
func (l Library) String() string {
	switch l {
	case XGBoost:
		return "XGBoost"
	case LightGBM:
		return "LightGBM"
	case ONNX:
		return "ONNX"
	}
	return "unknown library"
}

// Ensemble is a trained forest. It is immutable once read; any number of goroutines may use it.
type Ensemble struct {
	Library Library
	Format  string // "json", "ubjson", "binary", "text" or "onnx": how the file was written
	Version string // of the library (XGBoost "1.7.6"), the format (LightGBM "v4") or the converter (ONNX "skl2onnx 1.18.0"); empty when the file does not say
	Booster string // "gbtree", "dart", "gbdt", "rf"; ONNX: the operator

	// Double says that an ONNX model compares and adds in float64. Ask [Ensemble.Wide], which knows the libraries.
	Double bool

	NumFeature   int      // columns of a row
	FeatureNames []string // NumFeature names, or none
	FeatureTypes []string // NumFeature types as XGBoost writes them ("float", "int", "i", "q", "c"), or none

	ClassLabels []string // ONNX classifiers: the label of each class (of both, where one margin decides between two), else none

	Groups        int // margins per row; tree t adds to group Trees[t].Group
	Classes       int // classes of a multi-class model, else 0 (binary and regression models have one group and no class)
	Targets       int // labels per row; 1 except for multi-target models
	ParallelTrees int // trees per group and boosting round (XGBoost's num_parallel_tree), else 1

	Objective Objective

	// BaseScore is the intercept per group as the file gives it, in the space of the label; BaseMargin the same in
	// the space of the margin, where sums start. Both have Groups elements. LightGBM has none: zeros. ONNX, and
	// XGBoost's binary files from before 1.0, give margins only: then both are the same.
	BaseScore  []float32
	BaseMargin []float32

	// BaseLast says that the base margin is added to the sum of the leaves, as XGBoost did before 1.3 (dart: before
	// 1.4) and ONNX Runtime does. Otherwise the leaves are added to the base margin one by one. The two differ in the last bits.
	BaseLast bool

	// Average is LightGBM's average_output: predictions divide the sum by the number of rounds before the transform.
	// Margins stay sums, as LightGBM's raw score does.
	Average bool

	// Trees in the order in which a group's leaf values are added.
	Trees []Tree
}

// Wide says whether leaf values are float64 and added in float64, as opposed to float32.
func (e *Ensemble) Wide() bool { return e.Library == LightGBM || e.Double }

// Rounds is the number of trees each group has, which is what an averaging model divides by.
func (e *Ensemble) Rounds() int { return len(e.Trees) / e.Groups }

// Nodes counts the nodes of all trees, leaves and unreachable ones included.
func (e *Ensemble) Nodes() int {
	n := 0
	for i := range e.Trees {
		n += len(e.Trees[i].Nodes)
	}
	return n
}

// Categorical says whether any split tests membership in a set of categories.
func (e *Ensemble) Categorical() bool {
	for i := range e.Trees {
		if len(e.Trees[i].Categories) > 0 {
			return true
		}
	}
	return false
}

// Outputs is how many values [Ensemble.Predict] gives per row.
func (e *Ensemble) Outputs() int {
	if e.Objective.Transform == MaxIndex {
		return 1
	}
	return e.Groups
}
