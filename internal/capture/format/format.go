package format

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"time"
)

// Kind is one of the formats.
type Kind string

// The formats.
const (
	// Edge is the records of the SageMaker Edge Manager agent.
	Edge Kind = "edge"
	// Endpoint is what SageMaker endpoints capture, in lines of JSON.
	Endpoint Kind = "endpoint"
	// Parquet is one row for each row of a request.
	Parquet Kind = "parquet"
)

// Options say what is written, besides records. The zero Options of a Kind are usable.
type Options struct {
	Kind Kind
	// Prefix begins every key; empty for none.
	Prefix string
	// Fleet and Device are whose records they are.
	Fleet, Device string
	// Embed is the largest payload, in bytes, that an Edge record holds itself.
	Embed int
	// JSON writes the rows of Endpoint as JSON objects, and not as CSV.
	JSON bool
	// Variant is the second folder of Endpoint's keys; empty for AllTraffic.
	Variant string
	// Ref is how an Edge record names an object beside it by its key: a URL.
	Ref func(key string) string
}

// Batch is what becomes one object, and for Edge the payloads beside it: records of one
// model and one hour of one segment of the spool, all captured requests or all outcomes.
type Batch struct {
	// Spool and Segment are where the records are from.
	Spool   string
	Segment uint64
	// Model is what the folder is called, Records are at least one, in order.
	Model   string
	Truth   bool
	Records []Record
}

// Object is bytes for a destination.
type Object struct {
	// Key is the name, without a suffix for compression.
	Key     string
	Content []byte
	// Payload is an object that belongs to another one, which comes after it.
	Payload bool
	// Packed says that compression has no use: the content is compressed already, or must
	// be readable as it is.
	Packed      bool
	ContentType string
}

// Encode gives the objects of a batch, in the order in which they should go: what refers
// to others comes last. The same batch gives the same objects. b's records passed the
// residency policy, and are only read.
func Encode(o Options, b *Batch) ([]Object, error) {
	if len(b.Records) == 0 {
		panic("BUG: a batch without records")
	}
	switch {
	case b.Truth && o.Kind == Parquet:
		return o.truthParquet(b)
	case b.Truth:
		return o.truth(b), nil
	case o.Kind == Edge:
		return o.edge(b)
	case o.Kind == Endpoint:
		return o.endpoint(b)
	case o.Kind == Parquet:
		return o.parquet(b)
	}
	panic("BUG: no format " + string(o.Kind))
}

// SameObject tells whether two records may be in one object: those of one hour and one
// layout.
func SameObject(k Kind, a, b *Record) bool {
	if a.Model != b.Model || (a.Truth == nil) != (b.Truth == nil) || !Hour(a.Time).Equal(Hour(b.Time)) {
		return false
	}
	return k != Parquet || layout(a) == layout(b)
}

// Hour is the folder that a record is in.
func Hour(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }

// layout is the same for records that fit one Parquet schema.
func layout(r *Record) string {
	var b strings.Builder
	for _, side := range [][]Tensor{r.Inputs, r.Outputs} {
		for i := range side {
			t := &side[i]
			_, columns, ok := t.Table()
			fmt.Fprintf(&b, "%q %v %d %v", t.Name, t.DType, columns, ok)
			for _, c := range t.Columns {
				fmt.Fprintf(&b, " %q %v", c.Name, c.Text != nil)
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// idOf is 32 hexadecimal digits made of the device, the segment of the spool, the first
// record and the content: a key that a crash cannot change.
func (o *Options) idOf(b *Batch, record uint64, part string, content []byte) string {
	digest := sha256.Sum256(content)
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q ", o.Fleet, o.Device, b.Spool, part)
	var numbers [16]byte
	binary.LittleEndian.PutUint64(numbers[:], b.Segment)
	binary.LittleEndian.PutUint64(numbers[8:], record)
	h.Write(numbers[:])
	h.Write(digest[:])
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// folder is where the objects of an hour are.
func (o *Options) folder(b *Batch, above ...string) string {
	elements := []string{o.Prefix}
	for _, e := range above {
		elements = append(elements, Element(e))
	}
	return path.Join(append(elements, Hour(b.Records[0].Time).Format("2006/01/02/15"))...)
}

// Element makes one element of a key of a name: no name leads out of its folder or makes
// two of it.
func Element(name string) string {
	if name == "" || name == "." || name == ".." {
		return "_"
	}
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r == '/' || r == '\\' || r == 0x7f || r == '�' {
			return '_'
		}
		return r
	}, name)
	const longest = 255
	if len(clean) > longest {
		clean = strings.ToValidUTF8(clean[:longest], "")
	}
	return clean
}

// object is the main one of a batch.
func (o *Options) object(b *Batch, folder, suffix, contentType string, content []byte) Object {
	id := o.idOf(b, b.Records[0].Number, "", content)
	return Object{Key: path.Join(folder, id+suffix), Content: content, ContentType: contentType}
}

const jsonLines = "application/x-ndjson"
