package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
)

// maxArtifactFiles bounds the listing of an artifact's folder.
const maxArtifactFiles = 4096

// Artifact is an opened folder of model files. Every file of it is opened below
// Root, so no name and no link leads out of it.
type Artifact struct {
	// URL is what the caller asked for, for messages and listings.
	URL string
	// Root is the folder. The Artifact owns it.
	Root *os.Root
	// Dir is the absolute path of the folder, for libraries that insist on a
	// path. Prefer Open.
	Dir string
	// Files are the regular files at the top level, sorted by name. Links are
	// followed where they stay below Root; others, and folders, are left out.
	Files []ArtifactFile
	// Package is what the Source knows of the package that this is a part of; nil for nothing.
	Package *Package
	// LeftOut is the rest of what the folder holds, sorted by name, for messages.
	LeftOut []LeftOut

	// digests are those of the files that were asked for, by name.
	digests map[string]fileDigest
}

// fileDigest is what a file held when it was read.
type fileDigest struct {
	sum  [sha256.Size]byte
	info fs.FileInfo // of the file, before it was read
}

// ArtifactFile is one file of an Artifact.
type ArtifactFile struct {
	Name string
	Size int64
}

// LeftOut is a thing in an artifact's folder that is no file of the Artifact.
type LeftOut struct {
	Name   string
	Reason string // "it is a folder"
}

// String names it and says why it was left out.
func (l LeftOut) String() string { return fmt.Sprintf("%q was left out: %s", l.Name, l.Reason) }

// Source gives artifacts to the engine. It decides what may be loaded: whether
// the place is allowed and whether the package is trusted.
type Source interface {
	// Open opens the artifact at url, whose meaning is the Source's own. The
	// caller closes the Artifact. Errors wrap ErrNotFound, ErrTrust or
	// ErrArtifact.
	Open(ctx context.Context, url string) (*Artifact, error)
}

// NewArtifact lists root, which the Artifact then owns. After an error root is
// still the caller's.
func NewArtifact(url string, root *os.Root) (*Artifact, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, fmt.Errorf("listing the artifact: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxArtifactFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("listing the artifact: %w", err)
	}
	if len(names) > maxArtifactFiles {
		return nil, fmt.Errorf("%w: the folder holds more than %d files", ErrArtifact, maxArtifactFiles)
	}
	a := &Artifact{URL: url, Root: root, Dir: root.Name()}
	for _, name := range names {
		info, err := root.Stat(name)
		if err == nil && info.Mode().IsRegular() {
			a.Files = append(a.Files, ArtifactFile{Name: name, Size: info.Size()})
		} else if reason := whyLeftOut(root, name, info, err); reason != "" {
			a.LeftOut = append(a.LeftOut, LeftOut{Name: name, Reason: reason})
		}
	}
	slices.SortFunc(a.LeftOut, func(x, y LeftOut) int { return strings.Compare(x.Name, y.Name) })
	slices.SortFunc(a.Files, func(x, y ArtifactFile) int { return strings.Compare(x.Name, y.Name) })
	return a, nil
}

// whyLeftOut says why name, of which root.Stat said info or err, is no file of
// an artifact. It is empty for what went away since the listing. Where a link
// leads is not said, because that may be a path of the host's.
func whyLeftOut(root *os.Root, name string, info fs.FileInfo, err error) string {
	switch {
	case err == nil && info.IsDir():
		return "it is a folder"
	case err == nil:
		return "it is not a regular file"
	}
	own, ownErr := root.Lstat(name)
	switch {
	case errors.Is(ownErr, fs.ErrNotExist):
		return ""
	case ownErr != nil || own.Mode().Type() != fs.ModeSymlink || errors.Is(err, fs.ErrPermission):
		return "it cannot be looked at"
	case errors.Is(err, fs.ErrNotExist):
		return "it is a link to nothing"
	case errors.Is(err, syscall.ELOOP):
		return "it is a link that leads back to itself"
	}
	return "it is a link out of the folder"
}

// maxNamedLeftOut is how many things LeftOutText names: a model has few files,
// and a message is read by people.
const maxNamedLeftOut = 3

// LeftOutText ends a message that misses a file: "; " and what was left out of
// the artifact, or nothing where it is whole.
func (a *Artifact) LeftOutText() string {
	var text strings.Builder
	for i, l := range a.LeftOut {
		if i == maxNamedLeftOut {
			fmt.Fprintf(&text, "; and %d more", len(a.LeftOut)-i)
			break
		}
		fmt.Fprintf(&text, "; %v", l)
	}
	return text.String()
}

// Open opens a regular file of the artifact for reading. The caller closes it.
func (a *Artifact) Open(name string) (*os.File, error) {
	// Without O_NONBLOCK a named pipe put in the file's place after the listing
	// would hold the loader up for ever.
	f, err := a.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has no file %s", ErrArtifact, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: opening %s: %w", ErrArtifact, name, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close() // it was never read
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrArtifact, name)
	}
	return f, nil
}

// ReadFile reads a file of the artifact that may not be larger than limit
// bytes.
func (a *Artifact) ReadFile(name string, limit int64) ([]byte, error) {
	f, err := a.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", ErrArtifact, name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrArtifact, name, limit)
	}
	return data, nil
}

// SHA256 is the digest of a file of the artifact, which is read once however
// often it is asked for; files may be large, so ctx can end it. It is not for
// several goroutines at once. What is read later may be another content: whoever
// trusts a digest takes it of the very bytes it uses.
func (a *Artifact) SHA256(ctx context.Context, name string) ([sha256.Size]byte, error) {
	if d, ok := a.digests[name]; ok {
		return d.sum, nil
	}
	f, err := a.Open(name)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("%w: reading %s: %w", ErrArtifact, name, err)
	}
	digest, buffer := sha256.New(), make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return [sha256.Size]byte{}, contextError(err)
		}
		n, err := f.Read(buffer)
		digest.Write(buffer[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return [sha256.Size]byte{}, fmt.Errorf("%w: reading %s: %w", ErrArtifact, name, err)
		}
	}
	if a.digests == nil {
		a.digests = make(map[string]fileDigest)
	}
	sum := [sha256.Size]byte(digest.Sum(nil))
	a.digests[name] = fileDigest{sum, info}
	return sum, nil
}

// unchanged fails where a file is not the one any more that SHA256 read, so that
// what was opened since may not be what the digest is of.
func (a *Artifact) unchanged() error {
	for _, name := range slices.Sorted(maps.Keys(a.digests)) {
		was := a.digests[name].info
		is, err := a.Root.Stat(name)
		if err != nil || !os.SameFile(was, is) || was.Size() != is.Size() || !was.ModTime().Equal(is.ModTime()) {
			return fmt.Errorf("%w: %s was changed while the model was being loaded", ErrArtifact, name)
		}
	}
	return nil
}

// Has tells whether the artifact has a file of that name.
func (a *Artifact) Has(name string) bool {
	return slices.ContainsFunc(a.Files, func(f ArtifactFile) bool { return f.Name == name })
}

// Close closes Root.
func (a *Artifact) Close() error { return a.Root.Close() }
