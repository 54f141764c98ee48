// Package store opens artifacts that lie in folders of this machine. It is the
// engine's Source, and the place where it is decided what may be loaded: below
// which folders, and whether a package without a signature is accepted.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/picket-ml/picket/engine"
)

// Options is the policy of a Store.
type Options struct {
	// Roots are the folders below which models must lie, absolute or relative
	// to the working directory. Empty: models may lie anywhere.
	Roots []string
	// Also are single folders that may be opened wherever they lie, because the
	// operator and not a client has named them. They do not restrict others.
	Also []string
	// Unsigned accepts packages without a signature. Loading one is logged.
	// Signatures cannot be verified yet, so without it every package is refused.
	Unsigned bool
	// Log gets a warning for each unsigned package that is opened. Nil for none.
	Log *slog.Logger
}

// Store implements engine.Source over local folders. It may be used by many
// goroutines at once.
type Store struct {
	roots    []string // absolute and clean, as the next; longest first
	also     atomic.Pointer[[]string]
	unsigned bool
	log      *slog.Logger
}

// New makes a Store. The roots need not exist yet: a disk may be mounted after
// the daemon has started.
func New(o Options) (*Store, error) {
	s := &Store{unsigned: o.Unsigned, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if s.roots, err = absolute(o.Roots); err != nil {
		return nil, err
	}
	// The innermost first: it may be a link that leads out of the others.
	slices.SortFunc(s.roots, func(a, b string) int { return len(b) - len(a) })
	if err := s.SetAlso(o.Also); err != nil {
		return nil, err
	}
	return s, nil
}

// SetAlso changes what Options.Also said, for what is opened from now on. When it
// fails nothing changes.
func (s *Store) SetAlso(dirs []string) error {
	also, err := absolute(dirs)
	if err != nil {
		return err
	}
	s.also.Store(&also)
	return nil
}

func absolute(dirs []string) ([]string, error) {
	var all []string
	for _, dir := range dirs {
		if dir == "" {
			return nil, errors.New("reading the model roots: one of them is empty")
		}
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("reading the model roots: %w", err)
		}
		all = append(all, abs)
	}
	return all, nil
}

// Open implements engine.Source. url is a folder, absolute or relative to the
// working directory. The errors are engine.ErrNotFound when nothing is there,
// engine.ErrArtifact when it is no folder or cannot be read, engine.ErrTrust
// when it lies outside the roots or is not signed. They name no path but url.
// The caller closes the Artifact.
func (s *Store) Open(ctx context.Context, url string) (*engine.Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	if url == "" {
		return nil, fmt.Errorf("opening the package: %w: the url is empty, it must be a folder on the daemon's machine", engine.ErrNotFound)
	}
	dir, err := filepath.Abs(url)
	if err != nil {
		return nil, fmt.Errorf("opening the package at %q: %w: %w", url, engine.ErrNotFound, err)
	}
	root, err := s.openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the package at %q: %w", url, err)
	}
	a, err := engine.NewArtifact(url, root)
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("opening the package at %q: %w", url, err)
	}
	a.Dir = dir
	if err := s.admit(a); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("opening the package at %q: %w", url, err)
	}
	return a, nil
}

// openDir opens the folder dir, an absolute and clean path, as the policy on
// roots allows.
func (s *Store) openDir(dir string) (*os.Root, error) {
	if len(s.roots) == 0 || slices.Contains(*s.also.Load(), dir) {
		// Looked at first because opening a named pipe would wait for a writer.
		info, err := os.Stat(dir)
		if err != nil {
			return nil, because(err)
		}
		if !info.IsDir() {
			return nil, errNoFolder
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, because(err)
		}
		return root, nil
	}
	for _, allowed := range s.roots {
		below, err := filepath.Rel(allowed, dir)
		if err != nil || !filepath.IsLocal(below) {
			continue
		}
		return openBelow(allowed, below)
	}
	return nil, fmt.Errorf("%w: it is not below one of the configured model roots", engine.ErrTrust)
}

// openBelow opens the folder below of the root allowed. Links are followed
// only as far as they stay below it.
func openBelow(allowed, below string) (*os.Root, error) {
	outer, err := os.OpenRoot(allowed)
	if err != nil {
		return nil, because(err)
	}
	defer outer.Close()
	info, err := outer.Stat(below)
	if err != nil {
		return nil, because(err)
	}
	if !info.IsDir() {
		return nil, errNoFolder
	}
	root, err := outer.OpenRoot(below)
	if err != nil {
		return nil, because(err)
	}
	return root, nil
}

var errNoFolder = fmt.Errorf("%w: it is a file; a package is the folder that its files were unpacked to", engine.ErrArtifact)

// because turns an error of the file system into one that names no path.
func because(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: nothing is there", engine.ErrNotFound)
	case isUnusablePath(err):
		return fmt.Errorf("%w: no file can be called that", engine.ErrNotFound)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: the daemon's user may not read it", engine.ErrArtifact)
	case strings.Contains(err.Error(), "escapes"):
		// os.Root has no error value for it. Were its text to change, the
		// refusal would stay and only the sentence would be the one below.
		return fmt.Errorf("%w: a link on the way leads out of the model root", engine.ErrTrust)
	}
	return fmt.Errorf("%w: %w", engine.ErrArtifact, err)
}

// canceled is the engine's word for the end of a context.
func canceled(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("opening the package: %w", engine.ErrDeadline)
	}
	return fmt.Errorf("opening the package: %w by the caller", engine.ErrCanceled)
}

// admit decides whether the package is trusted.
func (s *Store) admit(a *engine.Artifact) error {
	if !s.unsigned {
		return fmt.Errorf("%w: it is not signed, and picketd was started without --unsigned", engine.ErrTrust)
	}
	manifest, err := ReadManifest(a)
	if err != nil {
		// A package is not worse for a manifest that only tells its name.
		s.log.Warn("reading a package's manifest", "url", a.URL, "error", err)
	}
	s.log.Warn("opening a package that is not signed, as --unsigned allows",
		"url", a.URL, "package", manifest.Name, "version", manifest.Version)
	return nil
}
