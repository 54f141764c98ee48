package packaging

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/picket-ml/picket/internal/osfile"
)

// OpenFolder is Open for a package that was unpacked by others: its files are read from root, which stays the caller's,
// in the order of the manifest. Whatever else is in the folder is refused as in an archive.
func OpenFolder(root *os.Root) (*Archive, error) {
	return open(&folderEntries{root: root, rest: []string{ManifestName}, known: map[string]bool{ManifestName: true, SignatureName: true}})
}

// folderEntries reads entries out of a folder.
type folderEntries struct {
	root    *os.Root
	rest    []string
	known   map[string]bool
	current func()
}

func (f *folderEntries) expect(m *Manifest) {
	// A folder without a signature is one without the entry.
	if info, err := f.root.Lstat(SignatureName); err == nil && info.Mode().IsRegular() {
		f.rest = append(f.rest, SignatureName)
	}
	for _, file := range m.Files {
		f.rest = append(f.rest, file.Path)
		f.known[file.Path] = true
	}
}

func (f *folderEntries) close() error {
	if f.current != nil {
		f.current()
		f.current = nil
	}
	return nil
}

func (f *folderEntries) read() (*entry, error) {
	_ = f.close() // it was only read
	if len(f.rest) == 0 {
		return nil, f.end()
	}
	name := f.rest[0]
	f.rest = f.rest[1:]
	e, closeFile, err := openEntry(f.root, name)
	if err != nil {
		return nil, err
	}
	f.current = closeFile
	return e, nil
}

// end is io.EOF where the folder holds nothing that was not read.
func (f *folderEntries) end() error {
	count := 0
	err := fs.WalkDir(f.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading an unpacked package: %w", err)
		}
		if count++; count > 2*MaxFiles {
			return bad("the folder holds more than %d files", MaxFiles)
		}
		if !d.IsDir() && !f.known[name] {
			return bad("there is a file %.100q of which the manifest says nothing", name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return io.EOF
}

// openEntry opens a regular file below root; links lead nowhere.
func openEntry(root *os.Root, name string) (*entry, func(), error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, bad("the file %s is missing", name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading an unpacked package: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, bad("%s is no plain file", name)
	}
	// Without O_NONBLOCK a pipe put in the file's place in the meantime would hold the reader up.
	file, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|osfile.NoFollow, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("reading an unpacked package: %w", err)
	}
	opened, err := file.Stat()
	if err != nil || !os.SameFile(info, opened) {
		_ = file.Close() // it was not read
		return nil, nil, bad("%s was replaced while it was opened", name)
	}
	return &entry{path: name, size: opened.Size(), content: io.LimitReader(file, opened.Size())}, func() { _ = file.Close() }, nil
}
