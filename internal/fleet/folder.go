package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

// Folder is a Bucket in the file system: for hosts whose only way in is a disk that
// somebody carries, or a share.
type Folder struct{ dir string }

// NewFolder makes the folder if it is not there.
func NewFolder(dir string) (*Folder, error) {
	abs, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(abs, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the fleet's folder: %w", err)
	}
	return &Folder{abs}, nil
}

func (f *Folder) open() (*os.Root, error) { return os.OpenRoot(f.dir) }

// Get implements Bucket.
func (f *Folder) Get(_ context.Context, key, etag string, limit int64) ([]byte, string, error) {
	root, err := f.open()
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	return get(root, key, etag, limit)
}

func get(root *os.Root, key, etag string, limit int64) ([]byte, string, error) {
	file, err := root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", ErrAbsent
	}
	if err != nil {
		return nil, "", err
	}
	defer file.Close()
	data, err := readAtMost(file, limit)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(data)
	tag := hex.EncodeToString(sum[:])
	if etag != "" && tag == etag {
		return nil, tag, ErrNotModified
	}
	return data, tag, nil
}

// Put implements Bucket. Writers take turns by a lock on a file, so they must share
// the file system.
func (f *Folder) Put(_ context.Context, key string, data []byte, c Condition) error {
	return f.write(key, c, bytes.NewReader(data), int64(len(data)))
}

// Upload implements Bucket.
func (f *Folder) Upload(ctx context.Context, key string, from *os.File) error {
	info, err := from.Stat()
	if err != nil {
		return err
	}
	err = f.write(key, Condition{Absent: true}, &canceledReader{ctx, io.NewSectionReader(from, 0, info.Size())}, info.Size())
	if !errors.Is(err, ErrConflict) {
		return err
	}
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	there, err := root.Open(key)
	if err != nil {
		return err
	}
	defer there.Close()
	a, b := sha256.New(), sha256.New()
	if _, err := io.Copy(a, io.NewSectionReader(from, 0, info.Size())); err != nil {
		return err
	}
	if _, err := io.Copy(b, there); err != nil {
		return err
	}
	if !bytes.Equal(a.Sum(nil), b.Sum(nil)) {
		return ErrConflict
	}
	return nil
}

func (f *Folder) write(key string, c Condition, from io.Reader, size int64) (err error) {
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	lock, err := root.OpenFile(".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	if err := osfile.Lock(lock); err != nil {
		return err
	}
	_, tag, err := get(root, key, c.Tag, 1<<62)
	switch {
	case errors.Is(err, ErrAbsent):
		if c.Tag != "" {
			return ErrConflict
		}
	case errors.Is(err, ErrNotModified):
	case err != nil:
		return err
	case c.Absent || c.Tag != "" && c.Tag != tag:
		return ErrConflict
	}
	if err := root.MkdirAll(path.Dir(key), 0o755); err != nil {
		return err
	}
	return durable.ReplaceIn(root, key, 0o644, func(file *os.File) error {
		n, err := io.Copy(file, from)
		if err == nil && n != size {
			err = fmt.Errorf("it has %d bytes, and not %d", n, size)
		}
		return err
	})
}

// Download implements Bucket.
func (f *Folder) Download(ctx context.Context, key, to string, size int64) (err error) {
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	from, err := root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrAbsent
	}
	if err != nil {
		return err
	}
	defer from.Close()
	// What a crash leaves is written over by the next download, which of packages may be large.
	dir, err := os.OpenRoot(filepath.Dir(to))
	if err != nil {
		return err
	}
	defer dir.Close()
	return durable.ReplaceIn(dir, filepath.Base(to), 0o600, func(file *os.File) error {
		n, err := io.Copy(file, &canceledReader{ctx, limited(from, size)})
		if err == nil && size != AnySize && n != size {
			err = fmt.Errorf("it has another size than the %d bytes that it should have", size)
		}
		return err
	})
}

// limited is at most one byte more than r should have.
func limited(r io.Reader, size int64) io.Reader {
	if size == AnySize {
		return r
	}
	return io.LimitReader(r, size+1)
}

// canceledReader ends with its context.
type canceledReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *canceledReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// URL implements Bucket.
func (f *Folder) URL(key string) string { return "file://" + f.dir + "/" + key }
