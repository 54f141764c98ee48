package neo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// The marks with which TVM begins a parameter file and each tensor in it.
const (
	paramsMagic = 0xF7E58D4F05049CB7
	arrayMagic  = 0xDD5E40F096B4A13F
)

// maxParams is how many tensors a parameter file may have.
const maxParams = 1 << 16

// Param is one tensor of a parameter file.
type Param struct {
	Name    string
	Element Element
	Shape   tensor.Shape
	// Offset and Bytes say where in the file its content is.
	Offset, Bytes int64
}

// ParseParams reads where the tensors of a parameter file of size bytes are, and
// none of their content. The file is not trusted: nothing that it counts is
// believed before it is known to be there.
//
// All numbers are little endian. The file is a mark and 8 reserved bytes; how many
// names, and each with its length before it; how many tensors, as many, and each
// as a mark, 8 reserved bytes, device type and number (4 bytes each), number of
// dimensions (4 bytes), type code, bits (1 byte each) and lanes (2 bytes), the
// dimensions (8 bytes each), the number of bytes, and those.
func ParseParams(r io.ReaderAt, size int64) ([]Param, error) {
	w := &paramsWalk{r: r, size: size}
	if w.number(8) != paramsMagic && w.err == nil {
		return nil, fmt.Errorf("it does not begin as a parameter file of TVM does")
	}
	w.number(8)
	n := w.count("names", 8)
	if n > maxParams {
		return nil, fmt.Errorf("it has %d tensors, the limit is %d", n, maxParams)
	}
	params := make([]Param, n)
	seen := make(map[string]bool, n)
	for i := range params {
		params[i].Name = w.text()
		if w.err == nil && seen[params[i].Name] {
			return nil, fmt.Errorf("it has two tensors named %q", trim(params[i].Name))
		}
		seen[params[i].Name] = true
	}
	if m := w.count("tensors", 8); m != n && w.err == nil {
		return nil, fmt.Errorf("it has %d tensors for %d names", m, n)
	}
	for i := range params {
		if w.err != nil {
			break
		}
		if err := w.array(&params[i]); err != nil {
			return nil, fmt.Errorf("tensor %d (%q): %w", i, trim(params[i].Name), err)
		}
	}
	if w.err != nil {
		return nil, w.err
	}
	return params, nil
}

// paramsWalk reads on from at until the first error.
type paramsWalk struct {
	r        io.ReaderAt
	size, at int64
	err      error
}

// bytes reads the next len(b) bytes.
func (w *paramsWalk) bytes(b []byte) {
	if w.err != nil {
		return
	}
	if int64(len(b)) > w.size-w.at {
		w.err = fmt.Errorf("it is cut off at byte %d", w.size)
		return
	}
	if _, err := w.r.ReadAt(b, w.at); err != nil {
		w.err = err
		return
	}
	w.at += int64(len(b))
}

// number reads an unsigned number of n bytes, at most 8.
func (w *paramsWalk) number(n int) uint64 {
	var b [8]byte
	w.bytes(b[:n])
	if w.err != nil {
		return 0
	}
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

// text reads a name.
func (w *paramsWalk) text() string {
	n := w.count("bytes of a name", 1)
	if w.err == nil && n > maxNameBytes {
		w.err = fmt.Errorf("a name has %d bytes, the limit is %d", n, maxNameBytes)
	}
	if w.err != nil {
		return ""
	}
	b := make([]byte, n)
	w.bytes(b)
	return string(b)
}

// array reads one tensor but for its content.
func (w *paramsWalk) array(p *Param) error {
	if w.number(8) != arrayMagic && w.err == nil {
		return fmt.Errorf("it does not begin as a tensor of TVM does")
	}
	w.number(8)
	device, _ := w.number(4), w.number(4)
	rank := w.number(4)
	code, bits, lanes := w.number(1), w.number(1), w.number(2)
	if w.err != nil {
		return w.err
	}
	const cpu = 1
	switch {
	case device != cpu:
		return fmt.Errorf("it is on a device of type %d, and should be in memory", device)
	case rank > tensor.MaxRank:
		return fmt.Errorf("it has %d dimensions, the limit is %d", rank, tensor.MaxRank)
	case lanes != 1:
		return fmt.Errorf("it has %d values to an element", lanes)
	}
	p.Element = Element{uint8(code), uint8(bits)}
	if err := p.Element.check(); err != nil {
		return err
	}
	dims := make([]int64, rank)
	for i := range dims {
		dims[i] = int64(w.number(8)) //nolint:gosec // NewShape refuses what is negative by this
	}
	var err error
	if p.Shape, err = tensor.NewShape(dims...); err != nil {
		return err
	}
	p.Bytes = w.count("bytes", 1)
	if w.err != nil {
		return w.err
	}
	if each := p.Element.Bytes(); p.Bytes%each != 0 || p.Bytes/each != p.Shape.Elements() {
		return fmt.Errorf("it has %d bytes for %s elements of %d bits", p.Bytes, p.Shape, bits)
	}
	p.Offset = w.at
	w.at += p.Bytes
	return nil
}

// OpenParams opens the parameter file of a TVM model and reads where its tensors
// are. The caller closes the file. Errors wrap engine.ErrArtifact and name it.
func OpenParams(a *engine.Artifact, l Layout) ([]Param, *os.File, error) {
	file, err := a.Open(l.Params)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	var params []Param
	if err == nil {
		params, err = ParseParams(file, info.Size())
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, l.Params, err), file.Close())
	}
	return params, file, nil
}
