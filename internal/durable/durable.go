// Package durable puts files in their places so that a crash or a power failure leaves the old file or the new one, each whole, and so
// that what a caller was told is there stays there.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/picket-ml/picket/internal/osfile"
)

// Replace has fill write a new file beside path, and puts it in the place of what is there. After an error of fill or of the file
// system the old file is there; without one, the new one is on disk, and so is its name. Any number of processes may do so at once, and
// the last one wins. A folder, a device or a pipe is not replaced. The file is fill's for the call.
func Replace(path string, mode fs.FileMode, fill func(*os.File) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is there and is no file; name another", path)
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	err = write(f, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		return f.Chmod(mode) // it was made for its owner alone
	})
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error tells more
		return err
	}
	return SyncFolder(dir)
}

// WriteFile is Replace for what is in memory.
func WriteFile(path string, data []byte, mode fs.FileMode) error {
	return Replace(path, mode, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// NewSuffix is what a name ends with that is not in its place yet.
const NewSuffix = ".new"

// ReplaceIn is Replace for a file below root, to which one process writes at a time: the caller has a lock. What a crash leaves has
// the same name with NewSuffix, and the next ReplaceIn removes it. The mode is only asked for when the file is made, because not every
// file system that is carried from host to host lets it be changed.
func ReplaceIn(root *os.Root, name string, mode fs.FileMode, fill func(*os.File) error) error {
	temporary := name + NewSuffix
	if err := root.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err = write(f, fill); err == nil {
		err = root.Rename(temporary, name)
	}
	if err != nil {
		_ = root.Remove(temporary) // the first error tells more
		return err
	}
	return SyncFolderIn(root, filepath.Dir(name))
}

// WriteFileIn is ReplaceIn for what is in memory.
func WriteFileIn(root *os.Root, name string, data []byte, mode fs.FileMode) error {
	return ReplaceIn(root, name, mode, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// write fills f, has it on disk, and closes it, whether that failed or not.
func write(f *os.File, fill func(*os.File) error) error {
	err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncFolder has the names in a folder on disk when it returns: files that were made, renamed or removed there.
func SyncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return syncFolder(d)
}

// SyncFolderIn is SyncFolder for a folder below root.
func SyncFolderIn(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return syncFolder(d)
}

// syncFolder closes d.
func syncFolder(d *os.File) error {
	return errors.Join(osfile.SyncDir(d), d.Close())
}
