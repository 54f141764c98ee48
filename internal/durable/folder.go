package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// MkdirAll is os.MkdirAll, and has the name of each folder that it makes on disk when it returns: what is forced to disk in a folder is lost with the folder.
func MkdirAll(path string, mode fs.FileMode) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(path)
	if parent != path {
		if err := MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, mode); errors.Is(err, fs.ErrExist) {
		// Somebody was faster, or it is a file.
		if info, statErr := os.Stat(path); statErr != nil || !info.IsDir() {
			return err
		}
	} else if err != nil {
		return err
	}
	return SyncFolder(parent)
}
