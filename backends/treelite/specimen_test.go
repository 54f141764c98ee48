//go:build cgo && linux

package treelite_test

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// specimen compiles testdata/specimen.c with the macros and gives the folder of
// the artifact, with the metadata beside it unless that is empty.
func specimen(t *testing.T, metadata string, macros ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-O2", "-shared", "-fPIC", "-w", "-o", filepath.Join(dir, "compiled.so"), filepath.Join("testdata", "specimen.c")}
	for _, m := range macros {
		args = append(args, "-D"+m)
	}
	if output, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling a specimen: %v\n%s", err, output)
	}
	if metadata != "" {
		if err := os.WriteFile(filepath.Join(dir, "compiled.meta"), []byte(metadata), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The macros of a model that computes in float64.
const (
	double     = "T=double"
	doubleType = `TYPE="float64"`
)

// nan stands for a missing value and zero for an exact zero in the rows below.
var (
	nan  = float32(math.NaN())
	zero = float32(0)
)

func TestEveryInterface(t *testing.T) {
	rows := []float32{1, 2, 3, nan, 2, 3, 1, zero, -zero, 5, nan, nan}
	for name, tc := range map[string]struct {
		metadata string
		macros   []string
		output   string
		want     []float32
	}{
		"one value": {"", []string{"GENERATION=1"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"zeros are missing": {`{"Model": {"SparseInput": "1"}}`, []string{"GENERATION=1"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 111, 115}},
		"written over": {"", []string{"GENERATION=1", "QUANTISED"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"classes": {"", []string{"GENERATION=1", "CLASSES=3"}, "output FP32 [-1, 3]",
			[]float32{1.23, 2.23, 3.23, 1000.23, 1001.23, 1002.23, 1, 2, 3, 115, 116, 117}},
		"the winning class": {"", []string{"GENERATION=1", "CLASSES=3", "WINNER"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"float64": {"", []string{"GENERATION=1", double, doubleType}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"float64 classes": {"", []string{"GENERATION=1", double, doubleType, "CLASSES=2"}, "output FP32 [-1, 2]",
			[]float32{1.23, 2.23, 1000.23, 1001.23, 1, 2, 115, 116}},
		"float64, zeros are missing": {`{"Model": {"SparseInput": "1"}}`, []string{"GENERATION=1", double, doubleType}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 111, 115}},
		"float64, written over": {"", []string{"GENERATION=1", double, doubleType, "QUANTISED"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"TL2cgen": {"", []string{"GENERATION=2", "TARGETS=1"}, "output FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
		"TL2cgen, targets": {"", []string{"GENERATION=2", "TARGETS=2", "CLASSES=2"}, "output FP32 [-1, 2, 2]",
			[]float32{1.23, 2.23, 3.23, 4.23, 1000.23, 1001.23, 1002.23, 1003.23, 1, 2, 3, 4, 115, 116, 117, 118}},
		"TL2cgen, float64": {"", []string{"GENERATION=2", "TARGETS=1", "CLASSES=2", double, doubleType}, "output FP32 [-1, 2]",
			[]float32{1.23, 2.23, 1000.23, 1001.23, 1, 2, 115, 116}},
		"named": {`{"Model": {"Inputs": [{"name": "rows", "dtype": "float32", "shape": [1, 3]}], "Outputs": [{"name": "score", "dtype": "float32", "shape": [1, 1]}]}}`,
			[]string{"GENERATION=1"}, "score FP32 [-1, 1]",
			[]float32{1.23, 1000.23, 1, 115}},
	} {
		t.Run(name, func(t *testing.T) {
			m := backendtest.Open(t, treelite.New(), specimen(t, tc.metadata, tc.macros...))
			if got := m.Signature().Outputs[0].String(); got != tc.output {
				t.Fatalf("the output is %s, want %s", got, tc.output)
			}
			r := backendtest.NewRunner(t, m)
			defer r.Close()
			got := r.Run(rows)
			if len(got) != len(tc.want) {
				t.Fatalf("%d answers, want %d", len(got), len(tc.want))
			}
			for i, want := range tc.want {
				if math.Abs(float64(got[i])-float64(want)) > 1e-6*math.Abs(float64(want)) {
					t.Errorf("answer %d is %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

func TestFloat64OutputOnRequest(t *testing.T) {
	m := backendtest.Open(t, treelite.New(), specimen(t,
		`{"Model": {"Outputs": [{"name": "score", "dtype": "float64", "shape": [-1, 1]}]}}`, "GENERATION=1", double, doubleType))
	if got, want := m.Signature().Outputs[0].String(), "score FP64 [-1, 1]"; got != want {
		t.Fatalf("the output is %s, want %s", got, want)
	}
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, err := tensor.New("data", tensor.FP32, tensor.MustShape(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Buffer.Release()
	out, err := tensor.New("score", tensor.FP64, tensor.MustShape(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Buffer.Release()
	values, err := tensor.View[float32](in)
	if err != nil {
		t.Fatal(err)
	}
	copy(values, []float32{0.25, 0, 1.5})
	if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 1); err != nil {
		t.Fatal(err)
	}
	got, err := tensor.View[float64](out)
	if err != nil {
		t.Fatal(err)
	}
	weight := float64(1)
	weight /= 10
	weight /= 10
	if want := 0.25 + weight*1.5; got[0] != want {
		t.Errorf("the answer is %v, want %v", got[0], want)
	}
}

func TestRefusesImpossibleModels(t *testing.T) {
	for name, tc := range map[string]struct {
		metadata string
		macros   []string
		kind     error
		say      string
	}{
		"no features":       {"", []string{"GENERATION=1", "FEATURES=0"}, engine.ErrArtifact, "compiled.so takes no features"},
		"too many features": {"", []string{"GENERATION=1", "FEATURES=99999999"}, engine.ErrArtifact, "claims to take 99999999 features, the limit is"},
		"negative features": {"", []string{"GENERATION=1", "FEATURES=-1"}, engine.ErrArtifact, "claims to take 18446744073709551615 features"},
		"no classes":        {"", []string{"GENERATION=1", "CLASSES=0"}, engine.ErrArtifact, "gives no output"},
		"too many classes":  {"", []string{"GENERATION=1", "CLASSES=99999999"}, engine.ErrArtifact, "claims to give 99999999 values a row"},
		"no targets":        {"", []string{"GENERATION=2", "TARGETS=0"}, engine.ErrArtifact, "gives no output"},
		"too many targets":  {"", []string{"GENERATION=2", "TARGETS=9999999"}, engine.ErrArtifact, "claims to have 9999999 targets"},
		"negative targets":  {"", []string{"GENERATION=2", "TARGETS=-1"}, engine.ErrArtifact, "gives no output"},
		"counted leaves":    {"", []string{"GENERATION=1", `LEAF="uint32"`}, engine.ErrUnsupported, `compares in "float32" and answers in "uint32"`},
		"a null type":       {"", []string{"GENERATION=1", "LEAF=NULL"}, engine.ErrUnsupported, `answers in ""`},
		"other features": {`{"Model": {"Inputs": [{"name": "data", "dtype": "float32", "shape": [-1, 4]}]}}`,
			[]string{"GENERATION=1"}, engine.ErrArtifact, "has 4 values a row; the library has 3"},
		"another output": {`{"Model": {"Outputs": [{"name": "score", "dtype": "float64", "shape": [-1, 1]}]}}`,
			[]string{"GENERATION=1"}, engine.ErrArtifact, "is FP64; the library's is FP32"},
		"a missing library": {"", []string{"GENERATION=1", "FEATURES=3"}, engine.ErrHost, "libabsent.so"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := specimen(t, tc.metadata, tc.macros...)
			if name == "a missing library" {
				needAbsentLibrary(t, dir)
			}
			m, err := treelite.New().Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
			if err == nil {
				m.Close()
				t.Fatal("the artifact was opened")
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("want %v that says %q, got: %v", tc.kind, tc.say, err)
			}
		})
	}
}

// needAbsentLibrary links the specimen again, against a library that is then
// taken away.
func needAbsentLibrary(t *testing.T, dir string) {
	t.Helper()
	absent := t.TempDir()
	for _, args := range [][]string{
		{"-shared", "-fPIC", "-w", "-DGENERATION=2", "-DTARGETS=1", "-Wl,-soname,libabsent.so", "-o", filepath.Join(absent, "libabsent.so"), filepath.Join("testdata", "specimen.c")},
		{"-shared", "-fPIC", "-w", "-DGENERATION=1", "-Wl,--no-as-needed", "-L" + absent, "-o", filepath.Join(dir, "compiled.so"), filepath.Join("testdata", "specimen.c"), "-labsent"},
	} {
		if output, err := exec.Command("cc", args...).CombinedOutput(); err != nil {
			t.Fatalf("linking: %v\n%s", err, output)
		}
	}
}

func TestRefusesFickleModel(t *testing.T) {
	m := backendtest.Open(t, treelite.New(), specimen(t, "", "GENERATION=1", "CLASSES=3", "FICKLE"))
	i, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	in, err := tensor.New("data", tensor.FP32, tensor.MustShape(2, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Buffer.Release()
	out, err := tensor.New("output", tensor.FP32, tensor.MustShape(2, 3))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Buffer.Release()
	values, err := tensor.View[float32](in)
	if err != nil {
		t.Fatal(err)
	}
	copy(values, []float32{nan, 0, 0, 1, 0, 0})
	err = i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 2)
	if !errors.Is(err, engine.ErrRun) || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("a model that gives other numbers of values row by row: %v", err)
	}
	if err := i.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, 3); !errors.Is(err, engine.ErrInvalidInput) {
		t.Errorf("tensors that are too small: %v", err)
	}
}
