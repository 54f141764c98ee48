// Package store opens models that lie on this machine: packages, which are
// unpacked into the daemon's state directory, and folders. It is the engine's
// Source, and the place where it is decided what may be loaded: below which
// folders, and who must have signed it.
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
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// Options is the policy of a Store.
type Options struct {
	// Roots are the folders below which models must lie, absolute or relative
	// to the working directory. Empty: models may lie anywhere.
	Roots []string
	// Also are single folders and packages that may be opened wherever they lie,
	// because the operator and not a client has named them. They do not restrict
	// others.
	Also []string
	// Packages is the folder in which packages are found by their names; empty
	// for none.
	Packages string
	// State is where packages are unpacked to, and where it is kept which have
	// been run; it is made if it is not there. Empty: packages cannot be opened,
	// but for those that somebody else has unpacked.
	State string
	// Host is what the variants of a package are chosen for. Without it only those
	// that ask for nothing fit.
	Host *hw.Host
	// Trust is who may sign packages; nil for nobody.
	Trust *Trust
	// Unsigned accepts packages without a signature. Loading one is logged.
	Unsigned bool
	// Log gets a warning for each unsigned package that is opened. Nil for none.
	Log *slog.Logger
	// Now is time.Now, or a test's.
	Now func() time.Time
}

// Store implements engine.Source over local files. It may be used by many
// goroutines at once.
type Store struct {
	roots    []string // absolute and clean, as the next; longest first
	also     atomic.Pointer[[]string]
	vouched  sync.Map // what Vouch has said, by path
	packages string
	unsigned bool
	trust    *Trust
	host     *hw.Host
	log      *slog.Logger

	state    *os.Root  // nil without a state directory, as the next two
	unpacked *unpacked // packages, by digest
	ledger   *ledger   // which were run
}

// New makes a Store. The roots need not exist yet: a disk may be mounted after
// the daemon has started. The caller closes it.
func New(o Options) (*Store, error) {
	s := &Store{unsigned: o.Unsigned, trust: o.Trust, host: o.Host, log: o.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.host == nil {
		s.host = &hw.Host{}
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
	if o.Packages != "" {
		if s.packages, err = filepath.Abs(o.Packages); err != nil {
			return nil, fmt.Errorf("finding the folder of packages: %w", err)
		}
	}
	if err := s.openState(o.State, o.Now); err != nil {
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

// Vouch says that the package in the file at path, absolute, may be opened wherever it
// lies, if it has that digest, and that nothing else may be opened there; and, if older,
// although a higher version has run. Its signature counts as ever. It is for who knows
// from elsewhere which package it must be, and from signed documents that it may be old.
func (s *Store) Vouch(path, digest string, older bool) { s.vouched.Store(path, vouch{digest, older}) }

// vouch is what Vouch has said.
type vouch struct {
	digest string
	older  bool
}

// vouchedFor is what was said of the package at path; zero for nothing.
func (s *Store) vouchedFor(path string) vouch {
	v, _ := s.vouched.Load(path)
	said, _ := v.(vouch)
	return said
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

// openState opens what is kept between starts. Without trust nothing depends on it
// but packages, and the others can be served.
func (s *Store) openState(state string, now func() time.Time) error {
	if state == "" {
		if s.trust != nil {
			return errors.New("opening the store of packages: there is no state directory, in which verified packages are unpacked and older ones are kept from coming back; name one with --state")
		}
		return nil
	}
	if now == nil {
		now = time.Now
	}
	root, err := openPrivate(state)
	if err == nil {
		if s.unpacked, err = openUnpacked(state, s.log); err != nil {
			_ = root.Close() // nothing was written
		}
	}
	if err == nil {
		s.state, s.ledger = root, &ledger{root: root, now: now}
		return nil
	}
	if s.trust != nil {
		return fmt.Errorf("opening the store of packages in %s: %w", state, err)
	}
	s.log.Warn("packages cannot be opened: the state directory cannot be used", "state", state, "error", err)
	return nil
}

// Close gives back what New opened. Artifacts that were opened stay usable.
func (s *Store) Close() error {
	if s.state == nil {
		return nil
	}
	return errors.Join(s.unpacked.close(), s.state.Close())
}

// Open implements engine.Source. url is a package's file, or a folder, absolute
// or relative to the working directory; or the name of a package in the folder of
// packages, alone for its highest version or as name@version. The errors are
// engine.ErrNotFound when nothing is there, engine.ErrArtifact when it is nothing
// that can be read, engine.ErrHost when no variant of a package is for this host,
// engine.ErrTrust when it lies outside the roots or is not signed by anybody who
// may. They name no path but url. The caller closes the Artifact.
func (s *Store) Open(ctx context.Context, url string) (*engine.Artifact, error) {
	if err := ctx.Err(); err != nil {
		return nil, canceled(err)
	}
	if url == "" {
		return nil, fmt.Errorf("opening the package: %w: the url is empty, it must be a folder or a package on the daemon's machine", engine.ErrNotFound)
	}
	a, err := s.open(ctx, url)
	if err != nil && ctx.Err() != nil {
		return nil, canceled(ctx.Err())
	}
	if err != nil {
		return nil, fmt.Errorf("opening the package at %q: %w", url, err)
	}
	return a, nil
}

// Locate is the path of what Open would open at url now, as far as that is known without opening it: for the name of a
// package its file, which is another one when a higher version has come, and else url itself.
func (s *Store) Locate(url string) string {
	p, err := s.findByName(url)
	if p == nil || err != nil {
		return url
	}
	defer p.close()
	return p.path
}

func (s *Store) open(ctx context.Context, url string) (*engine.Artifact, error) {
	found, err := s.find(url)
	if err != nil {
		return nil, err
	}
	defer found.close()
	if found.file != nil {
		return s.openArchive(ctx, url, found)
	}
	if whole, err := isPackage(found.root); err != nil {
		return nil, err
	} else if whole && (s.trust != nil || s.unpacked != nil) {
		return s.openUnpackedByOthers(ctx, url, found)
	}
	return s.openBare(url, found)
}

// openBare opens a folder of which nobody vouches.
func (s *Store) openBare(url string, found *spot) (*engine.Artifact, error) {
	a, err := engine.NewArtifact(url, found.root)
	if err != nil {
		return nil, err
	}
	found.root = nil // it is the Artifact's now
	a.Dir = found.path
	if err := s.admit(a); err != nil {
		_ = a.Close() // it was only read
		return nil, err
	}
	return a, nil
}

// spot is what was found at a url: a folder or a file.
type spot struct {
	path string // absolute
	root *os.Root
	file *os.File
	// name and version are those under which a package was asked for; empty where it was by path, and version where any
	// would do.
	name, version string
}

// close closes what nobody has taken over.
func (p *spot) close() {
	if p.root != nil {
		_ = p.root.Close() // it was only read
	}
	if p.file != nil {
		_ = p.file.Close() // likewise
	}
}

// find opens what is at url as the policy on roots allows.
func (s *Store) find(url string) (*spot, error) {
	if p, err := s.findByName(url); p != nil || err != nil {
		return p, err
	}
	p, err := s.findByPath(url)
	if errors.Is(err, engine.ErrNotFound) && byName.MatchString(url) {
		if s.packages == "" {
			return nil, fmt.Errorf("%w, and no folder of packages is configured in which one could be called that", err)
		}
		return nil, fmt.Errorf("%w, and none of the packages is called that", err)
	}
	return p, err
}

// findByPath opens what a path names.
func (s *Store) findByPath(url string) (*spot, error) {
	path, err := filepath.Abs(url)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrNotFound, err)
	}
	if len(s.roots) == 0 || slices.Contains(*s.also.Load(), path) || s.vouchedFor(path) != (vouch{}) {
		return openSpot(path, path, wholeSystem{})
	}
	for _, allowed := range s.roots {
		below, err := filepath.Rel(allowed, path)
		if err != nil || !filepath.IsLocal(below) {
			continue
		}
		outer, err := os.OpenRoot(allowed)
		if err != nil {
			return nil, because(err)
		}
		defer outer.Close()
		return openSpot(path, below, outer) // links are followed only as far as they stay below it
	}
	return nil, fmt.Errorf("%w: it is not below one of the configured model roots", engine.ErrTrust)
}

// places is where files are opened: an os.Root, or the whole file system.
type places interface {
	Stat(name string) (fs.FileInfo, error)
	OpenRoot(name string) (*os.Root, error)
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
}

type wholeSystem struct{}

func (wholeSystem) Stat(name string) (fs.FileInfo, error)  { return os.Stat(name) }
func (wholeSystem) OpenRoot(name string) (*os.Root, error) { return os.OpenRoot(name) }
func (wholeSystem) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag, perm)
}

// openSpot opens the folder or the file name, which is called path outside of in.
func openSpot(path, name string, in places) (*spot, error) {
	// Looked at first because opening a named pipe would wait for a writer.
	info, err := in.Stat(name)
	if err != nil {
		return nil, because(err)
	}
	p := &spot{path: path}
	switch {
	case info.IsDir():
		p.root, err = in.OpenRoot(name)
	case info.Mode().IsRegular():
		p.file, err = in.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	default:
		return nil, errNoFolder
	}
	if err != nil {
		return nil, because(err)
	}
	return p, nil
}

var errNoFolder = fmt.Errorf("%w: it is a file, and neither a package nor the folder that one was unpacked to", engine.ErrArtifact)

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
		if s.trust == nil {
			return fmt.Errorf("%w: it is not signed, and picketd was started without --unsigned", engine.ErrTrust)
		}
		return fmt.Errorf("%w: it is a folder without a package's manifest, so it is not signed, and picketd was started without --unsigned", engine.ErrTrust)
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
