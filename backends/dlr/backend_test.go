//go:build cgo && linux && amd64

package dlr_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/backends/dlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/testkit"
)

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProbeNamesTheConfiguredLibrary(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "libdlr.so")
	if err := os.WriteFile(garbage, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{garbage, filepath.Join(t.TempDir(), "absent.so"), "libm.so.6"} {
		b := dlr.New(dlr.Options{LibraryPath: path})
		if err := b.Probe(backendtest.Options().Host); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
		if _, _, err := b.Library(); err == nil {
			t.Errorf("%s is named as a library", path)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestLibraryTellsItsVersion(t *testing.T) {
	path, version, err := newBackend(t).Library()
	if err != nil || path != testkit.LibDLR(t) || version != "1.6.0" {
		t.Errorf("got %s, %s, %v", path, version, err)
	}
}

// TestRefusesWhatLibdlrCannotRun: each is a sound artifact, refused by name.
func TestRefusesWhatLibdlrCannotRun(t *testing.T) {
	b := newBackend(t)
	write := func(name string, data string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	relay := func(version string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			remove("compiled.params")(t, dir)
			program := binary.LittleEndian.AppendUint64(nil, 0xD225DE2F4214151D)
			program = binary.LittleEndian.AppendUint64(program, uint64(len(version)))
			write("code.ro", string(program)+version)(t, dir)
		}
	}
	link := func(t *testing.T, dir string) {
		if err := os.Symlink("/dev/null", filepath.Join(dir, "other.params")); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		dir   string
		alter func(*testing.T, string)
		kind  error
		say   string
	}{
		"Treelite 1.0":        {"treelite/fraud-tl1.3.0", nil, engine.ErrUnsupported, "made by Treelite 1.0 or later, which libdlr 1.6.0 cannot load"},
		"TL2cgen":             {"treelite/fraud-tl2cgen1.0.0", nil, engine.ErrUnsupported, "made by TL2cgen"},
		"a SavedModel":        {"treelite/fraud-tl0.93", write("saved_model.pb", ""), engine.ErrUnsupported, "a TensorFlow SavedModel"},
		"rows of a graph":     {"tvm/mlp_b16-v3", nil, engine.ErrUnsupported, `its metadata gives input "input" any number of rows`},
		"no graph":            {"tvm/mlp_b1-v3", remove("compiled_model.json"), engine.ErrArtifact, "without its graph"},
		"no library":          {"tvm/mlp_b1-v3", remove("compiled.so"), engine.ErrArtifact, "without its library"},
		"cut parameters":      {"tvm/mlp_b1-v3", write("compiled.params", "1234"), engine.ErrArtifact, "cut off at byte 4"},
		"other parameters":    {"tvm/mlp_b1-v3", write("compiled.params", "123456789"), engine.ErrArtifact, "does not begin as"},
		"a damaged graph":     {"tvm/mlp_b1-v3", write("compiled_model.json", "{"), engine.ErrArtifact, "reading compiled_model.json: it is not the JSON of a TVM graph"},
		"another size":        {"tvm/mlp_b1-v3", write("compiled.meta", `{"Model": {"Inputs": [{"name": "input", "dtype": "float32", "shape": [1, 31]}]}}`), engine.ErrArtifact, "the library has FP32 [1 30]"},
		"another output type": {"tvm/mlp_b1-v3", write("compiled.meta", `{"Model": {"Outputs": [{"name": "output", "dtype": "float64", "shape": [1, 1]}]}}`), engine.ErrArtifact, "the library has FP32 [1 1]"},
		"a Relay VM program":  {"tvm/mlp_b1-v3", relay("0.9.dev0"), engine.ErrUnsupported, "libdlr 1.6.0 refuses the program, which TVM 0.9.dev0 has compiled; a libdlr runs only programs of the TVM that it was built with"},
		"no Relay VM program": {"tvm/mlp_b1-v3", relay("\n"), engine.ErrArtifact, "code.ro: its version"},
		"a link out":          {"treelite/fraud-tl0.93", link, engine.ErrArtifact, "links out of it"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testkit.CopyDir(t, testkit.Path(t, tc.dir))
			if tc.alter != nil {
				tc.alter(t, dir)
			}
			m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
			if err == nil {
				t.Fatal("the artifact was opened, and closed with", m.Close())
			}
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("want %v that says %q, got: %v", tc.kind, tc.say, err)
			}
		})
	}
}

func TestRefusesDamagedBundledLibrary(t *testing.T) {
	dir := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
	data, err := os.ReadFile(testkit.LibDLR(t))
	if err != nil {
		t.Fatal(err)
	}
	b := dlr.New(dlr.Options{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i := range 16 {
		if err := os.WriteFile(filepath.Join(dir, "libdlr.so"), data[:len(data)*i/16], 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
		if err == nil {
			t.Fatal("a damaged libdlr was loaded, and the model closed with", m.Close())
		}
		if !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), "libdlr.so") {
			t.Errorf("%d/16 of it: %v", i, err)
		}
	}
}

// A sound libdlr may be followed by any number of zeros that cost its maker nothing, and would be read here to the end.
func TestRefusesHugeBundledLibrary(t *testing.T) {
	dir := testkit.CopyDir(t, testkit.Path(t, "treelite/fraud-tl0.93"))
	path := filepath.Join(dir, "libdlr.so")
	copyFile(t, testkit.LibDLR(t), path)
	if err := os.Truncate(path, dl.MaxFileSize+1); err != nil {
		t.Fatal(err)
	}
	b := dlr.New(dlr.Options{})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	m, err := b.Open(t.Context(), backendtest.Artifact(t, dir), backendtest.Options())
	if err == nil {
		t.Fatal("it was loaded, and the model closed with", m.Close())
	}
	if want := "libdlr.so has 1073741825 bytes, more than the 1073741824 that fit a library"; !errors.Is(err, engine.ErrArtifact) || !strings.Contains(err.Error(), want) {
		t.Errorf("the error does not say %q: %v", want, err)
	}
}

// A libdlr that the system has and cannot load is not one that it lacks.
func TestTellsWhyTheSystemsLibraryDoesNotLoad(t *testing.T) {
	if os.Getenv(childVariable) == "" {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "libdlr.so"), []byte("no library"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), childVariable+"=1", "LD_LIBRARY_PATH="+dir)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
		return
	}
	_, _, err := dlr.New(dlr.Options{}).Library()
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "libdlr.so cannot be loaded") || !strings.Contains(err.Error(), "file too short") {
		t.Errorf("got %v", err)
	}
}

func TestTellsHowToGetALibrary(t *testing.T) {
	var log bytes.Buffer
	b := dlr.New(dlr.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, _, err := b.Library(); err == nil {
		t.Log("this host has a libdlr of its own")
		return
	}
	m, err := b.Open(t.Context(), backendtest.Artifact(t, testkit.Path(t, "treelite/fraud-tl0.93")), backendtest.Options())
	if err == nil {
		t.Fatal("the artifact was opened, and closed with", m.Close())
	}
	if !errors.Is(err, engine.ErrUnsupported) || !strings.Contains(err.Error(), "install one or name its path") {
		t.Errorf("without a libdlr: %v", err)
	}
	if strings.Contains(err.Error(), "/") || !strings.Contains(log.String(), "/usr/local/lib, ") {
		t.Errorf("the places belong in the log and not in the answer: %v; %s", err, log.String())
	}
}
