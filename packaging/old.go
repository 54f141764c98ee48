package packaging

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// DigestOfFile is the digest of all bytes of a file, by which an archive of the old service is known. f is read from where
// it stands to its end.
func DigestOfFile(ctx context.Context, f io.Reader) (string, error) {
	digest := sha256.New()
	if _, err := io.CopyBuffer(digest, contextReader{ctx, f}, make([]byte, maxBuffer)); err != nil {
		return "", fmt.Errorf("reading a package: %w", err)
	}
	return digestPrefix + hex.EncodeToString(digest.Sum(nil)), nil
}

// UnpackOld unpacks an archive of the old service, which has neither our manifest nor a signature that can be checked, below
// root, which is empty. Its bytes must have that digest: the caller decided to trust them. It gives the files that were written,
// sorted by path as they came. After an error what was written is worth nothing and the caller removes it.
func UnpackOld(ctx context.Context, f RegularFile, digest string, root *os.Root) ([]File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening a package: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxArchiveBytes {
		return nil, bad("it is no regular file, or has more than %d bytes", int64(maxArchiveBytes))
	}
	whole := newChecked(contextReader{ctx, f})
	in := bufio.NewReaderSize(whole, maxBuffer)
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return nil, bad("it is not compressed with gzip: %w", err)
	}
	limited := &expansion{r: unpacked, left: max(freeExpansion, info.Size()*maxExpansion)}
	t := tar.NewReader(limited)
	u := &unpacker{root: root, buffer: make([]byte, maxBuffer)}
	var files []File
	set, count, total := pathSet{}, 0, int64(0)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, reading(err)
		}
		if count++; count > MaxFiles {
			return nil, bad("it has more than %d entries", MaxFiles)
		}
		path := strings.TrimPrefix(h.Name, "./")
		if h.Typeflag == tar.TypeDir && (path == "" || checkPath(strings.TrimSuffix(path, "/")) == nil) {
			continue // made where a file needs it
		}
		if err := checkOldHeader(h, path); err != nil {
			return nil, err
		}
		if err := set.add(path); err != nil {
			return nil, err
		}
		if total += h.Size; total > MaxBytes {
			return nil, bad("it holds more than %d bytes", int64(MaxBytes))
		}
		file, err := u.copyOld(path, t)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	// What tar did not want to see is still part of the bytes that were trusted, and gzip's check sum comes last.
	if _, err := io.Copy(io.Discard, limited); err != nil {
		return nil, reading(err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, reading(err)
	}
	if digestPrefix+hex.EncodeToString(whole.digest.Sum(nil)) != digest {
		return nil, bad("it was changed while it was read")
	}
	if len(files) == 0 {
		return nil, bad("it holds no file")
	}
	return files, nil
}

func checkOldHeader(h *tar.Header, path string) error {
	if h.Typeflag != tar.TypeReg {
		return bad("the entry %.80q is %s; a package has plain files only", h.Name, typeName(h.Typeflag))
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse") {
			return bad("the entry %.80q is a sparse file", h.Name)
		}
	}
	if h.Mode&^0o777 != 0 {
		return bad("the entry %.80q has the mode %o, which is that of no plain file", h.Name, h.Mode)
	}
	if h.Size < 0 || h.Size >= MaxFileBytes {
		return bad("the entry %.80q has a size of %d bytes", h.Name, h.Size)
	}
	return checkPath(path)
}

// copyOld writes a file and takes its digest.
func (u *unpacker) copyOld(path string, content io.Reader) (_ File, err error) {
	f, err := u.create(path)
	if err != nil {
		return File{}, err
	}
	c := newChecked(content)
	_, err = io.CopyBuffer(onlyWriter{f}, c, u.buffer)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return File{}, reading(err)
	}
	return File{Path: path, Size: c.size, SHA256: hex.EncodeToString(c.digest.Sum(nil))}, nil
}

// onlyWriter hides that a file can read from things by itself, which it does in smaller pieces.
type onlyWriter struct{ io.Writer }
