package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/oserror"
)

// PullOptions say how to fetch. The zero value is fit for most.
type PullOptions struct {
	// Parallel is how many ranges are fetched at a time; 0 for DefaultParallel.
	Parallel int
	// PartBytes is how large a range is; 0 for DefaultPart. It is rounded up to whole 64 KiB.
	PartBytes int64
	// Retry says how long to go on while the store cannot be reached.
	Retry cloud.Policy
	// Progress is told, several times a second and from one goroutine at a time, how much is here; nil for nobody.
	Progress func(done, total int64)
	// Check has the last word on a file that is whole, before it gets its name; nil agrees. After an error nothing is
	// kept of it.
	Check func(f *os.File) error
	// Replace allows a file of that name that is another one to be replaced.
	Replace bool

	// write is (*os.File).WriteAt, or a test's.
	write func(f *os.File, b []byte, at int64) (int, error)
}

// Defaults of PullOptions and PushOptions.
const (
	DefaultParallel = 8
	DefaultPart     = 16 << 20
)

const (
	// maxParts bounds the state; parts of larger objects are larger.
	maxParts = 8192
	// maxChanges is how often to begin anew with an object that others change.
	maxChanges = 3
)

// Pulled is what became of a pull.
type Pulled struct {
	// SHA256 is of the bytes that are here, in hexadecimal. Confirmed tells that they were held against what the store, or
	// who pushed them, says of them.
	SHA256    string
	Confirmed bool
	ETag      string
	Bytes     int64
	// Transferred is how many bytes came this time, Resumed how many were here from an earlier try.
	Transferred, Resumed int64
	// Unchanged tells that the file was here already.
	Unchanged bool
}

// ErrOther is a file that has the name of what is fetched and is not that.
var ErrOther = errors.New("another file of that name is there, and a version does not change: remove it if it is the wrong one")

// Pull fetches an object into the file name in root, as the package comment says. It may be called by many at once, for
// one file by one. After an error, what came is kept in Folder for the next call, unless it is the wrong thing.
func Pull(ctx context.Context, from Object, root *os.Root, name string, o PullOptions) (Pulled, error) {
	if name == "" || name != filepath.Base(name) || name[0] == '.' || strings.ContainsRune(name, 0) || !filepath.IsLocal(name) {
		return Pulled{}, fmt.Errorf("%q cannot be the name of a file here", name)
	}
	if o.Parallel <= 0 {
		o.Parallel = DefaultParallel
	}
	if o.PartBytes <= 0 {
		o.PartBytes = DefaultPart
	}
	o.PartBytes = (o.PartBytes + leafBytes - 1) / leafBytes * leafBytes
	if o.write == nil {
		o.write = (*os.File).WriteAt
	}
	for changes := 0; ; changes++ {
		p, err := pull(ctx, from, root, name, o)
		if !errors.Is(err, errChanged) {
			return p, err
		}
		if changes == maxChanges {
			return p, fmt.Errorf("%w, again and again: somebody overwrites it", errChanged)
		}
		if o.Retry.Report != nil {
			o.Retry.Report(fmt.Errorf("%w, so that it is fetched from the beginning", errChanged), 0)
		}
	}
}

// pull is Pull for the object as it is now.
func pull(ctx context.Context, from Object, root *os.Root, name string, o PullOptions) (p Pulled, err error) {
	known := readOrigin(root, name)
	if known != nil && (known.Bucket != from.Bucket || known.Key != from.Key || known.ETag == "") {
		known = nil
	}
	var want Description
	var unchanged bool
	if err := cloud.Retry(ctx, o.Retry, func(ctx context.Context) (err error) {
		etag := ""
		if known != nil {
			etag = known.ETag
		}
		want, unchanged, err = from.Describe(ctx, etag)
		return err
	}); err != nil {
		if cloud.NotFound(err) {
			err = from.ask(ctx, err) // the bucket or the object
		}
		return p, err
	}
	if unchanged {
		return Pulled{SHA256: known.SHA256, Confirmed: true, ETag: known.ETag, Bytes: known.Size, Unchanged: true}, nil
	}
	if p, there, err := alreadyThere(ctx, from, root, name, want, o.Replace); there || err != nil {
		return p, err
	}

	part, about, err := lockPart(root, name)
	if err != nil {
		return p, fileError(err)
	}
	defer part.Close()
	defer about.Close()
	d := newDownload(from, want, part, about, o)
	if err := d.prepare(); err != nil {
		return p, fileError(err)
	}
	p = Pulled{ETag: want.ETag, Bytes: want.Size, Resumed: d.got.Load()}
	sum, err := d.run(ctx)
	p.Transferred = d.got.Load() - p.Resumed
	if errors.Is(err, errChanged) || errors.Is(err, errDamaged) {
		forget(root, name)
		return p, err
	}
	if err != nil {
		return p, fileError(err)
	}
	if o.Progress != nil {
		o.Progress(want.Size, want.Size)
	}
	p.SHA256, p.Confirmed = sum, want.SHA256 != "" || want.CRC64NVME != ""
	if o.Check != nil {
		if err := o.Check(part); err != nil {
			forget(root, name)
			return p, err
		}
	}
	return p, fileError(finish(from, root, name, part, p))
}

// alreadyThere looks at the file that has the name now. What is the object already is noted as that.
func alreadyThere(ctx context.Context, from Object, root *os.Root, name string, want Description, replace bool) (p Pulled, there bool, err error) {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err != nil {
		return p, false, fileError(err)
	}
	if !info.Mode().IsRegular() {
		return p, false, fmt.Errorf("%s is there and is no file", name)
	}
	if info.Size() == want.Size && (want.SHA256 != "" || want.CRC64NVME != "") {
		f, err := root.Open(name)
		if err != nil {
			return p, false, fileError(err)
		}
		defer f.Close()
		sums := newDigests(want)
		size, err := hashFile(ctx, f, sums)
		if err != nil {
			return p, false, fileError(err)
		}
		if size == want.Size && sums.fit(want) {
			p = Pulled{SHA256: sums.hex(), Confirmed: true, ETag: want.ETag, Bytes: size, Unchanged: true}
			if err := root.Mkdir(Folder, 0o755); err == nil || errors.Is(err, fs.ErrExist) {
				note(from, root, name, info, p)
			}
			return p, true, nil
		}
	}
	if !replace {
		return p, false, ErrOther
	}
	return p, false, nil
}

// errDamaged is bytes that are not those of the digest.
var errDamaged = errors.New("the bytes that came are not those that were pushed; nothing of them is kept")

// finish gives the file its name, for good.
func finish(from Object, root *os.Root, name string, part *os.File, p Pulled) error {
	if err := part.Sync(); err != nil {
		return err
	}
	if err := root.Rename(Folder+"/"+name+partSuffix, name); err != nil {
		return err
	}
	_ = root.Remove(Folder + "/" + name + stateSuffix) // without its part it says nothing
	if err := errors.Join(durable.SyncFolderIn(root, "."), durable.SyncFolderIn(root, Folder)); err != nil {
		return err
	}
	if info, err := part.Stat(); err == nil {
		note(from, root, name, info, p)
	}
	return nil
}

// note keeps which object the file is. Without it the next pull reads the file to find out, which is no reason to fail.
func note(from Object, root *os.Root, name string, info fs.FileInfo, p Pulled) {
	o := &origin{Bucket: from.Bucket, Key: from.Key, ETag: p.ETag, SHA256: p.SHA256, Size: info.Size(), Modified: info.ModTime().UnixNano()}
	_ = o.write(root, name)
}

// fileError says what a full disk means, and leaves other errors as they are.
func fileError(err error) error {
	switch {
	case oserror.NoRoom(err), oserror.OverQuota(err):
		return &fullError{err}
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("the file system is mounted read-only: %w", err)
	}
	return err
}

// fullError is a disk that is full.
type fullError struct{ err error }

func (e *fullError) Error() string {
	var path *fs.PathError
	if oserror.OverQuota(e.err) {
		return "the quota of the disk is used up: make room and pull again, what came is kept"
	}
	if errors.As(e.err, &path) && path.Op == opReserve {
		return "the disk has no room for it (" + path.Path + "): make room and pull again"
	}
	return "the disk is full: make room and pull again, what came is kept"
}

func (e *fullError) Unwrap() error { return e.err }

// saveEvery is how often the state is brought to disk while bytes come.
const saveEvery = 2 * time.Second
