package packaging

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/picket-ml/picket/internal/durable"
)

// compression is klauspost's own default; another one would change the bytes of every package.
const compression = 6

// writer writes the archive of a package: first the manifest, then the signature, if there is one, then the files.
type writer struct {
	file  *os.File
	sum   uint32
	bytes int64 // written to file so far
	zip   *gzip.Writer
	tar   *tar.Writer
	total int64 // of the files
}

func newWriter(file *os.File) (*writer, error) {
	w := &writer{file: file}
	zip, err := gzip.NewWriterLevel(w, compression)
	if err != nil {
		return nil, fmt.Errorf("writing a package: %w", err)
	}
	zip.Extra = frame{}.encode()[12:] // filled in at the end
	w.zip, w.tar = zip, tar.NewWriter(zip)
	return w, nil
}

// Write takes what was compressed.
func (w *writer) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	if after := w.bytes + int64(n) - frameBytes; after > 0 {
		w.sum = crc32.Update(w.sum, castagnoli, p[n-int(min(after, int64(n))):n])
	}
	w.bytes += int64(n)
	return n, err
}

// add writes an entry; content must have exactly size bytes.
func (w *writer) add(ctx context.Context, name string, size int64, content io.Reader) error {
	err := w.tar.WriteHeader(&tar.Header{
		Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0),
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	n, err := io.Copy(w.tar, contextReader{ctx, content})
	if err == nil && n != size {
		err = errors.New("it became shorter while it was read")
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	w.total += size
	return nil
}

// finish writes the end and fills in the frame.
func (w *writer) finish() error {
	if err := errors.Join(w.tar.Close(), w.zip.Close()); err != nil {
		return fmt.Errorf("writing a package: %w", err)
	}
	if w.total > max(freeExpansion, w.bytes*maxExpansion) {
		return fmt.Errorf("writing a package: its files, %d bytes, are more than %d times as large as the archive, and no host would unpack it; such files hold next to nothing", w.total, maxExpansion)
	}
	head := frame{w.bytes, w.sum}.encode()
	if _, err := w.file.WriteAt(head, 0); err != nil {
		return fmt.Errorf("writing a package: %w", err)
	}
	return nil
}

// contextReader ends reading when ctx does.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (c contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// create has fill write the file out, which is there whole or not at all. A file that is there is replaced if it may be.
func create(out string, replace bool, fill func(*os.File) error) error {
	if err := vacant(out, replace); err != nil {
		return err
	}
	return durable.Replace(out, 0o644, func(f *os.File) error {
		if err := fill(f); err != nil {
			return err
		}
		return vacant(out, replace) // still
	})
}

// vacant refuses a place that is taken.
func vacant(out string, replace bool) error {
	info, err := os.Lstat(out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at %s: %w", out, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is there and is no file; name another", out)
	case !replace:
		return fmt.Errorf("%s is there already; name another, or have it replaced with --force", out)
	}
	return nil
}

// Attach writes the package of f to the file out, with that signature in the place of the one it may have. f is read to its
// end and every file in it compared with the manifest; what is not sound is not written. out may be the file that f was
// opened from, and is replaced only if that was asked for.
func Attach(ctx context.Context, f RegularFile, out string, replace bool, bundle []byte) error {
	if len(bundle) > MaxSignatureBytes {
		return fmt.Errorf("the signature has %d bytes, more than %d", len(bundle), MaxSignatureBytes)
	}
	a, err := Open(ctx, f)
	if err != nil {
		return err
	}
	defer a.Close()
	return create(out, replace, func(to *os.File) error {
		w, err := newWriter(to)
		if err != nil {
			return err
		}
		if err := w.start(ctx, a.ManifestBytes, bundle); err != nil {
			return err
		}
		if err := a.each(ctx, func(want File, e *entry) error {
			c := newChecked(e.content)
			if err := w.add(ctx, want.Path, want.Size, c); err != nil {
				return err
			}
			return c.is(want)
		}); err != nil {
			return err
		}
		return w.finish()
	})
}

// start writes what comes before the model's files.
func (w *writer) start(ctx context.Context, manifest, bundle []byte) error {
	if err := w.add(ctx, ManifestName, int64(len(manifest)), bytes.NewReader(manifest)); err != nil || bundle == nil {
		return err
	}
	return w.add(ctx, SignatureName, int64(len(bundle)), bytes.NewReader(bundle))
}
