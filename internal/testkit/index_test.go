package testkit

import (
	"debug/elf"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// maxTestdata keeps the repository quick to clone.
const maxTestdata = 2_600_000

func TestModelsHaveTheirFilesAndAnswers(t *testing.T) {
	models := Models(t)
	if len(models) < 40 {
		t.Fatalf("only %d models are listed", len(models))
	}
	for _, m := range models {
		t.Run(m.Name, func(t *testing.T) {
			if len(m.Files) == 0 {
				t.Error("no model file")
			}
			for _, f := range m.Files {
				Path(t, f)
			}
			if got, want := valueCount(t, m.Margin), m.Rows*m.Margins; got != want {
				t.Errorf("%s holds %d values, want %d rows of %d", m.Margin, got, m.Rows, m.Margins)
			}
			if got, want := valueCount(t, m.Prediction), m.Rows*m.Outputs; got != want {
				t.Errorf("%s holds %d values, want %d rows of %d", m.Prediction, got, m.Rows, m.Outputs)
			}
		})
	}
}

// valueCount counts the values of a fixture, none of which may be NaN.
func valueCount(t *testing.T, name string) int {
	t.Helper()
	if strings.HasSuffix(name, ".f64") {
		values := ReadF64(t, name)
		for i, v := range values {
			if v != v {
				t.Fatalf("value %d of %s is NaN", i, name)
			}
		}
		return len(values)
	}
	values := ReadF32(t, name)
	for i, v := range values {
		if v != v {
			t.Fatalf("value %d of %s is NaN", i, name)
		}
	}
	return len(values)
}

func TestArtifactsAreX86LibrariesOfAModel(t *testing.T) {
	artifacts := Artifacts(t)
	if len(artifacts) < 15 {
		t.Fatalf("only %d artifacts are listed", len(artifacts))
	}
	for _, a := range artifacts {
		t.Run(a.Name, func(t *testing.T) {
			ModelNamed(t, a.Model)
			f, err := elf.Open(Path(t, a.Dir+"/compiled.so"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_DYN {
				t.Errorf("compiled.so is %v, %v", f.Machine, f.Type)
			}
			_, err = os.Stat(filepath.Join(Path(t, a.Dir), "compiled.meta"))
			if (err == nil) != a.Meta {
				t.Errorf("compiled.meta is listed as present: %v, but stat says %v", a.Meta, err)
			}
		})
	}
}

// Every committed file is known: a fixture nobody can explain is a fixture nobody dares to delete.
func TestEveryFixtureIsListed(t *testing.T) {
	known := map[string]bool{"README.md": true, "models/index.json": true, "treelite/index.json": true}
	for _, m := range Models(t) {
		known[m.Margin], known[m.Prediction], known[m.Contributions] = true, true, true
		for _, f := range m.Files {
			known[f] = true
		}
	}
	for _, a := range Artifacts(t) {
		known[a.Dir+"/compiled.so"] = true
		known[a.Dir+"/compiled.meta"] = a.Meta
	}
	for dir, data := range tvmFixtures {
		for _, f := range append([]string{"compiled.so", "compiled_model.json", "compiled.params", "compiled.meta"}, data...) {
			known["tvm/"+dir+"/"+f] = true
		}
	}
	root := filepath.Dir(Path(t, "README.md"))
	var total int64
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		total += info.Size()
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if !known[filepath.ToSlash(rel)] {
			t.Errorf("%s is in testdata but in no list", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > maxTestdata {
		t.Errorf("testdata holds %d bytes, more than %d", total, maxTestdata)
	}
}

// tvmFixtures are the artifacts of TVM, with their data.
var tvmFixtures = map[string][]string{
	"mlp_b1-v3":  {"input.f32", "expected.f32"},
	"mlp_b1-v4":  {"input.f32", "expected.f32"},
	"mlp_b1-a64": {"input.f32", "expected.f32"},
	"mlp_b16-v3": {"input.f32", "expected.f32"},
	"cnn-v3":     {"input.f32", "expected.f32"},
	"mixed-v3":   {"scale.f16", "ids.i32", "image.u8", "scores.f32", "best.i64", "rows.i8"},
}

func TestTVMFixturesHoldOneAnswerPerInput(t *testing.T) {
	for dir, row := range map[string]struct{ rows, in, out int }{
		"mlp_b1-v3": {64, 30, 1}, "mlp_b1-v4": {64, 30, 1}, "mlp_b1-a64": {80, 12, 3}, "mlp_b16-v3": {80, 12, 3}, "cnn-v3": {4, 3 * 32 * 32, 10},
	} {
		in, out := ReadF32(t, "tvm/"+dir+"/input.f32"), ReadF32(t, "tvm/"+dir+"/expected.f32")
		if len(in) != row.rows*row.in || len(out) != row.rows*row.out {
			t.Errorf("%s has %d input and %d output values, want %d rows of %d and %d", dir, len(in), len(out), row.rows, row.in, row.out)
		}
	}
}
