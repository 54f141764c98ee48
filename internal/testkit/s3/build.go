// Package s3 gives tests a real S3 store on this machine, a versitygw on a directory
// of its own, and a network between it and the test that can be cut, slowed and
// stopped. Only tests and benchmarks import it. Nothing here skips a test: what is
// missing is built, from tools/versitygw.
package s3

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/testkit"
)

// built is the one attempt of this process to have the program.
var built = sync.OnceValues(Build)

// Binary is the path of versitygw. It is built if this version was not yet, which
// takes minutes the first time.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Build makes versitygw in .cache, for programs that are no tests; many at once wait
// for one. It returns the path.
func Build() (string, error) {
	source := filepath.Join(testkit.ModuleRoot(), "tools", "versitygw")
	digest := sha256.New()
	for _, file := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(source, file))
		if err != nil {
			return "", fmt.Errorf("building versitygw: %w", err)
		}
		digest.Write(data)
	}
	dir := filepath.Join(testkit.ModuleRoot(), ".cache", "versitygw")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("building versitygw: %w", err)
	}
	path := filepath.Join(dir, hex.EncodeToString(digest.Sum(nil)[:8]), "versitygw")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("building versitygw: %w", err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("building versitygw: locking: %w", err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil // by another process, meanwhile
	}
	command := exec.Command("go", "build", "-o", path, ".") // go itself writes it whole
	command.Dir = source
	// For this machine, also where the tests are compiled for another: it is their tool, not what is tested.
	command.Env = append(os.Environ(), "GOARCH=", "CGO_ENABLED=0")
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building versitygw in tools/versitygw (go build): %w\n%s", err, output)
	}
	return path, nil
}
