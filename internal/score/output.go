package score

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/format"

	"github.com/picket-ml/picket/internal/parquetschema"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// idKind is what a column that is passed through holds.
type idKind struct {
	node     parquet.Node // a leaf
	kind     parquet.Kind
	optional bool
	list     bool
	text     bool // fields of CSV, quotes and all
}

func textKind() idKind {
	return idKind{node: parquet.String(), kind: parquet.ByteArray, text: true}
}

// appendID appends the bytes of a value after their number plus one; 0 stands for null.
func appendID(dst []byte, v parquet.Value) []byte {
	if v.IsNull() {
		return append(dst, 0)
	}
	var plain [8]byte
	bytes := plain[:]
	switch v.Kind() {
	case parquet.Boolean:
		bytes = bytes[:1]
		if v.Boolean() {
			bytes[0] = 1
		}
	case parquet.Int32:
		bytes = binary.LittleEndian.AppendUint32(bytes[:0], uint32(v.Int32()))
	case parquet.Int64:
		bytes = binary.LittleEndian.AppendUint64(bytes[:0], uint64(v.Int64()))
	case parquet.Float:
		bytes = binary.LittleEndian.AppendUint32(bytes[:0], math.Float32bits(v.Float()))
	case parquet.Double:
		bytes = binary.LittleEndian.AppendUint64(bytes[:0], math.Float64bits(v.Double()))
	default:
		bytes = v.ByteArray()
	}
	return append(binary.AppendUvarint(dst, uint64(len(bytes))+1), bytes...)
}

// value is what appendID wrote, without its length.
func (k *idKind) value(plain []byte) (parquet.Value, error) {
	want := map[parquet.Kind]int{parquet.Boolean: 1, parquet.Int32: 4, parquet.Int64: 8, parquet.Float: 4, parquet.Double: 8}[k.kind]
	if want > 0 && len(plain) != want {
		return parquet.NullValue(), errDamaged
	}
	switch k.kind {
	case parquet.Boolean:
		return parquet.BooleanValue(plain[0] != 0), nil
	case parquet.Int32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(plain))), nil
	case parquet.Int64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(plain))), nil
	case parquet.Float:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(plain))), nil
	case parquet.Double:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(plain))), nil
	case parquet.FixedLenByteArray:
		return parquet.FixedLenByteArrayValue(bytes.Clone(plain)), nil
	}
	return parquet.ByteArrayValue(bytes.Clone(plain)), nil
}

// appendText appends a value as a field of CSV.
func (k *idKind) appendText(dst, plain []byte) []byte {
	switch {
	case k.text:
		return append(dst, plain...)
	case k.kind == parquet.Boolean:
		return strconv.AppendBool(dst, plain[0] != 0)
	case k.kind == parquet.Int32 && unsigned(k.node):
		return strconv.AppendUint(dst, uint64(binary.LittleEndian.Uint32(plain)), 10)
	case k.kind == parquet.Int32:
		return strconv.AppendInt(dst, int64(int32(binary.LittleEndian.Uint32(plain))), 10)
	case k.kind == parquet.Int64 && unsigned(k.node):
		return strconv.AppendUint(dst, binary.LittleEndian.Uint64(plain), 10)
	case k.kind == parquet.Int64:
		return strconv.AppendInt(dst, int64(binary.LittleEndian.Uint64(plain)), 10)
	case k.kind == parquet.Float:
		return strconv.AppendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(plain))), 'g', -1, 32)
	case k.kind == parquet.Double:
		return strconv.AppendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(plain)), 'g', -1, 64)
	case bytes.ContainsAny(plain, ",\"\r\n"):
		return append(append(append(dst, '"'), bytes.ReplaceAll(plain, []byte(`"`), []byte(`""`))...), '"')
	}
	return append(dst, plain...)
}

func unsigned(node parquet.Node) bool {
	t := node.Type().LogicalType()
	if t == nil {
		return false
	}
	whole, ok := t.Value.(*format.IntType)
	return ok && !whole.IsSigned
}

// table is what the output is.
type table struct {
	ids      []string
	kinds    []idKind
	outputs  []output
	names    []string // of the columns of the outputs
	head     bool     // CSV has a header
	csvInput bool
}

// newTable names the columns: an output of one value a row has its own name, of several that with a number from 0.
func newTable(ids []string, kinds []idKind, outputs []output, head, csvInput bool) (*table, error) {
	t := &table{ids: ids, kinds: kinds, outputs: outputs, head: head, csvInput: csvInput}
	for _, o := range outputs {
		for i := range o.elements {
			name := o.name
			if o.elements > 1 {
				name = fmt.Sprintf("%s.%d", o.name, i)
			}
			if slices.Contains(ids, name) || slices.Contains(t.names, name) {
				return nil, badInput("column %q would be twice in the output", name)
			}
			t.names = append(t.names, name)
		}
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			return nil, badInput("column %q would be twice in the output", id)
		}
	}
	return t, nil
}

// id is the bytes of a value to pass through; ok is false for a null.
func (t *table) id(c *chunk, column, row int) (plain []byte, ok bool) {
	at := c.ids[column][row]
	if at.from < 0 {
		return nil, false
	}
	if t.csvInput {
		return c.text[at.from:at.to], true
	}
	return c.bytes[at.from:at.to], true
}

// writer makes the output of chunks.
type writer interface {
	// start is what comes before all parts.
	start() []byte
	// part appends a chunk's part to c.out. It is called for many chunks at once.
	part(c *chunk) error
	// finish writes the output, of the parts in partial, to out. Without it the parts are the output.
	finish(partial io.Reader, out io.Writer) error
	whole() bool // the parts are the output
}

// csvWriter writes a line for each row.
type csvWriter struct{ *table }

func (w *csvWriter) start() []byte {
	if !w.head {
		return nil
	}
	var line []byte
	for _, name := range slices.Concat(w.ids, w.names) {
		if line != nil {
			line = append(line, ',')
		}
		word := idKind{kind: parquet.ByteArray}
		line = word.appendText(line, []byte(name))
	}
	return append(line, '\n')
}

func (w *csvWriter) part(c *chunk) (err error) {
	c.out = c.out[:0]
	for row := range c.rows {
		for i := range w.kinds {
			if plain, ok := w.id(c, i, row); ok {
				c.out = w.kinds[i].appendText(c.out, plain)
			}
			c.out = append(c.out, ',')
		}
		for i, o := range w.outputs {
			if i > 0 {
				c.out = append(c.out, ',')
			}
			size := o.size()
			if c.out, err = rows.Append(c.out, c.scored[i][row*size:(row+1)*size], o.dtype, rows.Text); err != nil {
				return fmt.Errorf("writing output %q: %w", o.name, err)
			}
		}
		c.out = append(c.out, '\n')
	}
	return nil
}

func (w *csvWriter) whole() bool { return true }

func (w *csvWriter) finish(io.Reader, io.Writer) error { return nil }

// parquetWriter keeps, of each chunk, its number of rows, the values that are passed through, column after column as appendID
// writes them, and the outputs as the model gives them. finish makes Parquet of that.
type parquetWriter struct{ *table }

// groupRows is how many rows a row group has.
const groupRows = 1 << 20

var errDamaged = errors.New("the partial output is damaged; begin anew with --restart")

func (w *parquetWriter) start() []byte { return nil }

func (w *parquetWriter) part(c *chunk) error {
	c.out = binary.LittleEndian.AppendUint32(c.out[:0], uint32(c.rows))
	for i := range w.kinds {
		for row := range c.rows {
			plain, ok := w.id(c, i, row)
			if !ok {
				c.out = append(c.out, 0)
				continue
			}
			if w.kinds[i].text {
				plain = unquote(plain)
			}
			c.out = append(binary.AppendUvarint(c.out, uint64(len(plain))+1), plain...)
		}
	}
	for i := range w.outputs {
		c.out = append(c.out, c.scored[i]...)
	}
	return nil
}

func (w *parquetWriter) whole() bool { return false }

func (w *parquetWriter) schema() *parquet.Schema {
	group := parquet.Group{}
	for i, name := range w.ids {
		node := w.kinds[i].node
		if w.kinds[i].optional {
			node = parquet.Optional(node)
		}
		group[name] = node
	}
	at := 0
	for _, o := range w.outputs {
		for range o.elements {
			group[w.names[at]] = numberNode(o.dtype)
			at++
		}
	}
	return parquetschema.Ordered("scores", group, slices.Concat(w.ids, w.names))
}

func numberNode(d tensor.DType) parquet.Node {
	switch d {
	case tensor.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
		return parquet.Int(8 * d.Size())
	case tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64:
		return parquet.Uint(8 * d.Size())
	case tensor.FP64:
		return parquet.Leaf(parquet.DoubleType)
	}
	return parquet.Leaf(parquet.FloatType)
}

func numberValue(element []byte, d tensor.DType) (parquet.Value, error) {
	switch d {
	case tensor.Bool:
		return parquet.BooleanValue(element[0] != 0), nil
	case tensor.FP32:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(element))), nil
	case tensor.FP64:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(element))), nil
	case tensor.Int64, tensor.Uint64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(element))), nil
	case tensor.Int32, tensor.Uint32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(element))), nil
	case tensor.Int16:
		return parquet.Int32Value(int32(int16(binary.LittleEndian.Uint16(element)))), nil
	case tensor.Uint16:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint16(element))), nil
	case tensor.Int8:
		return parquet.Int32Value(int32(int8(element[0]))), nil
	case tensor.Uint8:
		return parquet.Int32Value(int32(element[0])), nil
	}
	// The short kinds of floating point, by their text.
	text, err := rows.Append(nil, element, d, rows.Text)
	if err != nil {
		return parquet.NullValue(), err
	}
	v, err := strconv.ParseFloat(string(text), 32)
	return parquet.FloatValue(float32(v)), err
}

func (w *parquetWriter) finish(partial io.Reader, out io.Writer) error {
	config, err := parquet.NewWriterConfig(w.schema(), parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest, Concurrency: 1}), parquet.CreatedBy("picket", "1", ""))
	if err != nil {
		return fmt.Errorf("writing Parquet: %w", err)
	}
	var (
		in     = bufio.NewReaderSize(partial, 1<<20)
		file   = parquet.NewWriter(out, config)
		group  = 0
		values []parquet.Value
		raw    []byte
	)
	for {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return errDamaged
		}
		n := int(binary.LittleEndian.Uint32(head[:]))
		if n > maxChunkRows {
			return errDamaged
		}
		columns := file.ColumnWriters()
		for i := range w.kinds {
			if values, err = w.readIDs(in, n, i, values[:0]); err != nil {
				return err
			}
			if _, err := columns[i].WriteRowValues(values); err != nil {
				return fmt.Errorf("writing Parquet: %w", err)
			}
		}
		at := len(w.kinds)
		for _, o := range w.outputs {
			raw = slices.Grow(raw[:0], n*o.size())[:n*o.size()]
			if _, err := io.ReadFull(in, raw); err != nil {
				return errDamaged
			}
			for e := range o.elements {
				values = values[:0]
				for row := range n {
					v, err := numberValue(raw[row*o.size()+e*o.dtype.Size():][:o.dtype.Size()], o.dtype)
					if err != nil {
						return fmt.Errorf("writing Parquet: %w", err)
					}
					values = append(values, v.Level(0, 0, at))
				}
				if _, err := columns[at].WriteRowValues(values); err != nil {
					return fmt.Errorf("writing Parquet: %w", err)
				}
				at++
			}
		}
		if group += n; group >= groupRows {
			if err := file.Flush(); err != nil {
				return fmt.Errorf("writing Parquet: %w", err)
			}
			group = 0
		}
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("writing Parquet: %w", err)
	}
	return nil
}

// maxChunkRows is more than the rows of any chunk: of one line each at the least, of the longest line.
const maxChunkRows = maxLine + chunkBytes

// readIDs reads the values of one column.
func (w *parquetWriter) readIDs(in *bufio.Reader, n, column int, values []parquet.Value) ([]parquet.Value, error) {
	kind := &w.kinds[column]
	for range n {
		length, err := binary.ReadUvarint(in)
		if err != nil || length > maxValue {
			return nil, errDamaged
		}
		if length == 0 {
			values = append(values, parquet.NullValue().Level(0, 0, column))
			continue
		}
		plain := make([]byte, length-1)
		if _, err := io.ReadFull(in, plain); err != nil {
			return nil, errDamaged
		}
		v, err := kind.value(plain)
		if err != nil {
			return nil, err
		}
		defined := 0
		if kind.optional {
			defined = 1
		}
		values = append(values, v.Level(0, defined, column))
	}
	return values, nil
}

// maxValue bounds a value that is passed through.
const maxValue = 64 << 20
