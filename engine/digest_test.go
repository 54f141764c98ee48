package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
)

// TestSHA256 reads a file once, whatever its size, and stops when nobody waits any more.
func TestSHA256(t *testing.T) {
	content := strings.Repeat("0123456789abcdef", 1<<16)
	dir := artifactOf(t, map[string]string{"large": content, "empty": ""})
	a, err := enginetest.Source{Dir: dir}.Open(t.Context(), "somewhere")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.SHA256(canceled, "large"); !errors.Is(err, engine.ErrCanceled) {
		t.Errorf("when nobody waits: %v", err)
	}
	for name, text := range map[string]string{"large": content, "empty": ""} {
		for range 2 {
			if sum, err := a.SHA256(t.Context(), name); err != nil || sum != sha256.Sum256([]byte(text)) {
				t.Errorf("%s: %x, %v", name, sum, err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte("another"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := a.SHA256(t.Context(), "nothing"); !errors.Is(err, engine.ErrArtifact) {
		t.Errorf("of a file that is not there: %v", err)
	}
}
