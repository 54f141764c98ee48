package format

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/picket-ml/picket/internal/parquetschema"
	"github.com/picket-ml/picket/tensor"
)

// The columns that every file has, before those of the tensors.
var metaColumns = []field{
	{name: "event_id", node: parquet.Required(parquet.String())},
	{name: "inference_id", node: parquet.Optional(parquet.String())},
	{name: "time", node: parquet.Required(parquet.Timestamp(parquet.Microsecond))},
	{name: "fleet", node: parquet.Required(parquet.String())},
	{name: "device", node: parquet.Required(parquet.String())},
	{name: "model", node: parquet.Required(parquet.String())},
	{name: "model_version", node: parquet.Required(parquet.String())},
	{name: "record", node: parquet.Required(parquet.Uint(64))},
	{name: "row", node: parquet.Required(parquet.Int(32))},
}

// field is a column of a file.
type field struct {
	name string
	node parquet.Node
	// cell gives the value of a row of a record; a null value for a missing one.
	cell func(r *Record, row int) parquet.Value
}

// parquet is a row for each row of a request, with a column for each feature: in.NAME and
// out.NAME. A tensor that is no table is its bytes in one column, and its type and shape in
// another, NAME.type.
func (o *Options) parquet(b *Batch) ([]Object, error) {
	fields := append([]field{}, metaColumns...)
	first := &b.Records[0]
	fields = appendTensorFields(fields, "in.", first.Inputs, func(r *Record) []Tensor { return r.Inputs })
	fields = appendTensorFields(fields, "out.", first.Outputs, func(r *Record) []Tensor { return r.Outputs })
	content, err := writeParquet(fields, b.Records, o)
	if err != nil {
		return nil, err
	}
	object := o.object(b, o.folder(b, b.Model), ".parquet", "application/vnd.apache.parquet", content)
	object.Packed = true
	return []Object{object}, nil
}

func (o *Options) truthParquet(b *Batch) ([]Object, error) {
	fields := append(append([]field{}, metaColumns...),
		field{name: "ground_truth", node: parquet.Required(parquet.String()), cell: func(r *Record, _ int) parquet.Value { return textValue(r.Truth.Data) }},
		field{name: "encoding", node: parquet.Required(parquet.String()), cell: func(r *Record, _ int) parquet.Value { return textValue(r.Truth.Encoding) }})
	content, err := writeParquet(fields, b.Records, o)
	if err != nil {
		return nil, err
	}
	object := o.object(b, o.folder(b, "ground-truth", b.Model), ".parquet", "application/vnd.apache.parquet", content)
	object.Packed = true
	return []Object{object}, nil
}

// appendTensorFields adds the columns of one side. They are those of its first record; a
// batch has records of one layout.
func appendTensorFields(fields []field, prefix string, all []Tensor, of func(*Record) []Tensor) []field {
	used := map[string]bool{}
	unique := func(name string) string {
		name = prefix + name
		for used[name] {
			name += "_"
		}
		used[name] = true
		return name
	}
	for i := range all {
		t := &all[i]
		_, columns, ok := t.Table()
		if !ok || columns > MaxFlat {
			name := unique(t.Name)
			fields = append(fields,
				field{name: name, node: parquet.Optional(parquet.Leaf(parquet.ByteArrayType)), cell: func(r *Record, row int) parquet.Value {
					if row > 0 {
						return parquet.NullValue()
					}
					return parquet.ByteArrayValue(of(r)[i].Data)
				}},
				field{name: unique(t.Name + ".type"), node: parquet.Optional(parquet.String()), cell: func(r *Record, row int) parquet.Value {
					if row > 0 {
						return parquet.NullValue()
					}
					return textValue(edgeType(&of(r)[i]))
				}})
			continue
		}
		for c := range columns {
			name := flatTensor{Tensor: t, columns: columns}.columnName(c)
			text := t.Columns != nil && t.Columns[c].Text != nil
			fields = append(fields, field{name: unique(name), node: parquet.Optional(columnNode(t.DType, text)), cell: func(r *Record, row int) parquet.Value {
				return of(r)[i].cell(row, c)
			}})
		}
	}
	return fields
}

// cell is a number or a word of a table; null where it is missing, or where a shorter
// tensor has no such row.
func (t *Tensor) cell(row, column int) parquet.Value {
	rowCount, columns, _ := t.Table()
	if row >= rowCount {
		return parquet.NullValue()
	}
	if t.Columns != nil && t.Columns[column].Text != nil {
		if word := t.Columns[column].Text[row]; word != "" {
			return parquet.ByteArrayValue([]byte(word))
		}
		return parquet.NullValue()
	}
	return number(t.Element(row*columns+column), t.DType)
}

// columnNode is the type of a column. Half precision is widened, which loses nothing.
func columnNode(d tensor.DType, text bool) parquet.Node {
	if text {
		return parquet.String()
	}
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

func number(element []byte, d tensor.DType) parquet.Value {
	if d == tensor.Bool {
		return parquet.BooleanValue(element[0] != 0)
	}
	var scratch [32]byte
	text := string(AppendElement(scratch[:0], element, d))
	switch d {
	case tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64:
		v, err := strconv.ParseInt(text, 10, 64)
		mustParse(err)
		if d == tensor.Int64 {
			return parquet.Int64Value(v)
		}
		return parquet.Int32Value(int32(v))
	case tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64:
		v, err := strconv.ParseUint(text, 10, 64)
		mustParse(err)
		if d == tensor.Uint64 {
			return parquet.Int64Value(int64(v)) // the same bits; the column says that they have no sign
		}
		return parquet.Int32Value(int32(uint32(v)))
	}
	v := Float(element, d)
	switch {
	case v != v: // not a number
		return parquet.NullValue()
	case d == tensor.FP64:
		return parquet.DoubleValue(v)
	}
	return parquet.FloatValue(float32(v))
}

func mustParse(err error) {
	if err != nil {
		panic("BUG: " + err.Error()) // AppendElement wrote it
	}
}

// rowsOf is how many rows a record has in a file: those of its longest table, and one at
// least.
func rowsOf(r *Record) int {
	n := 1
	for _, side := range [][]Tensor{r.Inputs, r.Outputs} {
		for i := range side {
			if rowCount, columns, ok := side[i].Table(); ok && columns <= MaxFlat {
				n = max(n, rowCount)
			}
		}
	}
	return n
}

func writeParquet(fields []field, records []Record, o *Options) ([]byte, error) {
	group := parquet.Group{}
	order := make([]string, len(fields))
	for i, f := range fields {
		order[i] = f.name
		group[f.name] = f.node
	}
	config, err := parquet.NewWriterConfig(
		parquetschema.Ordered("record", group, order), parquet.Compression(&zstd.Codec{Level: zstd.SpeedDefault, Concurrency: 1}),
		parquet.CreatedBy("picket", "1", ""))
	if err != nil {
		return nil, fmt.Errorf("writing Parquet: %w", err)
	}
	var out bytes.Buffer
	w := parquet.NewWriter(&out, config)
	row := make(parquet.Row, len(fields))
	for i := range records {
		r := &records[i]
		for n := range rowsOf(r) {
			meta := o.metaValues(r, n)
			for c, f := range fields {
				var v parquet.Value
				if c < len(meta) {
					v = meta[c]
				} else {
					v = f.cell(r, n)
				}
				defined := 0
				if f.node.Optional() && !v.IsNull() {
					defined = 1
				}
				row[c] = v.Level(0, defined, c)
			}
			if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
				return nil, fmt.Errorf("writing Parquet: %w", err)
			}
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing Parquet: %w", err)
	}
	return out.Bytes(), nil
}

// metaValues are the values of metaColumns.
func (o *Options) metaValues(r *Record, row int) []parquet.Value {
	inference := parquet.NullValue()
	if r.InferenceID != "" {
		inference = textValue(r.InferenceID)
	}
	return []parquet.Value{
		textValue(r.ID), inference, parquet.Int64Value(r.Time.UnixMicro()), textValue(o.Fleet), textValue(o.Device), textValue(r.Model), textValue(r.Version),
		parquet.Int64Value(int64(r.Number)), parquet.Int32Value(int32(row)),
	}
}

// textValue is a string, which readers insist on being UTF-8.
func textValue(s string) parquet.Value {
	return parquet.ByteArrayValue([]byte(strings.ToValidUTF8(s, "\uFFFD")))
}
