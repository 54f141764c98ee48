package compile

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/internal/testkit"
)

const small = "models/xgboost/binary-3.2.0.json"

func compileSmall(t *testing.T, o Options) (dir string, r Result) {
	t.Helper()
	if o.Source == "" {
		o.Source = testkit.Path(t, small)
	}
	if o.Out == "" {
		o.Out = filepath.Join(t.TempDir(), "artifact")
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return o.Out, r
}

// TestSymbols demands exactly the interface: both generations' names and nothing of our own.
func TestSymbols(t *testing.T) {
	t.Parallel()
	type example struct {
		engine          Engine
		model, function string
	}
	var examples []example
	for _, engine := range engines() {
		examples = append(examples, example{engine, small, "predict"}, example{engine, "models/xgboost/multi-softprob-3.2.0.json", "predict_multiclass"})
	}
	for _, x := range examples {
		dir, _ := compileSmall(t, Options{Source: testkit.Path(t, x.model), Engine: x.engine})
		f, err := elf.Open(filepath.Join(dir, libraryName))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		symbols, err := f.DynamicSymbols()
		if err != nil {
			t.Fatal(err)
		}
		var exported []string
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF && elf.ST_BIND(s.Info) == elf.STB_GLOBAL {
				exported = append(exported, s.Name)
			}
		}
		slices.Sort(exported)
		want := []string{"get_global_bias", "get_leaf_output_type", "get_num_class", "get_num_feature", "get_num_output_group",
			"get_pred_transform", "get_ratio_c", "get_sigmoid_alpha", "get_threshold_type", x.function}
		if !slices.Equal(exported, want) {
			t.Errorf("%s by %s exports %v; want %v", x.model, x.engine.Name, exported, want)
		}
		if f.Section(".debug_info") != nil || f.Section(".note.gnu.build-id") != nil {
			t.Errorf("%s by %s carries debug information or a build id", x.model, x.engine.Name)
		}
	}
}

// TestSameBytes compiles twice, with other folders and another number of compilers.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	source := testkit.Path(t, "models/xgboost/fraud-1.7.6.ubj")
	for _, engine := range engines() {
		one, _ := compileSmall(t, Options{Source: source, Engine: engine, Jobs: 1})
		two, _ := compileSmall(t, Options{Source: source, Engine: engine, Jobs: 3})
		for _, name := range []string{libraryName, metaName, "source_model.ubj"} {
			a, errA := os.ReadFile(filepath.Join(one, name))
			b, errB := os.ReadFile(filepath.Join(two, name))
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%s differs between two compilations by %s (%v, %v)", name, engine.Name, errA, errB)
			}
		}
	}
}

// TestLayout checks the folder as DLR counts it, and compiled.meta as its readers parse it.
func TestLayout(t *testing.T) {
	t.Parallel()
	for _, engine := range engines() {
		t.Run(engine.Name, func(t *testing.T) { checkLayout(t, engine) })
	}
}

func checkLayout(t *testing.T, engine Engine) {
	dir, result := compileSmall(t, Options{Engine: engine})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"compiled.meta", "compiled.so", "source_model.xgbjson"}; !slices.Equal(names, want) {
		t.Fatalf("the folder holds %v; want %v", names, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the folder has mode %v (%v); want 0755", info.Mode(), err)
	}
	data, err := os.ReadFile(filepath.Join(dir, metaName))
	if err != nil {
		t.Fatal(err)
	}
	var m meta
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Requirements.TargetDeviceType != "cpu" || len(m.Model.Inputs) != 1 || m.Model.Inputs[0].Name != "data" ||
		!slices.Equal(m.Model.Inputs[0].Shape, []int{-1, 12}) || len(m.Model.Outputs) != 1 || !slices.Equal(m.Model.Outputs[0].Shape, []int{-1, 1}) {
		t.Errorf("compiled.meta says %s", data)
	}
	if m.Picket.SourceSHA256 != result.SHA256 || len(result.SHA256) != 64 || m.Picket.CPU != result.Target || m.Picket.Engine != engine.Name || result.Engine != engine.Name || m.Picket.Compiler == "" ||
		m.Picket.SourceModel != "source_model.xgbjson" || m.Picket.Transform != "sigmoid" || m.Picket.LibraryVersion != "3.2.0" {
		t.Errorf("compiled.meta says %s", data)
	}
	library, err := os.ReadFile(filepath.Join(dir, libraryName))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(library); m.Picket.LibrarySHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("compiled.meta has the digest %q; compiled.so has %x", m.Picket.LibrarySHA256, sum)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var seen []int
	last := 0
	compileSmall(t, Options{Source: testkit.Path(t, "models/xgboost/fraud-1.7.6.ubj"), Progress: func(done, total int, what string) {
		seen, last = append(seen, done), total
		if what == "" {
			t.Error("a step has no name")
		}
	}})
	for i, done := range seen {
		if done != i+1 {
			t.Fatalf("steps %v; want 1 to %d", seen, last)
		}
	}
	if len(seen) != last || last < 3 {
		t.Fatalf("steps %v of %d", seen, last)
	}
}

// TestFolder holds the rules for what is in the way.
func TestFolder(t *testing.T) {
	t.Parallel()
	parent := filepath.Join(t.TempDir(), "models")
	out := filepath.Join(parent, "artifact")
	attempt := func(force bool) error {
		_, err := Run(t.Context(), Options{Source: testkit.Path(t, small), Out: out, Force: force})
		return err
	}
	want := func(what string, err error, text string) {
		t.Helper()
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			t.Fatalf("%s: got %v; want %q", what, err, text)
		}
		entries, err := os.ReadDir(parent)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%s: left behind %v, %v", what, entries, err)
		}
	}
	want("no folder, and none to make it in", attempt(false), "")
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	want("an empty folder", attempt(false), "")
	want("an artifact", attempt(false), "is not empty")
	if err := os.WriteFile(filepath.Join(out, libraryName), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("an artifact, forced", attempt(true), "")
	if data, err := os.ReadFile(filepath.Join(out, libraryName)); err != nil || len(data) < 1000 {
		t.Fatalf("the old library is still there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(out, "thesis.txt"), []byte("years"), 0o600); err != nil {
		t.Fatal(err)
	}
	want("somebody's folder, forced", attempt(true), `holds "thesis.txt"`)
	if err := os.RemoveAll(out); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(out, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want("a file", attempt(true), "is no folder")
	out = filepath.Join(parent, "artifact", "below", "nothing")
	if err := attempt(false); err == nil {
		t.Fatal("a folder below a file was made")
	}
}

func TestRefusals(t *testing.T) {
	source := testkit.Path(t, small)
	for _, c := range []struct {
		what string
		o    Options
		want string
	}{
		{"an unknown target", Options{Target: "riscv64"}, `target "riscv64" is not known; it may be x86-64, x86-64-v2`},
		{"an engine that makes a file twice", Options{Engine: Engine{Name: "odd", Sources: func(*ensemble.Ensemble, string) (map[string][]byte, error) {
			return map[string][]byte{interfaceName: nil}, nil
		}}}, "engine odd makes a file interface.c"},
		{"an engine that does not define what it has to", Options{Engine: Engine{Name: "odd", Sources: func(*ensemble.Ensemble, string) (map[string][]byte, error) {
			return nil, nil
		}}}, "picket_margins"},
		{"a compiler that is not there", Options{CC: "no-such-cc"}, "there is no C compiler no-such-cc"},
		{"a compiler that fails", Options{CC: "false"}, "running"},
		{"no model", Options{Source: filepath.Join(t.TempDir(), "none")}, "no such file"},
		{"a folder", Options{Source: t.TempDir()}, "no regular file"},
		{"something else", Options{Source: testkit.Path(t, "models/index.json")}, "not an XGBoost or LightGBM model file"},
	} {
		t.Run(c.what, func(t *testing.T) {
			parent := t.TempDir()
			if c.o.Source == "" {
				c.o.Source = source
			}
			c.o.Out = filepath.Join(parent, "artifact")
			_, err := Run(t.Context(), c.o)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v; want one sentence with %q", err, c.want)
			}
			if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
				t.Fatalf("left behind %v, %v", left, err)
			}
		})
	}
}

// TestNoCompiler names the package to install.
func TestNoCompiler(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("CC", "")
	_, err := Run(t.Context(), Options{Source: testkit.Path(t, small), Out: filepath.Join(t.TempDir(), "a")})
	if err == nil || !strings.Contains(err.Error(), "there is no C compiler cc") || !strings.Contains(err.Error(), "install the packages gcc") {
		t.Fatalf("got %v", err)
	}
}

// TestTargets compiles for every target whose compiler is here, and demands the sentence for the others.
func TestTargets(t *testing.T) {
	for i, name := range append(Targets(), Targets()...) {
		engine := engines()[i/len(Targets())%len(engines())]
		t.Run(engine.Name+" "+name, func(t *testing.T) {
			machine, err := findTarget(name, runtime.GOARCH)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "artifact")
			_, err = Run(t.Context(), Options{Source: testkit.Path(t, small), Out: out, Target: name, Engine: engine})
			if machine.arch != runtime.GOARCH {
				cross := map[string]string{"arm64": "aarch64-linux-gnu-gcc", "amd64": "x86_64-linux-gnu-gcc"}[machine.arch]
				if _, missing := exec.LookPath(cross); missing != nil {
					if err == nil || !strings.Contains(err.Error(), "install the package gcc-") {
						t.Fatalf("without %s: got %v", cross, err)
					}
					return
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := machine.check(filepath.Join(out, libraryName)); err != nil {
				t.Fatal(err)
			}
		})
	}
	// A compiler for this machine is found out when another one is asked for.
	other := target{name: "other", arch: runtime.GOARCH, machine: elf.EM_S390}
	dir, _ := compileSmall(t, Options{})
	if err := other.check(filepath.Join(dir, libraryName)); err == nil || !strings.Contains(err.Error(), "no library for target other") {
		t.Fatalf("got %v", err)
	}
}
