package testkit

import (
	"encoding/json"
	"os"
	"testing"
)

// Model is a committed model file with the answers of the library that wrote it, or of ONNX Runtime.
type Model struct {
	// Name is unique and ends in the library's version: "binary-1.7.6".
	Name string `json:"name"`
	// Library is "xgboost", "lightgbm" or "onnx"; Version is that of ONNX Runtime there.
	Library string `json:"library"`
	Version string `json:"version"`
	// Objective is the training objective in the library's own words; for ONNX what was converted.
	Objective string `json:"objective"`
	// Features and Rows say which rows the answers are for: Rows(Rows, Features).
	Features int `json:"features"`
	Rows     int `json:"rows"`
	// Margins and Outputs are the values per row in Margin and in Prediction.
	Margins int `json:"margins"`
	Outputs int `json:"outputs"`
	// Files are the same model in each committed format, told by extension: .json,
	// .ubj, .deprecated.model (XGBoost's old binary format), .txt (LightGBM) or .onnx.
	Files []string `json:"files"`
	// Margin and Prediction are fixtures for ReadF32, or ReadF64 for LightGBM:
	// the raw score and the transformed one, row-major. They are the same file
	// when the objective transforms nothing.
	Margin     string `json:"margin"`
	Prediction string `json:"prediction"`
	// Contributions is a fixture for ReadF32 with what the library says that the features contribute to the margins of the
	// first 40 rows: per row and margin one value for each feature, then the bias. Empty where nobody asked it.
	Contributions string `json:"contributions"`
	// Note says what is particular about the model.
	Note string `json:"note"`
}

// Artifact is a committed artifact folder compiled from a Model.
type Artifact struct {
	// Name is the folder's name: "fraud-tl0.93".
	Name string `json:"name"`
	// Dir is the folder, for Path.
	Dir string `json:"dir"`
	// Tool is "treelite" or "tl2cgen".
	Tool    string `json:"tool"`
	Version string `json:"version"`
	// Model is the Name of the Model it was compiled from.
	Model string `json:"model"`
	// Parallel is Treelite's parallel_comp: into how many parts the sum is split,
	// 0 for a plain sum.
	Parallel int `json:"parallel"`
	// Meta is whether the folder has a compiled.meta.
	Meta bool `json:"meta"`
}

// Models lists the committed models, ordered by name.
func Models(t testing.TB) []Model {
	t.Helper()
	return readIndex[Model](t, "models/index.json")
}

// Artifacts lists the committed Treelite and TL2cgen artifacts, ordered by name.
func Artifacts(t testing.TB) []Artifact {
	t.Helper()
	return readIndex[Artifact](t, "treelite/index.json")
}

// ModelNamed returns the Model of that name, and fails the test when there is none.
func ModelNamed(t testing.TB, name string) Model {
	t.Helper()
	for _, m := range Models(t) {
		if m.Name == name {
			return m
		}
	}
	t.Fatalf("no fixture model is called %q (testdata/models/index.json lists them)", name)
	return Model{}
}

func readIndex[T any](t testing.TB, name string) []T {
	t.Helper()
	data, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatalf("reading fixture list: %v", err)
	}
	var list []T
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("fixture list %s: %v", name, err)
	}
	return list
}
