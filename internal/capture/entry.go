package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/picket-ml/picket/tensor"
)

// Entry is how records are written down: one inference, or several of one run of a
// model, whose rows lie one after the other in the same tensors. A run of the lane may
// have hundreds, and their names, times and shapes would be more than their numbers.
type Entry struct {
	// Record is what the parts share: all but ID, Inference and Rows.
	Record
	// Parts are the inferences, at least one. All tensors of an entry of several have
	// as many rows as their parts together.
	Parts []Part
	// Origin is half the name of parts that have a Number.
	Origin [16]byte
	// Numbered says that the parts have Numbers in the place of names.
	Numbered bool
}

// Part is one inference of an Entry.
type Part struct {
	Inference string
	Number    uint64
	Rows      uint32
}

// Len is how many inferences the entry has.
func (e *Entry) Len() int { return len(e.Parts) }

// NumberedName is the name of an inference that came over the lane: the number of its
// connection and its own.
func NumberedName(origin [16]byte, number uint64) string {
	return string(appendNumbered(nil, origin, number))
}

func appendNumbered(b []byte, origin [16]byte, number uint64) []byte {
	const digits = "0123456789abcdef"
	for _, o := range origin {
		b = append(b, digits[o>>4], digits[o&15])
	}
	return strconv.AppendUint(append(b, '-'), number, 10)
}

// Single makes an Entry of one record.
func Single(r *Record) *Entry {
	return &Entry{Record: *r, Parts: []Part{{Inference: r.Inference, Rows: uint32(max(r.Rows, 0))}}}
}

// entryVersion is the first byte of an encoded entry. Older versions are read for ever.
const entryVersion = 1

// The ways in which an entry names its parts.
const (
	unnamed = iota
	named
	numbered
	counted // as numbered, and the numbers of parts with a row each follow each other: the first one's tells all
	namings
)

// Where bytes lie.
const (
	inside = iota
	beside
)

// ErrEntry says that bytes are no entry of a version that is known here.
var ErrEntry = errors.New("not a captured record")

// Append appends the encoded entry to b, which it returns as it was when the entry
// breaks a limit. It allocates nothing but what b lacks. docs/formats/spool.md has the
// bytes.
func (e *Entry) Append(b []byte) ([]byte, error) {
	if err := e.check(); err != nil {
		return b, fmt.Errorf("writing a record down: %w", err)
	}
	b = e.appendHead(b)
	naming := e.naming()
	switch naming {
	case numbered:
		b = append(b, e.Origin[:]...)
		var to []byte
		b, to = growNumbers(b, len(e.Parts))
		for i := range e.Parts {
			putNumber(to, i, e.Parts[i].Rows, e.Parts[i].Number)
		}
	case counted:
		b = append(b, e.Origin[:]...)
		b = binary.LittleEndian.AppendUint64(b, e.Parts[0].Number)
	default:
		for i := range e.Parts {
			b = binary.LittleEndian.AppendUint32(b, e.Parts[i].Rows)
			if naming == named {
				b = appendText(b, e.Parts[i].Inference)
			}
		}
	}
	for _, side := range [2][]Tensor{e.Inputs, e.Outputs} {
		for i := range side {
			b = appendTensorHead(b, &side[i])
			b = appendBytes(b, side[i].Data, side[i].Beside)
		}
	}
	for _, side := range [2][]Payload{e.AuxInputs, e.AuxOutputs} {
		for i := range side {
			p := &side[i]
			b = appendText(b, p.Name)
			b = append(b, byte(p.Encoding))
			b = appendBytes(b, p.Data, p.Beside)
		}
	}
	return b, nil
}

const (
	headBytes   = 22 // before the texts
	numberBytes = 12 // of a part that has a Number
	countBytes  = 8  // of all parts whose Numbers are counted
)

// appendHead appends what stands before the parts, but for the origin.
func (e *Entry) appendHead(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, entryVersion, byte(e.Kind), byte(e.Why), e.naming())
	b = le.AppendUint64(b, uint64(e.Time.UnixNano()))
	b = le.AppendUint32(b, e.Code)
	b = le.AppendUint16(b, uint16(len(e.Parts)))
	b = append(b, byte(len(e.Inputs)), byte(len(e.Outputs)), byte(len(e.AuxInputs)), byte(len(e.AuxOutputs)))
	b = appendText(b, e.Model)
	b = appendText(b, e.Version)
	return appendText(b, e.Error)
}

// appendTensorHead appends what stands before the bytes of a tensor.
func appendTensorHead(b []byte, t *Tensor) []byte {
	b = appendText(b, t.Name)
	b = append(b, byte(t.DType), byte(len(t.Shape)))
	for _, d := range t.Shape {
		b = binary.LittleEndian.AppendUint64(b, uint64(d))
	}
	return b
}

// growNumbers appends the room for n parts that have Numbers, which to is. A run has hundreds, so it is made once for all.
func growNumbers(b []byte, n int) (grown, to []byte) {
	had := len(b)
	b = slices.Grow(b, numberBytes*n)[:had+numberBytes*n]
	return b, b[had:]
}

// putNumber writes part i, which has a Number.
func putNumber(to []byte, i int, rows uint32, number uint64) {
	b := (*[numberBytes]byte)(to[numberBytes*i:])
	binary.LittleEndian.PutUint32(b[:], rows)
	binary.LittleEndian.PutUint64(b[4:], number)
}

// AppendTo implements Encoder.
func (e *Entry) AppendTo(b *Draft) (err error) {
	start := len(b.B)
	b.B, err = e.Append(b.B)
	b.appended(start)
	return err
}

// Size is how many bytes Append appends.
func (e *Entry) Size() int {
	n := headBytes + textBytes(e.Model) + textBytes(e.Version) + textBytes(e.Error)
	switch naming := e.naming(); naming {
	case numbered:
		n += len(e.Origin) + numberBytes*len(e.Parts)
	case counted:
		n += len(e.Origin) + countBytes
	default:
		n += 4 * len(e.Parts)
		for i := range e.Parts {
			if naming == named {
				n += textBytes(e.Parts[i].Inference)
			}
		}
	}
	for _, side := range [2][]Tensor{e.Inputs, e.Outputs} {
		for i := range side {
			t := &side[i]
			n += textBytes(t.Name) + 2 + 8*len(t.Shape) + bytesBytes(t.Data, t.Beside)
		}
	}
	for _, side := range [2][]Payload{e.AuxInputs, e.AuxOutputs} {
		for i := range side {
			p := &side[i]
			n += textBytes(p.Name) + 1 + bytesBytes(p.Data, p.Beside)
		}
	}
	return n
}

func textBytes(s string) int { return 2 + len(s) }

func bytesBytes(data []byte, at *Beside) int {
	if at == nil {
		return 5 + len(data)
	}
	return 9 + len(at.SHA256) + textBytes(at.Name)
}

func (e *Entry) naming() byte {
	switch {
	case e.Numbered && e.countsOn():
		return counted
	case e.Numbered:
		return numbered
	}
	for i := range e.Parts {
		if e.Parts[i].Inference != "" {
			return named
		}
	}
	return unnamed
}

// countsOn tells whether the first part's number tells all, of an entry that is no shorter than it has parts.
func (e *Entry) countsOn() bool {
	for i := range e.Parts {
		if e.Parts[i].Rows != 1 || e.Parts[i].Number != e.Parts[0].Number+uint64(i) {
			return false
		}
	}
	n := 0
	for _, side := range [2][]Tensor{e.Inputs, e.Outputs} {
		for i := range side {
			n += len(side[i].Data)
		}
	}
	return n >= len(e.Parts)
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendBytes(b, data []byte, at *Beside) []byte {
	le := binary.LittleEndian
	if at == nil {
		b = append(b, inside)
		b = le.AppendUint32(b, uint32(len(data)))
		return append(b, data...)
	}
	b = append(b, beside)
	b = le.AppendUint64(b, uint64(at.Size))
	b = append(b, at.SHA256[:]...)
	return appendText(b, at.Name)
}

// The years 1700 and 2200: nanoseconds since 1970 between them fit 64 bits.
const (
	earliest = -8520336000
	latest   = 7289654399
)

// check holds the entry to the limits, which reading does too. What it finds is a
// sentence's end.
func (e *Entry) check() error {
	switch {
	case e.Kind == 0 || e.Kind >= kinds:
		return fmt.Errorf("its %v is none", e.Kind)
	case e.Why&^allWhy != 0:
		return fmt.Errorf("its reasons %#x are none", uint8(e.Why))
	case len(e.Parts) == 0 || len(e.Parts) > maxParts:
		return fmt.Errorf("it has %d parts, it must have from 1 to %d", len(e.Parts), maxParts)
	case len(e.Inputs) > maxTensors || len(e.Outputs) > maxTensors || len(e.AuxInputs) > maxTensors || len(e.AuxOutputs) > maxTensors:
		return fmt.Errorf("one of its sides has more than %d tensors", maxTensors)
	case len(e.Model) > maxText || len(e.Version) > maxText || len(e.Error) > maxText:
		return fmt.Errorf("one of its texts is longer than %d bytes", maxText)
	case e.Time.Unix() < earliest || e.Time.Unix() > latest:
		return errors.New("its time does not fit 64 bits of nanoseconds")
	}
	rows := uint64(0)
	for i := range e.Parts {
		p := &e.Parts[i]
		if len(p.Inference) > MaxInference {
			return fmt.Errorf("an inference id is longer than %d bytes", MaxInference)
		}
		rows += uint64(p.Rows)
	}
	for _, side := range [2][]Tensor{e.Inputs, e.Outputs} {
		for i := range side {
			if err := side[i].check(rows, len(e.Parts) > 1); err != nil {
				return err
			}
		}
	}
	for _, side := range [2][]Payload{e.AuxInputs, e.AuxOutputs} {
		for i := range side {
			p := &side[i]
			switch {
			case len(p.Name) > maxText:
				return fmt.Errorf("the name of one of its data is longer than %d bytes", maxText)
			case p.Encoding >= encodings:
				return fmt.Errorf("its %v is none", p.Encoding)
			}
			if err := checkBytes(p.Data, p.Beside); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *Tensor) check(rows uint64, parted bool) error {
	switch {
	case len(t.Name) > maxText:
		return fmt.Errorf("the name of a tensor is longer than %d bytes", maxText)
	case t.DType > tensor.Bytes:
		return fmt.Errorf("the type %d of a tensor is none", uint8(t.DType))
	case len(t.Shape) > maxTensors:
		return fmt.Errorf("a tensor has more than %d dimensions", maxTensors)
	}
	if parted && (t.Beside != nil || rows == 0 || len(t.Shape) == 0 || uint64(t.Shape[0]) != rows || uint64(len(t.Data))%rows != 0) {
		return errors.New("a tensor of an entry of several parts does not have their rows")
	}
	return checkBytes(t.Data, t.Beside)
}

func checkBytes(data []byte, at *Beside) error {
	switch {
	case at == nil && len(data) > MaxEntry:
		return fmt.Errorf("%d bytes are more than a record holds", len(data))
	case at != nil && (len(data) > 0 || at.Size < 0 || len(at.Name) > maxText):
		return errors.New("what lies beside it is described wrongly")
	}
	return nil
}

// ParseEntry reads the bytes of one entry, which must be all of b. What it returns
// points into b. Errors wrap ErrEntry.
func ParseEntry(b []byte) (*Entry, error) {
	e, err := parseEntry(b)
	if err == nil {
		err = e.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	return e, nil
}

func parseEntry(b []byte) (*Entry, error) {
	r := &reader{b: b}
	if v := r.u8(); r.err == nil && v != entryVersion {
		return nil, fmt.Errorf("it is of version %d, this program knows 1 to %d", v, entryVersion)
	}
	e := &Entry{}
	e.Kind, e.Why = Kind(r.u8()), Why(r.u8())
	naming := r.u8()
	if naming >= namings {
		return nil, fmt.Errorf("its way %d of naming is unknown", naming)
	}
	e.Time = time.Unix(0, int64(r.u64())).UTC()
	e.Code = r.u32()
	parts := int(r.u16())
	var sides [4]int
	for i := range sides {
		sides[i] = int(r.u8())
	}
	e.Model, e.Version, e.Error = r.text(), r.text(), r.text()
	if e.Numbered = naming == numbered || naming == counted; e.Numbered {
		copy(e.Origin[:], r.take(len(e.Origin)))
	}
	// Each part takes 4 bytes, or 1 of a tensor, and each tensor 5, so a lie costs no memory.
	least := 4
	if naming == counted {
		least = 1
	}
	if r.err != nil || parts*least > len(r.b) || (sides[0]+sides[1]+sides[2]+sides[3])*5 > len(r.b) {
		return nil, errShort
	}
	e.Parts = make([]Part, parts)
	first := uint64(0)
	if naming == counted {
		first = r.u64()
	}
	for i := range e.Parts {
		p := &e.Parts[i]
		if naming == counted {
			p.Rows, p.Number = 1, first+uint64(i)
			continue
		}
		p.Rows = r.u32()
		switch naming {
		case named:
			p.Inference = r.text()
		case numbered:
			p.Number = r.u64()
		}
	}
	e.Inputs, e.Outputs = r.tensors(sides[0]), r.tensors(sides[1])
	e.AuxInputs, e.AuxOutputs = r.payloads(sides[2]), r.payloads(sides[3])
	switch {
	case r.err != nil:
		return nil, r.err
	case len(r.b) > 0:
		return nil, fmt.Errorf("%d bytes follow it", len(r.b))
	case naming != e.naming() && naming != numbered: // numbers were written down one by one before they could be counted
		return nil, errors.New("its way of naming is not the shortest")
	}
	return e, nil
}

var errShort = errors.New("it ends too early")

// reader takes an entry apart; after its first error it gives zeros.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b) {
		r.err = errShort
		return nil
	}
	taken := r.b[:n:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) text() string { return string(r.take(int(r.u16()))) }

func (r *reader) bytes() ([]byte, *Beside) {
	switch where := r.u8(); where {
	case inside:
		n := r.u32()
		if n > math.MaxInt32 {
			r.err = errShort
			return nil, nil
		}
		return r.take(int(n)), nil
	case beside:
		at := &Beside{Size: int64(r.u64())}
		copy(at.SHA256[:], r.take(len(at.SHA256)))
		at.Name = r.text()
		return nil, at
	default:
		if r.err == nil {
			r.err = fmt.Errorf("its bytes are in an unknown place %d", where)
		}
		return nil, nil
	}
}

func (r *reader) tensors(n int) []Tensor {
	if n == 0 || r.err != nil {
		return nil
	}
	all := make([]Tensor, n)
	for i := range all {
		t := &all[i]
		t.Name = r.text()
		t.DType = tensor.DType(r.u8())
		if rank := int(r.u8()); rank > 0 && rank*8 <= len(r.b) {
			t.Shape = make([]int64, rank)
			for d := range t.Shape {
				t.Shape[d] = int64(r.u64())
			}
		} else if rank > 0 {
			r.err = errShort
		}
		t.Data, t.Beside = r.bytes()
	}
	return all
}

func (r *reader) payloads(n int) []Payload {
	if n == 0 || r.err != nil {
		return nil
	}
	all := make([]Payload, n)
	for i := range all {
		p := &all[i]
		p.Name = r.text()
		p.Encoding = Encoding(r.u8())
		p.Data, p.Beside = r.bytes()
	}
	return all
}

// Records takes an entry apart. first is the ID of its first part; the others count
// on. The records share the entry's memory.
func (e *Entry) Records(first ID) []Record {
	all := make([]Record, len(e.Parts))
	at := 0
	total := 0
	for i := range e.Parts {
		total += int(e.Parts[i].Rows)
	}
	for i := range e.Parts {
		p, r := &e.Parts[i], &all[i]
		*r = e.Record
		r.ID = ID{first.Spool, first.Sequence + uint64(i)}
		r.Inference, r.Rows = p.Inference, int(p.Rows)
		if e.Numbered {
			r.Inference = NumberedName(e.Origin, p.Number)
		}
		if len(e.Parts) > 1 {
			r.Inputs, r.Outputs = rowsOf(e.Inputs, at, r.Rows, total), rowsOf(e.Outputs, at, r.Rows, total)
			at += r.Rows
		}
	}
	return all
}

// rowsOf are the rows of one part.
func rowsOf(all []Tensor, first, n, total int) []Tensor {
	if len(all) == 0 {
		return nil
	}
	out := make([]Tensor, len(all))
	for i, t := range all {
		row := len(t.Data) / total
		t.Data = t.Data[first*row : (first+n)*row : (first+n)*row]
		t.Shape = append([]int64{int64(n)}, t.Shape[1:]...)
		out[i] = t
	}
	return out
}
