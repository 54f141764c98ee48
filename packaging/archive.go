package packaging

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/klauspost/compress/gzip"
)

// maxExpansion is how many times its size an archive may unpack to, above freeExpansion.
const (
	maxExpansion  = 200
	freeExpansion = 64 << 20
	// maxArchiveBytes is more than files that do not compress take.
	maxArchiveBytes = 2 * MaxBytes
)

// Archive is a package of which the manifest and the signature were read. Its methods are for one goroutine.
type Archive struct {
	// Manifest is what the package says of itself. Nobody has vouched for it yet.
	Manifest *Manifest
	// ManifestBytes is the file it was read from.
	ManifestBytes []byte
	// Bundle is the signature, nil where there is none. It has not been looked at.
	Bundle []byte

	// next is the entry that comes after them, which was read ahead to see whether it is the signature.
	next    *entry
	entries entries
}

// entry is one file on its way out of an archive or a folder.
type entry struct {
	path    string
	size    int64
	content io.Reader // of exactly size bytes, or it fails
}

// entries gives one entry after the other.
type entries interface {
	// read gives the next entry, whose content is to be read before the next call; io.EOF after the last, where nothing
	// follows that should not.
	read() (*entry, error)
	// expect tells which files follow, once the manifest was read.
	expect(m *Manifest)
	close() error
}

// RegularFile is a file: its size is asked once, and it is read from the start to the end.
type RegularFile interface {
	io.Reader
	Stat() (fs.FileInfo, error)
}

// Open reads the frame, the manifest and the signature of the archive f, which stays the caller's and must stay open as
// long as the Archive. ctx ends reading. Errors wrap ErrForeign, ErrFormat or ErrNewer. The caller closes the Archive.
func Open(ctx context.Context, f RegularFile) (*Archive, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening a package: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxArchiveBytes {
		return nil, bad("it is no regular file, or has more than %d bytes", int64(maxArchiveBytes))
	}
	head := make([]byte, frameBytes)
	if n, err := io.ReadFull(f, head); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("reading a package: %w", err)
		}
		head = head[:n]
	}
	frame, err := parseFrame(head, info.Size())
	if err != nil {
		return nil, err
	}
	// What gzip sees is the frame and the bytes that are summed up.
	body := &summed{r: f, left: frame.size - frameBytes, want: frame.sum}
	in := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(head), body), bufferFor(frame.size))
	unpacked, err := gzip.NewReader(in)
	if err != nil {
		return nil, bad("it is not compressed as a package is: %w", err)
	}
	unpacked.Multistream(false)
	ahead := newReadAhead(ctx, unpacked, bufferFor(4*frame.size))
	limited := &expansion{r: ahead, left: max(freeExpansion, info.Size()*maxExpansion)}
	return open(&tarEntries{in: in, limited: limited, ahead: ahead, tar: tar.NewReader(limited)})
}

// maxBuffer is what is read or written at once: more is not faster.
const maxBuffer = 128 << 10

// bufferFor is how much memory it takes to read so many bytes.
func bufferFor(size int64) int { return int(min(max(size, 4<<10), maxBuffer)) }

// open reads what comes before the model's files.
func open(from entries) (_ *Archive, err error) {
	a := &Archive{entries: from}
	defer func() {
		if err != nil {
			_ = from.close() // nothing was written
		}
	}()
	first, err := from.read()
	if errors.Is(err, io.EOF) {
		return nil, bad("it is empty")
	}
	if err != nil {
		return nil, err
	}
	if first.path != ManifestName {
		return nil, bad("its first file is %q, it must be %s", first.path, ManifestName)
	}
	if a.ManifestBytes, err = first.whole(MaxManifestBytes); err != nil {
		return nil, err
	}
	if a.Manifest, err = ParseManifest(a.ManifestBytes); err != nil {
		return nil, err
	}
	from.expect(a.Manifest)
	if a.next, err = from.read(); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if a.next != nil && a.next.path == SignatureName {
		if a.Bundle, err = a.next.whole(MaxSignatureBytes); err != nil {
			return nil, err
		}
		a.next = nil
	}
	return a, nil
}

// whole reads a small entry.
func (e *entry) whole(limit int64) ([]byte, error) {
	if e.size > limit {
		return nil, bad("%s has %d bytes, more than %d", e.path, e.size, limit)
	}
	data := make([]byte, e.size)
	if _, err := io.ReadFull(e.content, data); err != nil {
		return nil, reading(err)
	}
	return data, nil
}

// reading gives an error met in the middle of an archive its kind.
func reading(err error) error {
	switch {
	case errors.Is(err, ErrFormat), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.As(err, new(*fs.PathError)):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return bad("it ends in the middle")
	}
	return bad("it is damaged: %w", err)
}

// Digest is the package's.
func (a *Archive) Digest() string { return DigestOf(a.ManifestBytes) }

// nextEntry is the next file of the model, io.EOF after the last.
func (a *Archive) nextEntry() (*entry, error) {
	if e := a.next; e != nil {
		a.next = nil
		return e, nil
	}
	return a.entries.read()
}

// Close ends reading. The file stays open.
func (a *Archive) Close() error { return a.entries.close() }

// expansion fails where more comes out of an archive than its size explains.
type expansion struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (x *expansion) Read(p []byte) (int, error) {
	n, err := x.r.Read(p)
	if x.left -= int64(n); x.left < 0 {
		return 0, bad("it unpacks to more than %d times its size, and more than %d MiB", maxExpansion, freeExpansion>>20)
	}
	return n, err
}

// tarEntries reads entries out of an archive.
type tarEntries struct {
	in      *bufio.Reader // the file, compressed
	ahead   *readAhead    // unpacked by another goroutine
	limited *expansion
	tar     *tar.Reader
}

func (t *tarEntries) expect(*Manifest) {}

func (t *tarEntries) close() error { return t.ahead.Close() }

func (t *tarEntries) read() (*entry, error) {
	h, err := t.tar.Next()
	if errors.Is(err, io.EOF) {
		return nil, t.end()
	}
	if err != nil {
		return nil, reading(err)
	}
	if err := checkHeader(h); err != nil {
		return nil, err
	}
	return &entry{path: h.Name, size: h.Size, content: t.tar}, nil
}

// checkHeader demands the one form that build writes.
func checkHeader(h *tar.Header) error {
	switch {
	case h.Typeflag != tar.TypeReg:
		return bad("the entry %.80q is %s; a package has plain files only", h.Name, typeName(h.Typeflag))
	case h.Format != tar.FormatUSTAR || len(h.PAXRecords) > 0:
		return bad("the entry %.80q uses an extension of the tar format", h.Name)
	case h.Mode != 0o644 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.Linkname != "" ||
		h.ModTime.Unix() != 0 || h.Devmajor != 0 || h.Devminor != 0:
		return bad("the entry %.80q has a mode, an owner or a time of its own, which no package has", h.Name)
	case h.Size < 0 || h.Size >= MaxFileBytes:
		return bad("the entry %.80q has a size of %d bytes", h.Name, h.Size)
	}
	return nil
}

// typeName is what an entry of a tar archive is called in a message.
func typeName(flag byte) string {
	switch flag {
	case tar.TypeLink:
		return "a hard link"
	case tar.TypeSymlink:
		return "a symbolic link"
	case tar.TypeChar, tar.TypeBlock:
		return "a device"
	case tar.TypeDir:
		return "a folder"
	case tar.TypeFifo:
		return "a named pipe"
	case tar.TypeGNUSparse:
		return "a sparse file"
	}
	return fmt.Sprintf("of type %q", flag)
}

// end is io.EOF where the archive ends with its last entry, and nothing follows the archive.
func (t *tarEntries) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(t.limited, one[:]); {
	case n > 0:
		return bad("something follows its last entry")
	case !errors.Is(err, io.EOF):
		return reading(err)
	}
	// The end of the file, and with it the check sum.
	switch _, err := t.in.ReadByte(); {
	case err == nil:
		return bad("something follows the compressed archive")
	case !errors.Is(err, io.EOF):
		return reading(err)
	}
	return io.EOF
}
