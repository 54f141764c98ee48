package dl

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// cCompile makes a shared library of C source with the host's compiler, which cgo needs anyway, and returns its path.
func cCompile(t *testing.T, name, source string, flags ...string) string {
	t.Helper()
	dir := t.TempDir()
	input, output := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
	if err := os.WriteFile(input, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command("cc", append([]string{"-shared", "-fPIC", "-O1", "-o", output, input}, flags...)...)
	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("cc %s: %v\n%s", name, err, text)
	}
	return output
}
