package packaging

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"
)

// PackOld writes the files below root, which stays the caller's, as an archive of the old service to w: what UnpackOld reads.
// The same files give the same bytes. Hidden files are left out, as an archive may not hold them; what is no plain file, or a
// link that leads out, is an error. A link to a file within is packed as that file.
func PackOld(ctx context.Context, w io.Writer, root *os.Root) error {
	zip, err := gzip.NewWriterLevel(w, compression)
	if err != nil {
		return fmt.Errorf("writing a package: %w", err)
	}
	out := tar.NewWriter(zip)
	count, total := 0, int64(0)
	err = fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == "." {
			return nil
		}
		if strings.HasPrefix(d.Name(), ".") {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := checkPath(path); err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		if count++; count > MaxFiles {
			return bad("the folder holds more than %d files", MaxFiles)
		}
		size, err := packOne(ctx, out, root, path)
		if total += size; err == nil && total > MaxBytes {
			err = bad("the folder holds more than %d bytes", int64(MaxBytes))
		}
		return err
	})
	if err == nil && count == 0 {
		err = bad("the folder holds no file")
	}
	if err = errors.Join(err, out.Close(), zip.Close()); err != nil {
		return fmt.Errorf("packing a folder: %w", err)
	}
	return nil
}

func packOne(ctx context.Context, out *tar.Writer, root *os.Root, path string) (int64, error) {
	// Without O_NONBLOCK a pipe would hold the reader up.
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !info.Mode().IsRegular() {
		return 0, bad("%s is no plain file", path)
	}
	if info.Size() >= MaxFileBytes {
		return 0, bad("%s has %d bytes, it must be below %d", path, info.Size(), int64(MaxFileBytes))
	}
	header := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: path, Size: info.Size(), Mode: 0o644, ModTime: time.Unix(0, 0)}
	if err := out.WriteHeader(header); err != nil {
		return 0, fmt.Errorf("writing %s: %w", path, err)
	}
	n, err := io.Copy(out, contextReader{ctx, io.LimitReader(f, info.Size())})
	if err == nil && n != info.Size() {
		err = errors.New("it became shorter while it was read")
	}
	if err != nil {
		return n, fmt.Errorf("writing %s: %w", path, err)
	}
	return n, nil
}
