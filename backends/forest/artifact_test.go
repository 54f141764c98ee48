//go:build cgo && linux

package forest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging/compile"
)

// carried are models of each kind that kernels tell apart: registers, depths, widths, views, sets, classes.
var carried = []string{"binary-3.2.0", "fraud-1.7.6", "multi-softprob-3.2.0", "random-forest-2.1.4", "single-leaf-3.2.0", "categorical-3.2.0",
	"binary-4.7.0", "zero-as-missing-4.7.0", "categorical-4.7.0", "forest-multi-1.20.1"}

// TestArtifactKernels compiles artifacts that have one family of kernels or none, and wants the same bits of all, for which
// packaging/compile holds one of them to the trainers. An artifact that would call the plain kernel all the same is made to
// fail, wherever this host has what the family needs.
func TestArtifactKernels(t *testing.T) {
	host := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true})
	for _, name := range carried {
		f := testkit.ModelNamed(t, name)
		rows := testkit.Rows(2000, f.Features)
		t.Run(name, func(t *testing.T) {
			want := runArtifact(t, f.Files[0], nil, false, rows)
			for _, one := range families {
				if file, _, _, err := one.kernelsOf(runtime.GOARCH); err != nil || file == "" {
					continue
				}
				has := host.CPU.Features.HasAll(one.needs)
				if got := runArtifact(t, f.Files[0], []family{one}, has, rows); !slices.Equal(got, want) {
					t.Errorf("an artifact with the kernels for %s answers differently", one.name)
				}
			}
		})
	}
}

// runArtifact compiles a model with some families of kernels and answers rows with it. With alone set, there is no plain
// kernel to fall back to where the model has tables for others.
func runArtifact(t *testing.T, model string, of []family, alone bool, rows []float32) []float32 {
	t.Helper()
	const fallback = "*kernel = picket_walk;"
	dir := filepath.Join(t.TempDir(), "artifact")
	_, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, model), Out: dir, Engine: compile.Engine{
		Name: EngineName, Flags: CompilerFlags(), Sources: func(e *ensemble.Ensemble, arch string) (map[string][]byte, error) {
			files, err := sourcesFor(e, arch, of)
			if err != nil {
				return nil, err
			}
			source := files["model.c"]
			if !bytes.Contains(source, []byte(fallback)) {
				return nil, fmt.Errorf("model.c does not start from the plain kernel")
			}
			if alone && bytes.Contains(source, []byte("kernel = picket_row_")) {
				files["model.c"] = bytes.Replace(source, []byte(fallback), []byte("*kernel;"), 1)
			}
			return files, nil
		}}})
	if err != nil {
		t.Fatal(err)
	}
	r := backendtest.NewRunner(t, backendtest.Open(t, treelite.New(), dir))
	defer r.Close()
	return r.Run(rows)
}

// TestArtifactOfTheBaseline opens an artifact with all kernels on a host that has nothing beyond the baseline, by what the
// library itself says that it needs.
func TestArtifactOfTheBaseline(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("levels are a matter of x86-64")
	}
	dir := filepath.Join(t.TempDir(), "artifact")
	if _, err := compile.Run(t.Context(), compile.Options{Source: testkit.Path(t, testkit.ModelNamed(t, "binary-3.2.0").Files[0]), Out: dir,
		Engine: compile.Engine{Name: EngineName, Flags: CompilerFlags(), Sources: Sources}}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "compiled.meta")); err != nil {
		t.Fatal(err)
	}
	options := backendtest.Options()
	options.Host = &hw.Host{CPU: hw.CPU{Level: hw.X86V1, CoresAllowed: 1}}
	m, err := treelite.New().Open(t.Context(), backendtest.Artifact(t, dir), options)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestInstructionsAreChecked: what a file of kernels is compiled with, whichever compiler does it, is what an artifact asks
// the processor for; and a family of this package asks for no less, but for POPCNT, which every processor with AVX2 has.
func TestInstructionsAreChecked(t *testing.T) {
	byClang := regexp.MustCompile(`target\("([a-z0-9,]+)"\)\)\)`)
	found := 0
	for _, f := range families {
		for _, arch := range []string{"amd64", "arm64"} {
			name, source, needs, err := f.kernelsOf(arch)
			if err != nil {
				t.Fatal(err)
			}
			if name == "" {
				continue
			}
			found++
			var clang []string
			for _, m := range byClang.FindAllSubmatch(source, -1) {
				clang = append(clang, strings.Split(string(m[1]), ",")...)
			}
			slices.Sort(clang)
			if !slices.Equal(needs, slices.Compact(clang)) {
				t.Errorf("%s is compiled with %v by one compiler and with %v by the other", name, needs, clang)
			}
			have := f.needs.List()
			for _, n := range needs {
				if n != "popcnt" && !slices.Contains(have, n) {
					t.Errorf("%s is compiled with %s, which family %s does not need", name, n, f.name)
				}
			}
			if !strings.Contains(string(source), "#define ROW picket_row_"+f.code+"\n") {
				t.Errorf("%s does not define picket_row_%s", name, f.code)
			}
		}
	}
	if found != len(families) {
		t.Errorf("%d families have %d files", len(families), found)
	}
}

// TestImageKeepsTables lays a forest out and finds every table in the image again, byte for byte.
func TestImageKeepsTables(t *testing.T) {
	for name, e := range map[string]*ensemble.Ensemble{"narrow": carriedEnsemble(t, "fraud-1.7.6"), "wide": carriedEnsemble(t, "binary-4.7.0")} {
		p := newPlan(e)
		im := image{tables: map[string]int{}, forests: map[string]int{}}
		if _, err := im.add(p, families[0]); err != nil {
			t.Fatal(err)
		}
		before := len(im.data)
		if _, err := im.add(p, families[0]); err != nil || len(im.data) != before || len(im.forests) != 1 {
			t.Errorf("%s: the same tables again make %d bytes of %d, and %d structures (%v)", name, len(im.data), before, len(im.forests), err)
		}
		g, _, _, err := layOut(p, families[0], false, false)
		if err != nil {
			t.Fatal(err)
		}
		memory := g.memory.Bytes()
		fields, err := fieldsOf(g.forest, len(memory))
		if err != nil {
			t.Fatal(err)
		}
		var text string
		for text = range im.forests {
		}
		for _, v := range fields {
			if !v.pointer {
				if !strings.Contains(text, fmt.Sprintf(".%s = %du,", v.name, v.number)) {
					t.Errorf("%s: %s is not %d", name, v.name, v.number)
				}
				continue
			}
			var at int
			i := strings.Index(text, "."+v.name+" = (const void *)("+tablesLabel+" + ")
			if v.number == 0 {
				if i >= 0 {
					t.Errorf("%s: %s points to a table, where the model has none", name, v.name)
				}
				continue
			}
			if i < 0 {
				t.Errorf("%s: %s points nowhere", name, v.name)
				continue
			}
			if _, err := fmt.Sscanf(text[i:], "."+v.name+" = (const void *)("+tablesLabel+" + %d)", &at); err != nil {
				t.Fatal(err)
			}
			end := len(memory)
			for _, w := range fields {
				if w.pointer && w.number > v.number {
					end = min(end, w.number)
				}
			}
			if at%64 != 0 || !bytes.HasPrefix(im.data[at:], memory[v.number:end]) {
				t.Errorf("%s: %s points to something else, at %d", name, v.name, at)
			}
		}
		g.Close()
	}
}

func carriedEnsemble(t *testing.T, name string) *ensemble.Ensemble {
	t.Helper()
	e, err := parse(t, testkit.ModelNamed(t, name).Files[0])
	if err != nil {
		t.Fatal(err)
	}
	return e
}
