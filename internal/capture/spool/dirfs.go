package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

// dirFS is a directory of the file system. Links cannot lead out of it.
type dirFS struct {
	root *os.Root
	dir  *os.File // for syncing
	lock *os.File
}

// lockName is the file whose lock says who owns the directory.
const lockName = "lock"

// Exists tells whether a directory has something of a spool in it, which an empty one of a daemon that has just begun has too.
func Exists(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, fmt.Errorf("opening the capture spool: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == lockName, name == headA, name == headB, saltedName.MatchString(name), idsName.MatchString(name), badName.MatchString(name):
			return true, nil
		}
	}
	return false, nil
}

// openDir opens a directory, which is made if it is not there unless readOnly says to
// leave everything as it is. One that other users can write to is refused: records
// would be theirs to make.
func openDir(path string, readOnly bool) (_ *dirFS, err error) {
	if !readOnly {
		if err := durable.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("making the directory of the capture spool: %w", err)
		}
	}
	d := &dirFS{}
	if d.root, err = os.OpenRoot(path); err != nil {
		return nil, fmt.Errorf("opening the capture spool: %w", err)
	}
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	if d.dir, err = d.root.Open("."); err != nil {
		return nil, fmt.Errorf("opening the capture spool: %w", err)
	}
	info, err := d.dir.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening the capture spool: %w", err)
	}
	if uid, known := osfile.Owner(info); known && !readOnly {
		switch {
		case uid != 0 && int(uid) != os.Geteuid():
			return nil, fmt.Errorf("opening the capture spool: %s belongs to user %d, and this runs as user %d: run it as the user whose spool it is", path, uid, os.Geteuid())
		case info.Mode().Perm()&0o022 != 0:
			return nil, fmt.Errorf("opening the capture spool: others can write to %s, which has mode %04o: chmod it to 0700", path, info.Mode().Perm())
		}
	}
	return d, nil
}

// Lock implements FS.
func (d *dirFS) Lock() error {
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := osfile.TryLock(f); err != nil {
		_ = f.Close()
		if errors.Is(err, osfile.ErrLocked) {
			return ErrOwned
		}
		return err
	}
	d.lock = f
	return nil
}

// List implements FS. What is not a regular file is none of the spool's.
func (d *dirFS) List() ([]FileInfo, error) {
	dir, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	all, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var files []FileInfo
	for _, e := range all {
		if !e.Type().IsRegular() || e.Name() == lockName {
			continue
		}
		if info, err := e.Info(); err == nil { // else it is gone
			files = append(files, FileInfo{e.Name(), info.Size()})
		}
	}
	slices.SortFunc(files, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func (d *dirFS) open(name string, flags int) (File, error) {
	// Without O_NONBLOCK a named pipe in the file's place would wait for a writer.
	f, err := d.root.OpenFile(name, flags|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, root: d.root, name: name}, nil
}

// Create implements FS.
func (d *dirFS) Create(name string) (File, error) {
	return d.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

// Open implements FS.
func (d *dirFS) Open(name string) (File, error) { return d.open(name, os.O_RDONLY) }

// OpenWrite implements FS.
func (d *dirFS) OpenWrite(name string) (File, error) { return d.open(name, os.O_RDWR) }

// Remove implements FS.
func (d *dirFS) Remove(name string) error {
	if err := d.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Rename implements FS.
func (d *dirFS) Rename(from, to string) error { return d.root.Rename(from, to) }

// Sync implements FS.
func (d *dirFS) Sync() error { return osfile.SyncDir(d.dir) }

// Close implements FS. The lock goes with its file.
func (d *dirFS) Close() error {
	var err error
	for _, f := range []*os.File{d.lock, d.dir} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return errors.Join(err, d.root.Close())
}

// osFile is a file of the file system.
type osFile struct {
	*os.File
	root   *os.Root
	name   string
	direct *os.File // the same, for whole blocks; nil while there were none
	cached bool     // there is no such way here
}

// Close implements File.
func (f *osFile) Close() error {
	err := f.File.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

// Sync implements File.
func (f *osFile) Sync() error { return osfile.SyncData(f.File) }

// Size implements File.
func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
