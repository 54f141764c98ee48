//go:build cgo

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/onnx"
	"github.com/picket-ml/picket/internal/testkit"
)

// TestPackageOfANetwork: a folder of an ONNX file is packed, signed, and served by a daemon that finds ONNX Runtime by the
// environment; without the library both say what is missing.
func TestPackageOfANetwork(t *testing.T) {
	dir := t.TempDir()
	packages, artifact := filepath.Join(dir, "packages"), filepath.Join(dir, "net")
	for _, folder := range []string{packages, artifact} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(testkit.ModuleRoot(), "backends", "onnx", "testdata", "nets", "mlp", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(artifact, "model.onnx"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	build := []string{"package", "build", artifact, "--name", "net", "--version", "1", "-o", packages}
	t.Setenv(onnx.LibraryVariable, filepath.Join(dir, "absent.so"))
	if r := must(t, exitFailed, build...); !strings.Contains(r.stderr, "the ONNX Runtime that is configured cannot be used") || !strings.Contains(r.stderr, "absent.so") {
		t.Errorf("without the library: %s", r.stderr)
	}
	t.Setenv(onnx.LibraryVariable, testkit.ONNXRuntime(t))
	private, public := keyPair(t, dir, "signer")
	must(t, exitDone, build...)
	must(t, exitDone, "package", "sign", filepath.Join(packages, "net-1.tar.gz"), "--key", private)

	sockets, _ := startDaemon(t, "--config", daemonConfig(t, dir, packages, public), "--state", filepath.Join(dir, "state"))
	must(t, exitDone, "--sockets", sockets, "load", "net", "net@1")
	var e explanation
	if err := json.Unmarshal([]byte(must(t, exitDone, "--sockets", sockets, "explain", "net", "--json").stdout), &e); err != nil {
		t.Fatal(err)
	}
	if p := e.Package; p == nil || p.Name != "net" || len(p.Variants) != 1 || p.Variants[0].Name != "any" || !p.Variants[0].Chosen {
		t.Errorf("the daemon says of the package: %+v", e.Package)
	}
	if r := must(t, exitDone, "--sockets", sockets, "explain", "net"); !strings.Contains(r.stdout, "net is run by onnx") || !strings.Contains(r.stdout, "ONNX Runtime "+testkit.ONNXRuntimeVersion+", cpu") {
		t.Errorf("explain says:\n%s", r.stdout)
	}
	rows := filepath.Join(dir, "rows.csv")
	if err := os.WriteFile(rows, []byte(strings.Repeat("0.5,", 29)+"1\n"+strings.Repeat("0,", 29)+"0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := must(t, exitDone, "--sockets", sockets, "predict", "net", "--input", rows); len(strings.Fields(r.stdout)) < 2 {
		t.Errorf("predict says:\n%s", r.stdout)
	}
}
