package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// fileID tells a file from every other one that exists at the time.
type fileID struct {
	Device uint64 `json:"device"`
	Inode  uint64 `json:"inode"`
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
		state, err := fileState(filepath.Join(path, name))
		if err != nil {
			state = err.Error()
		}
		fmt.Fprintf(sum, "%q %s\n", name, state)
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
