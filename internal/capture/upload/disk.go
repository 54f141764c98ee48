package upload

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/durable"
)

// disk is a Destination: the same tree as in S3, below a directory.
type disk struct {
	dir   string
	root  *os.Root
	own   string // this process's folder in partial
	count atomic.Uint64
}

// partial holds files that are not whole yet, in a folder for each process. Whoever reads
// the tree leaves it out.
const partial = ".picket-partial"

// forgotten is how old what another process left is when it is removed.
const forgotten = time.Hour

// NewDirectory sends to dir, which is made where it is not there. What a crash left of
// files that were not whole is removed.
func NewDirectory(dir string) (Destination, error) {
	if err := durable.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the directory of the destination: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the destination: %w", err)
	}
	d := &disk{dir: dir, root: root, own: path.Join(partial, rand.Text())}
	if err := d.tidy(time.Now()); err != nil {
		_ = root.Close() // nothing was written below it
		return nil, fmt.Errorf("preparing the directory of the destination: %w", err)
	}
	return d, nil
}

// tidy removes what processes that are gone left.
func (d *disk) tidy(now time.Time) error {
	entries, err := fs.ReadDir(d.root.FS(), partial)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if info, gone := e.Info(); gone == nil && now.Sub(info.ModTime()) > forgotten {
			err = errors.Join(err, d.root.RemoveAll(path.Join(partial, e.Name())))
		}
	}
	return err
}

func (d *disk) URL(key string) string { return "file://" + filepath.Join(d.dir, key) }

// Put writes a file aside, forces it to disk, and gives it its name, unless that is
// taken. Whoever reads the tree sees whole files only.
func (d *disk) Put(ctx context.Context, item *Item) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if tag, ok, err := d.same(item); err != nil || ok {
		return tag, err
	}
	if err := d.makeFolder(path.Dir(item.Key)); err != nil {
		return "", d.failed(item.Key, err)
	}
	aside := path.Join(d.own, strconv.FormatUint(d.count.Add(1), 10))
	if err := d.write(aside, item.Body); err != nil {
		return "", d.failed(item.Key, err)
	}
	err := d.root.Link(aside, item.Key) // which, unlike renaming, replaces nothing
	removed := d.root.Remove(aside)
	if errors.Is(err, fs.ErrExist) {
		tag, ok, err := d.same(item)
		if err == nil && !ok {
			err = taken(d.URL(item.Key))
		}
		return tag, err
	}
	if err = errors.Join(err, removed); err != nil {
		return "", d.failed(item.Key, err)
	}
	if err := durable.SyncFolderIn(d.root, path.Dir(item.Key)); err != nil {
		return "", d.failed(item.Key, err)
	}
	return hexOf(sha256.Sum256(item.Body)), nil
}

func (d *disk) write(name string, body []byte) (err error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = d.root.Remove(name) // the disk may be full
	}
	return err
}

// makeFolder makes a folder and what is above it, and has the folders above know.
func (d *disk) makeFolder(name string) error {
	if info, err := d.root.Stat(name); err == nil && info.IsDir() {
		return nil
	}
	above := path.Dir(name)
	if name != "." {
		if err := d.makeFolder(above); err != nil {
			return err
		}
	}
	if err := d.root.Mkdir(name, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncFolderIn(d.root, above)
}

// same tells whether the file is there with the item's bytes; with others it is an error.
func (d *disk) same(item *Item) (string, bool, error) {
	f, err := d.root.Open(item.Key)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, d.failed(item.Key, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", false, taken(d.URL(item.Key))
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, f); err != nil {
		return "", false, d.failed(item.Key, err)
	}
	want := sha256.Sum256(item.Body)
	if !bytes.Equal(digest.Sum(nil), want[:]) {
		return "", false, taken(d.URL(item.Key))
	}
	// It may be from before a crash that its folder did not survive.
	if err := durable.SyncFolderIn(d.root, path.Dir(item.Key)); err != nil {
		return "", false, d.failed(item.Key, err)
	}
	return hexOf(want), true, nil
}

func (d *disk) Has(ctx context.Context, key string) (string, bool, error) {
	if err := ctx.Err(); err != nil {
		return "", false, err
	}
	info, err := d.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, d.failed(key, err)
	}
	return "", info.Mode().IsRegular(), nil
}

func (d *disk) Close() error {
	_ = d.root.RemoveAll(d.own) // a later start removes it too
	return d.root.Close()
}

func (d *disk) failed(key string, err error) error {
	return fmt.Errorf("storing %s: %w", d.URL(key), err)
}
