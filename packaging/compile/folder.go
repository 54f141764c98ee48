package compile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Names of the files of an artifact.
const (
	libraryName = "compiled.so"
	metaName    = "compiled.meta"
	sourceStem  = "source_model"
)

// sourceName is the name of the model file beside the artifact. DLR counts *.json, *.so, *.params, *.meta and *.ro and
// refuses a folder with several, so JSON gets another ending.
func sourceName(format string) string {
	switch format {
	case "json":
		return sourceStem + ".xgbjson"
	case "ubjson":
		return sourceStem + ".ubj"
	case "binary":
		return sourceStem + ".model"
	case "onnx":
		return sourceStem + ".onnx"
	}
	return sourceStem + ".txt"
}

// folder is an artifact folder in the making: it is filled under another name in the same place and appears at once,
// complete, by commit.
type folder struct {
	out     string
	staging string
	force   bool
}

// newFolder refuses early what commit would have to refuse.
func newFolder(out string, force bool) (*folder, error) {
	if out == "" {
		return nil, errors.New("no output folder was named")
	}
	f := &folder{out: filepath.Clean(out), force: force}
	if _, err := f.occupied(); err != nil {
		return nil, err
	}
	parent := filepath.Dir(f.out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of %s: %w", f.out, err)
	}
	staging, err := os.MkdirTemp(parent, ".compile-*")
	if err != nil {
		return nil, fmt.Errorf("making a folder beside %s: %w", f.out, err)
	}
	f.staging = staging
	return f, nil
}

// occupied says whether something that may be replaced is in the way, and refuses what may not be.
func (f *folder) occupied() (bool, error) {
	info, err := os.Lstat(f.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking at the output folder: %w", err)
	case !info.IsDir():
		return false, fmt.Errorf("%s exists and is no folder; name another", f.out)
	}
	entries, err := os.ReadDir(f.out)
	if err != nil {
		return false, fmt.Errorf("looking into the output folder: %w", err)
	}
	for _, e := range entries {
		if !f.force {
			return false, fmt.Errorf("%s is not empty; name another folder, or have it replaced with --force", f.out)
		}
		if n := e.Name(); !e.Type().IsRegular() || n != libraryName && n != metaName && strings.TrimSuffix(n, filepath.Ext(n)) != sourceStem {
			return false, fmt.Errorf("%s holds %q, which is no part of an artifact, so it is not replaced; name another folder", f.out, n)
		}
	}
	return len(entries) > 0, nil
}

// write makes a file of the artifact.
func (f *folder) write(name string, data []byte) error {
	if err := os.WriteFile(filepath.Join(f.staging, name), data, 0o644); err != nil {
		return fmt.Errorf("writing the artifact: %w", err)
	}
	return nil
}

// commit puts the folder in place. A reader sees the old artifact, or for an instant none, or the new one; never a mix.
func (f *folder) commit() error {
	replace, err := f.occupied()
	if err != nil {
		return err
	}
	if err := os.Chmod(f.staging, 0o755); err != nil {
		return fmt.Errorf("opening the artifact to readers: %w", err)
	}
	if replace {
		old := f.staging + ".old"
		if err := os.Rename(f.out, old); err != nil {
			return fmt.Errorf("moving the old artifact aside: %w", err)
		}
		if err := os.Rename(f.staging, f.out); err != nil {
			return errors.Join(fmt.Errorf("putting the artifact in place: %w", err), os.Rename(old, f.out))
		}
		return os.RemoveAll(old)
	}
	// An empty folder may stand in the way. Remove removes no other.
	if err := os.Remove(f.out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the empty output folder: %w", err)
	}
	if err := os.Rename(f.staging, f.out); err != nil {
		return fmt.Errorf("putting the artifact in place: %w", err)
	}
	return nil
}

// discard removes what was not committed. What cannot be removed is litter, not a failure.
func (f *folder) discard() { _ = os.RemoveAll(f.staging) }
