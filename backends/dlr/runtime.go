package dlr

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// libdlr is one opened libdlr.
type libdlr struct {
	library *cdlr.Library
	path    string // for people: where it came from
	version string // "1.6.0", or "unknown"
	file    *os.File
}

// runtimes are the libraries of a Backend, by where they come from: a path, or
// the digest of a library that came with an artifact, because every artifact of
// a compiler's version brings the same one.
type runtimes struct {
	mu     sync.Mutex
	opened map[string]*libdlr
}

// systemName is what the loader looks for; systemFolders are searched where it
// finds nothing, because installing libdlr by hand seldom includes ldconfig.
const systemName = "libdlr.so"

var systemFolders = []string{"/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/dlr", "/usr/local/dlr"}

// general is the libdlr for artifacts that bring none.
func (b *Backend) general() (*libdlr, error) {
	if path := b.options.LibraryPath; path != "" {
		return b.open(path, path, path, nil)
	}
	r, err := b.open(systemName, systemName, systemName, nil)
	if err == nil || errors.Is(err, errVersions) {
		return r, err
	}
	for _, folder := range systemFolders {
		path := filepath.Join(folder, systemName)
		if info, statErr := os.Stat(path); statErr == nil && info.Mode().IsRegular() {
			return b.open(path, path, path, nil)
		}
	}
	// The loader found one and could not use it: its reason helps, "install one" does not.
	if !strings.Contains(err.Error(), systemName+": cannot open shared object file") {
		return nil, err
	}
	// The answer goes to clients, for whom the host's folders are no business.
	b.log.Info("no libdlr was found", "file", systemName, "searched", "the loader's folders, "+strings.Join(systemFolders, ", "))
	return nil, fmt.Errorf("%w: there is no libdlr: none is configured and none is installed; install one or name its path in the configuration, as backends.libdlr",
		engine.ErrUnsupported)
}

// runtimeFor is the libdlr that serves the artifact.
func (b *Backend) runtimeFor(a *engine.Artifact, layout neo.Layout, host *hw.Host) (*libdlr, error) {
	if b.options.LibraryPath != "" || layout.Runtime == "" {
		return b.general()
	}
	file, err := a.Open(layout.Runtime)
	if err != nil {
		return nil, err
	}
	r, err := b.bundled(file, layout.Runtime, host)
	if err != nil || r.file != file {
		return r, errors.Join(err, file.Close())
	}
	return r, nil
}

// bundled opens the libdlr in file, which then belongs to what it returns, or to
// the caller where that has another file.
func (b *Backend) bundled(file *os.File, name string, host *hw.Host) (*libdlr, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	if info.Size() > dl.MaxFileSize {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than the %d that fit a library", engine.ErrArtifact, name, info.Size(), dl.MaxFileSize)
	}
	check := neo.CheckLibrary(name, host, func(o *dl.Object) error {
		if err := o.Require("CreateDLRModel", "RunDLRModel"); err != nil {
			return fmt.Errorf("%w: %w", engine.ErrArtifact, err)
		}
		return nil
	})
	if err := check(file, info.Size()); err != nil {
		return nil, err
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(file, 0, info.Size())); err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	return b.open(fmt.Sprintf("sha256:%x", digest.Sum(nil)), name, uniquePath(file), file)
}

// errVersions says that two versions of libdlr met.
var errVersions = errors.New("one process cannot run two versions of libdlr")

// open gives the library known as key, loading it from path where it is new.
func (b *Backend) open(key, name, path string, file *os.File) (*libdlr, error) {
	b.runtimes.mu.Lock()
	defer b.runtimes.mu.Unlock()
	if r := b.runtimes.opened[key]; r != nil {
		return r, nil
	}
	if err := limitThreads(b.options.Threads); err != nil {
		return nil, fmt.Errorf("%w: setting the number of libdlr's threads: %w", engine.ErrUnsupported, err)
	}
	library, err := cdlr.Open(path)
	if err != nil {
		kind := engine.ErrUnsupported
		if file != nil {
			kind = engine.ErrHost
		}
		return nil, fmt.Errorf("%w: %s cannot be loaded: %w", kind, name, err)
	}
	r := &libdlr{library: library, path: name, version: "unknown", file: file}
	if v, err := library.Version(); err == nil {
		r.version = v
	}
	// Parts of TVM are defined once per process, whichever library came first:
	// another version would run on them and be lost.
	for _, o := range b.runtimes.opened {
		if o.version != r.version {
			err := fmt.Errorf("%w: %w: %s is %s, and %s, which is %s, is loaded; restart with the one to use as the configured path",
				engine.ErrUnsupported, errVersions, name, r.version, o.path, o.version)
			return nil, errors.Join(err, library.Close())
		}
	}
	if b.options.AlignedAllocator {
		if err := useAllocator(library); err != nil {
			b.log.Warn("libdlr keeps its own allocator", "library", name, "version", r.version, "reason", err)
		} else if b.options.PinnedBytes > 0 {
			if err := pinArena(b.options.PinnedBytes); err != nil {
				b.log.Warn("libdlr's memory is aligned but not pinned", "library", name, "version", r.version, "reason", err)
			}
		}
	}
	if b.runtimes.opened == nil {
		b.runtimes.opened = map[string]*libdlr{}
	}
	b.runtimes.opened[key] = r
	b.log.Info("loaded libdlr", "library", name, "version", r.version)
	return r, nil
}

// close closes every library. One with a model still open stays, as an error.
func (r *runtimes) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for key, o := range r.opened {
		if err := o.library.Close(); err != nil {
			errs = append(errs, err)
			continue
		}
		if o.file != nil {
			errs = append(errs, o.file.Close())
		}
		delete(r.opened, key)
	}
	return errors.Join(errs...)
}

// zerosNotes says what the library makes of exact zeros in the input of a tree
// model, where that is not what a trainer makes of them.
func (l *libdlr) zerosNotes(metadata neo.Metadata) []engine.Note {
	if !l.before(7) || metadata.SparseInput {
		return metadata.ZerosNotes()
	}
	return []engine.Note{{Level: slog.LevelWarn, Text: fmt.Sprintf(
		"libdlr %s takes exact zeros for missing values, which this model's metadata does not ask for; "+
			"where a zero is a value, run the model with backend treelite or libdlr 1.7 or later", l.version)}}
}

// before tells whether the library is older than that release of DLR 1.
func (l *libdlr) before(minor int) bool {
	var major, m int
	n, err := fmt.Sscanf(l.version, "%d.%d", &major, &m)
	return err == nil && n == 2 && major == 1 && m < minor
}
