package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// fileID tells a file from every other one that exists at the time.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
}

// identify is the file at path, which may be a link and is not followed.
func identify(path string) (fileID, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fileID{}, err
	}
	return fileID{s.Dev, s.Ino}, nil
}

// folderState is what can be seen of a model's folder, or of the file of its package,
// without reading files. It changes with every file that is written, replaced, added or
// removed, and with the link that leads there; to be the same twice, a file must be the
// same one and not have been written to. Zero where there is nothing.
type folderState [sha256.Size]byte

// maxFolderFiles is more than a model may have.
const maxFolderFiles = 8192

// stateOf looks at the folder, or the file, at path.
func stateOf(path string) folderState {
	info, err := os.Stat(path)
	if err != nil {
		return folderState{}
	}
	var names []string
	if info.IsDir() {
		if names, err = namesIn(path); err != nil {
			return folderState{}
		}
	}
	slices.Sort(names)
	sum := sha256.New()
	for _, name := range append([]string{"."}, names...) {
		var s unix.Stat_t
		if err := unix.Stat(filepath.Join(path, name), &s); err != nil {
			fmt.Fprintf(sum, "%q %v\n", name, err)
			continue
		}
		// The time of change is the kernel's own: nobody can set it back.
		fmt.Fprintf(sum, "%q %d %d %d %v %v\n", name, s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim)
	}
	return folderState(sum.Sum(nil))
}

func namesIn(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxFolderFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return names, nil
}
