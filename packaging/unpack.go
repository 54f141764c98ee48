package packaging

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
)

// Modes of what is unpacked: nobody is to change it.
const (
	unpackedFile   = 0o444
	unpackedFolder = 0o555
)

// Unpack reads the rest of the archive, compares each file with the manifest and writes it below root, which is empty;
// nil writes nothing and only compares. The manifest is written too, the signature is not: it is no part of what the
// package's digest stands for. After an error what was written is worth nothing and the caller removes it. It is called
// once.
func (a *Archive) Unpack(ctx context.Context, root *os.Root) error {
	largest := slices.MaxFunc(a.Manifest.Files, func(x, y File) int { return cmp.Compare(x.Size, y.Size) })
	u := &unpacker{root: root, buffer: make([]byte, bufferFor(largest.Size))}
	if root != nil {
		if err := u.write(ManifestName, a.ManifestBytes); err != nil {
			return err
		}
	}
	if err := a.each(ctx, u.file); err != nil {
		return err
	}
	return u.seal(a.Manifest)
}

// ReadFiles reads the rest of the archive, as Unpack does, and gives the contents of the named files that it has, none of
// which may be larger than limit. It is called once, instead of Unpack.
func (a *Archive) ReadFiles(ctx context.Context, limit int64, names ...string) (map[string][]byte, error) {
	u := &unpacker{buffer: make([]byte, bufferFor(maxBuffer))}
	contents := map[string][]byte{}
	err := a.each(ctx, func(want File, e *entry) error {
		if !slices.Contains(names, want.Path) {
			return u.file(want, e)
		}
		data, err := e.whole(limit)
		if err != nil {
			return err
		}
		if hexDigest(data) != want.SHA256 {
			return bad("the file %s is not the one that the manifest names: its SHA-256 differs", want.Path)
		}
		contents[want.Path] = data
		return nil
	})
	return contents, err
}

// each gives every file that the manifest names, and fails unless the entries are exactly those. What each entry holds is
// for do to look at.
func (a *Archive) each(ctx context.Context, do func(want File, e *entry) error) error {
	for _, want := range a.Manifest.Files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		e, err := a.nextEntry()
		switch {
		case errors.Is(err, io.EOF):
			return bad("the file %s is missing", want.Path)
		case err != nil:
			return err
		case e.path != want.Path:
			return bad("where the file %s should be there is %.100q", want.Path, e.path)
		case e.size != want.Size:
			return bad("the file %s has %d bytes, the manifest says %d", want.Path, e.size, want.Size)
		}
		if err := do(want, e); err != nil {
			return err
		}
	}
	switch e, err := a.nextEntry(); {
	case err == nil:
		return bad("there is a file %.100q of which the manifest says nothing", e.path)
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// unpacker writes files below root, or none where that is nil.
type unpacker struct {
	root   *os.Root
	buffer []byte
}

func (u *unpacker) write(name string, data []byte) error {
	f, err := u.create(name)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return writing(errors.Join(err, f.Close()))
}

func (u *unpacker) create(name string) (*os.File, error) {
	if folder := path.Dir(name); folder != "." {
		if err := u.root.MkdirAll(folder, 0o700); err != nil {
			return nil, writing(err)
		}
	}
	f, err := u.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, unpackedFile)
	return f, writing(err)
}

// file copies the content of e to its place and compares it with what is wanted.
func (u *unpacker) file(want File, e *entry) (err error) {
	out := io.Discard
	if u.root != nil {
		f, err := u.create(want.Path)
		if err != nil {
			return err
		}
		defer func() {
			if closeErr := writing(f.Close()); err == nil {
				err = closeErr
			}
		}()
		out = f
	}
	if want.Size >= manyBuffers*maxBuffer {
		return copyLarge(out, want, e)
	}
	c := newChecked(e.content)
	for {
		n, err := c.Read(u.buffer)
		if _, err := out.Write(u.buffer[:n]); err != nil {
			return writing(err)
		}
		if errors.Is(err, io.EOF) {
			return c.is(want)
		}
		if err != nil {
			return reading(err)
		}
	}
}

// manyBuffers is how many buffers go round between the two, and make a file that is worth it.
const manyBuffers = 4

// copyLarge hashes on another goroutine what it writes. Reading, hashing and writing then take about as long as unpacking,
// which goes on beside them.
func copyLarge(out io.Writer, want File, e *entry) error {
	c := &checked{digest: sha256.New()}
	filled, hashed := make(chan []byte, manyBuffers), make(chan []byte, manyBuffers)
	for range manyBuffers {
		hashed <- make([]byte, maxBuffer)
	}
	var hashing sync.WaitGroup
	hashing.Go(func() {
		for piece := range filled {
			c.digest.Write(piece)
			c.size += int64(len(piece))
			hashed <- piece[:maxBuffer]
		}
	})
	var failed error // io.EOF at the end
	for failed == nil {
		buffer := <-hashed
		n, err := fill(e.content, buffer)
		filled <- buffer[:n]
		_, writeErr := out.Write(buffer[:n])
		switch {
		case writeErr != nil:
			failed = writing(writeErr)
		case errors.Is(err, io.EOF):
			failed = io.EOF
		case err != nil:
			failed = reading(err)
		}
	}
	close(filled)
	hashing.Wait()
	if !errors.Is(failed, io.EOF) {
		return failed
	}
	return c.is(want)
}

// checked hashes what is read through it.
type checked struct {
	r      io.Reader
	digest hash.Hash
	size   int64
}

func newChecked(r io.Reader) *checked { return &checked{r: r, digest: sha256.New()} }

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.digest.Write(p[:n])
	c.size += int64(n)
	return n, err
}

// is fails unless what was read is that file.
func (c *checked) is(want File) error {
	if c.size != want.Size || hex.EncodeToString(c.digest.Sum(nil)) != want.SHA256 {
		return bad("the file %s is not the one that the manifest names: its SHA-256 differs", want.Path)
	}
	return nil
}

// seal takes the right to write away from the folders.
func (u *unpacker) seal(m *Manifest) error {
	if u.root == nil {
		return nil
	}
	nested := false
	for _, v := range m.Variants {
		if v.Path == topLevel {
			continue
		}
		nested = true
		if err := u.root.Chmod(v.Path, unpackedFolder); err != nil {
			return writing(err)
		}
	}
	if nested {
		if err := u.root.Chmod(variantsFolder, unpackedFolder); err != nil {
			return writing(err)
		}
	}
	return writing(u.root.Chmod(".", unpackedFolder))
}

func writing(err error) error {
	if err == nil {
		return nil
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = fmt.Errorf("%s: %w", path.Base(p.Path), p.Err)
	}
	return fmt.Errorf("unpacking: %w", err)
}

// CheckFile reads a file of an unpacked package and compares it with what the manifest says of it.
func CheckFile(ctx context.Context, root *os.Root, want File) error {
	e, closeFile, err := openEntry(root, want.Path)
	if err != nil {
		return err
	}
	defer closeFile()
	if e.size != want.Size {
		return bad("the file %s has %d bytes, the manifest says %d", want.Path, e.size, want.Size)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return (&unpacker{buffer: make([]byte, bufferFor(want.Size))}).file(want, e)
}
