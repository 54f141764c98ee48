package upload

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(envVictim); dir != "" {
		os.Exit(victim(dir))
	}
	if dir := os.Getenv(envTraced); dir != "" {
		if err := storeSome(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if version := os.Getenv(envServe); version != "" {
		os.Exit(serve(version))
	}
	testkit.VerifyNoLeaks(m)
}

// envTraced has the folder below which the test binary, traced, stores objects.
const envTraced = "PICKET_TEST_DIRECTORY_TRACED"

// storeSome puts objects into a directory, and says of each that it is there.
func storeSome(dir string) error {
	d, err := NewDirectory(filepath.Join(dir, "var", "capture"))
	if err != nil {
		return err
	}
	for n := range 4 {
		body := []byte(fmt.Sprint("object ", n))
		if _, err := d.Put(context.Background(), &Item{Key: fmt.Sprintf("fraud/%d/object-%d", n/2, n), Body: body, Content: sha256.Sum256(body)}); err != nil {
			return errors.Join(err, d.Close())
		}
		fmt.Printf(disktrace.Marker+"object %d\n", n)
	}
	return d.Close()
}

// What is deleted from the spool because a directory has it is there after a loss of power too.
func TestObjectsAreOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, envTraced+"="+dir), 4, "var/capture/"+partial)
}
