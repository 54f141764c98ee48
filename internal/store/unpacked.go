package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/oserror"
	"github.com/picket-ml/picket/internal/osfile"
	"github.com/picket-ml/picket/packaging"
)

const (
	// unpackedFolder is where they lie in the state directory. Not "packages": that is what an operator calls the folder of archives, which may lie there too
	// and belong to somebody else.
	unpackedFolder = "unpacked"
	// keepUnpacked is how many stay; those that were not loaded for longest go.
	keepUnpacked = 32

	halfDonePrefix = ".unpack-"
	// oldListSuffix is of the file beside an unpacked archive of the old service that lists what was in it.
	oldListSuffix = ".files"
)

var unpackedName = regexp.MustCompile(`^[0-9a-f]{64}$`)

// unpacked keeps packages that were unpacked, each in a folder that is called by its digest. A folder is made under another
// name and appears as a whole; what a process that was killed left half done goes when the next one starts.
//
// Nothing is forced to disk: after a power failure a folder may be there with damaged files. Every file of a variant is
// hashed again before it is handed out, and a folder that does not hold what it should is made again.
type unpacked struct {
	root *os.Root
	dir  string // absolute
	log  *slog.Logger
	// busy is held by the one load that unpacks.
	busy chan struct{}
}

func openUnpacked(state string, log *slog.Logger) (*unpacked, error) {
	dir, err := filepath.Abs(filepath.Join(state, unpackedFolder))
	if err != nil {
		return nil, err
	}
	root, err := openPrivate(dir)
	if err != nil {
		return nil, err
	}
	u := &unpacked{root: root, dir: dir, log: log, busy: make(chan struct{}, 1)}
	if err := u.sweep(); err != nil {
		_ = root.Close() // nothing was written
		return nil, err
	}
	return u, nil
}

// openPrivate opens a folder into which nobody else can put anything, and makes it if it is not there.
func openPrivate(dir string) (*os.Root, error) {
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		err = checkPrivate(info, os.Geteuid())
	}
	if err != nil {
		_ = root.Close() // nothing was written
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return root, nil
}

func (u *unpacked) close() error { return u.root.Close() }

// sweep removes what was left half done by processes that are gone. Those that are at work hold a lock on their folder.
func (u *unpacked) sweep() error {
	entries, err := fs.ReadDir(u.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), halfDonePrefix) || !e.IsDir() {
			continue
		}
		if err := u.removeIdle(e.Name()); err != nil {
			u.log.Warn("removing what was left half unpacked", "folder", e.Name(), "error", err)
		}
	}
	return nil
}

// removeIdle removes a folder on which nobody holds a lock.
func (u *unpacked) removeIdle(name string) error {
	release, err := osfile.TryLockDir(u.root, name)
	if errors.Is(err, osfile.ErrLocked) {
		return nil // somebody is at work there
	}
	if err != nil {
		return err
	}
	return errors.Join(u.remove(name), release())
}

// remove removes a folder whose folders nobody may write to.
func (u *unpacked) remove(name string) error {
	err := fs.WalkDir(u.root.FS(), name, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = u.root.Chmod(path, 0o700)
		}
		return err
	})
	return errors.Join(err, u.root.RemoveAll(name))
}

// put has fill unpack something below a new folder, and gives that the name digits. Where another daemon was faster, its
// folder stays, and what lies there is not ours.
func (u *unpacked) put(digits string, fill func(*os.Root) error) (ours bool, err error) {
	temporary := fmt.Sprintf("%s%016x", halfDonePrefix, rand.Uint64())
	if err := u.root.Mkdir(temporary, 0o700); err != nil {
		return false, storing(err)
	}
	done := false
	defer func() {
		if !done {
			_ = u.remove(temporary) // the first error tells more
		}
	}()
	release, err := osfile.LockDir(u.root, temporary)
	if err != nil {
		return false, storing(err)
	}
	defer func() { _ = release() }() // the lock ends with the descriptor, however it is closed
	root, err := u.root.OpenRoot(temporary)
	if err != nil {
		return false, storing(err)
	}
	err = fill(root)
	_ = root.Close() // Windows renames no folder that is open
	if err != nil {
		return false, err
	}
	err = u.root.Rename(temporary, digits)
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, storing(err)
	}
	done = true
	return true, nil
}

// storing gives an error of the state directory's file system its kind.
func storing(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	kind := engine.ErrArtifact
	if errors.Is(err, kind) {
		return err
	}
	if oserror.NoRoom(err) || oserror.OverQuota(err) {
		kind = engine.ErrMemory
	}
	return fmt.Errorf("%w: it cannot be unpacked into the state directory: %w", kind, err)
}

// get opens the folder of a variant of the package, which it unpacks if it is not there or is damaged. check fails where a
// folder does not hold what it should.
func (u *unpacked) get(ctx context.Context, digits, variant string, fill, check func(*os.Root) error) (root *os.Root, dir string, err error) {
	select {
	case u.busy <- struct{}{}:
		defer func() { <-u.busy }()
	case <-ctx.Done():
		return nil, "", canceled(ctx.Err())
	}
	for attempt, ours := 0, false; ; attempt++ {
		root, err = u.root.OpenRoot(digits)
		if err == nil && !ours { // what was just unpacked was hashed on the way
			err = check(root)
		}
		if err == nil {
			break
		}
		if root != nil {
			_ = root.Close() // it was only read
		}
		switch {
		case ctx.Err() != nil:
			return nil, "", canceled(ctx.Err())
		case attempt > 0:
			return nil, "", storing(err)
		case root != nil:
			u.log.Warn("unpacking a package again: what was unpacked is damaged", "package", "sha256:"+digits, "error", err)
			if err := u.remove(digits); err != nil {
				return nil, "", storing(err)
			}
		case !errors.Is(err, fs.ErrNotExist):
			return nil, "", storing(err)
		}
		if ours, err = u.put(digits, fill); err != nil {
			return nil, "", err
		}
		u.prune(digits)
	}
	defer root.Close()
	now := time.Now()
	_ = u.root.Chtimes(digits, now, now) // what was used last stays longest; where it cannot be said, it goes earlier
	own, err := root.OpenRoot(variant)
	if err != nil {
		return nil, "", storing(err)
	}
	return own, filepath.Join(u.dir, digits, filepath.FromSlash(variant)), nil
}

// prune removes the packages that were not loaded for longest where there are too many.
func (u *unpacked) prune(keep string) {
	entries, err := fs.ReadDir(u.root.FS(), ".")
	if err != nil {
		return // the next one will
	}
	var old []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() && unpackedName.MatchString(e.Name()) && e.Name() != keep {
			old = append(old, info)
		}
	}
	slices.SortFunc(old, func(x, y fs.FileInfo) int {
		return cmp.Or(y.ModTime().Compare(x.ModTime()), strings.Compare(x.Name(), y.Name()))
	})
	for _, info := range old[min(keepUnpacked-1, len(old)):] {
		if err := u.remove(info.Name()); err != nil {
			u.log.Warn("removing an unpacked package that was not used for long", "package", "sha256:"+info.Name(), "error", err)
		}
		_ = u.root.Remove(info.Name() + oldListSuffix) // there is one of old packages alone
	}
}

// writeList keeps what was in an archive of the old service, which has no manifest that says so.
func (u *unpacked) writeList(digits string, files []packaging.File) error {
	data, err := json.Marshal(files)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s%s.%016x", digits, oldListSuffix, rand.Uint64())
	if err := u.root.WriteFile(temporary, data, 0o600); err != nil {
		return storing(err)
	}
	if err := u.root.Rename(temporary, digits+oldListSuffix); err != nil {
		return storing(err)
	}
	return nil
}

// readList is what writeList kept.
func (u *unpacked) readList(digits string) ([]packaging.File, error) {
	data, err := u.root.ReadFile(digits + oldListSuffix)
	if err != nil {
		return nil, err
	}
	var files []packaging.File
	if err := json.Unmarshal(data, &files); err != nil {
		return nil, err
	}
	return files, nil
}
