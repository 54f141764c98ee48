package dlr

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// The marks with which TVM begins a parameter file and each tensor in it.
const (
	paramsMagic = 0xF7E58D4F05049CB7
	arrayMagic  = 0xDD5E40F096B4A13F
)

// checkParams walks through a parameter file of TVM, which libdlr reads without
// looking at its counts: one that is too large ends the process, by an exception
// that nobody catches. Errors wrap engine.ErrArtifact.
func checkParams(a *engine.Artifact, name string) error {
	file, err := a.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	if _, err := walkParams(file, info.Size()); err != nil {
		return fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, name, err)
	}
	return nil
}

// walkParams checks a parameter file of size bytes and gives the number of bytes
// that its tensors take.
//
// All numbers are little endian. The file is a mark and 8 reserved bytes; how many
// names, and each with its length before it; how many tensors, as many, and each
// as a mark, 8 reserved bytes, device type and number (4 bytes each), number of
// dimensions (4 bytes), type code, bits (1 byte each) and lanes (2 bytes), the
// dimensions (8 bytes each), the number of bytes, and those.
func walkParams(r io.ReaderAt, size int64) (total int64, err error) {
	w := &paramsWalk{r: r, size: size}
	if w.number(8) != paramsMagic && w.err == nil {
		return 0, fmt.Errorf("it does not begin as a parameter file of TVM does")
	}
	w.number(8)
	names := w.count("names", 8)
	for range names {
		w.skip(w.count("bytes of a name", 1))
	}
	if n := w.count("tensors", 8); n != names && w.err == nil {
		return 0, fmt.Errorf("it has %d tensors for %d names", n, names)
	}
	for i := int64(0); i < names && w.err == nil; i++ {
		n, err := w.array()
		if err != nil {
			return 0, fmt.Errorf("tensor %d: %w", i, err)
		}
		total += n
	}
	if w.err != nil {
		return 0, w.err
	}
	return total, nil
}

// paramsWalk reads on from at until the first error.
type paramsWalk struct {
	r        io.ReaderAt
	size, at int64
	err      error
}

// number reads an unsigned number of n bytes, at most 8.
func (w *paramsWalk) number(n int) uint64 {
	var b [8]byte
	if w.err != nil {
		return 0
	}
	if int64(n) > w.size-w.at {
		w.err = fmt.Errorf("it is cut off at byte %d", w.size)
		return 0
	}
	if _, err := w.r.ReadAt(b[:n], w.at); err != nil {
		w.err = err
		return 0
	}
	w.at += int64(n)
	return binary.LittleEndian.Uint64(b[:])
}

// count reads how many things of at least each bytes follow, and makes sure that
// the file has room for them.
func (w *paramsWalk) count(what string, each int64) int64 {
	n := w.number(8)
	if w.err == nil && n > uint64((w.size-w.at)/each) {
		w.err = fmt.Errorf("it counts %d %s where %d bytes are left", n, what, w.size-w.at)
	}
	if w.err != nil {
		return 0
	}
	return int64(n)
}

// skip passes over n bytes that count has found to be there.
func (w *paramsWalk) skip(n int64) { w.at += n }

// array reads one tensor and gives the number of its bytes.
func (w *paramsWalk) array() (int64, error) {
	if w.number(8) != arrayMagic && w.err == nil {
		return 0, fmt.Errorf("it does not begin as a tensor of TVM does")
	}
	w.number(8)
	device, _ := w.number(4), w.number(4)
	rank := w.number(4)
	code, bits, lanes := w.number(1), w.number(1), w.number(2)
	if w.err != nil {
		return 0, w.err
	}
	const cpu = 1
	switch {
	case device != cpu:
		return 0, fmt.Errorf("it is on a device of type %d, and should be in memory", device)
	case rank > tensor.MaxRank:
		return 0, fmt.Errorf("it has %d dimensions, the limit is %d", rank, tensor.MaxRank)
	case code > 4 || bits > 64 || lanes != 1:
		return 0, fmt.Errorf("its type (%d, %d bits, %d lanes) is unknown", code, bits, lanes)
	}
	dims := make([]int64, rank)
	for i := range dims {
		dims[i] = int64(w.number(8))
	}
	shape, err := tensor.NewShape(dims...)
	if err != nil {
		return 0, err
	}
	n := w.count("bytes", 1)
	if w.err != nil {
		return 0, w.err
	}
	element := (int64(bits) + 7) / 8
	if element == 0 || n%element != 0 || n/element != shape.Elements() {
		return 0, fmt.Errorf("it has %d bytes for %s elements of %d bits", n, shape, bits)
	}
	w.skip(n)
	return n, nil
}
