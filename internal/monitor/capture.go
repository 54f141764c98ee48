package monitor

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxLine bounds a line of captured data.
	maxLine = 64 << 20
	// maxRowValues bounds what a record may have in a row.
	maxRowValues = MaxFeatures
)

// captureRows reads captured data, one record a line: SageMaker's Data Capture, or
// records of an Edge Manager device.
type captureRows struct {
	lines   *bufio.Scanner
	columns []string
	// inputs and scores are the columns of the baseline in the order in which a model
	// takes and gives them.
	inputs, scores []int
	queue          [][]Value
	// byReference counts records whose tensors lie in files of their own.
	byReference uint64
	// narrow counts rows without names that have fewer values than there are inputs.
	narrow uint64
}

// NewCapture reads captured data, which has no names: the values of a row are the
// baseline's features in its order, and the model's answers are its scores.
func NewCapture(r io.Reader, baseline *Statistics) Rows {
	c := &captureRows{lines: bufio.NewScanner(r)}
	c.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	for i := range baseline.Features {
		name := baseline.Features[i].Name
		c.columns = append(c.columns, name)
		if IsScore(name) {
			c.scores = append(c.scores, i)
		} else {
			c.inputs = append(c.inputs, i)
		}
	}
	return c
}

// Columns implements Rows.
func (c *captureRows) Columns() []string { return c.columns }

// Next implements Rows.
func (c *captureRows) Next() ([]Value, error) {
	for len(c.queue) == 0 {
		if !c.lines.Scan() {
			if err := c.lines.Err(); err != nil {
				if errors.Is(err, bufio.ErrTooLong) {
					err = fmt.Errorf("a line is longer than %d bytes", maxLine)
				}
				return nil, err
			}
			return nil, io.EOF
		}
		line := c.lines.Bytes()
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := c.take(line); err != nil {
			return nil, fmt.Errorf("a record of captured data: %w", err)
		}
	}
	row := c.queue[0]
	c.queue = c.queue[1:]
	return row, nil
}

// record is a line of either form.
type record struct {
	Capture *struct {
		Input  *captured `json:"endpointInput"`
		Output *captured `json:"endpointOutput"`
	} `json:"captureData"`
	Inputs  []deviceTensor `json:"deviceFleetInputs"`
	Outputs []deviceTensor `json:"deviceFleetOutputs"`
	Truth   *captured      `json:"groundTruthData"`
}

type captured struct {
	Data     string `json:"data"`
	Encoding string `json:"encoding"`
	Type     string `json:"observedContentType"`
}

type deviceTensor struct {
	Name     string  `json:"name"`
	Data     *string `json:"data"`
	Ref      *string `json:"data-ref"`
	Encoding string  `json:"encoding"`
	Type     string  `json:"observedContentType"`
}

// table is what one side of a record holds: rows of values, with names where the
// record has them.
type table struct {
	names []string
	rows  [][]Value
}

func (c *captureRows) take(line []byte) error {
	var r record
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	var in, out *table
	var err error
	switch {
	case r.Capture != nil:
		if in, err = r.Capture.Input.table(); err != nil {
			return fmt.Errorf("its input: %w", err)
		}
		if out, err = r.Capture.Output.table(); err != nil {
			return fmt.Errorf("its output: %w", err)
		}
	case r.Inputs != nil || r.Outputs != nil:
		var missing [2]bool
		if in, missing[0], err = tensors(r.Inputs); err != nil {
			return fmt.Errorf("its inputs: %w", err)
		}
		if out, missing[1], err = tensors(r.Outputs); err != nil {
			return fmt.Errorf("its outputs: %w", err)
		}
		if missing[0] || missing[1] {
			c.byReference++
		}
	case r.Truth != nil:
		return nil // the outcome of a record and not one
	default:
		return errors.New("it has neither captureData nor deviceFleetInputs, so it is in no form that is known")
	}
	count := 0
	for _, side := range []*table{in, out} {
		if side != nil {
			count = max(count, len(side.rows))
		}
	}
	for i := range count {
		row := make([]Value, len(c.columns))
		if in != nil && i < len(in.rows) {
			if in.names == nil && len(in.rows[i]) < len(c.inputs) {
				c.narrow++
			}
			row = c.place(row, in.names, in.rows[i], c.inputs)
		}
		if out != nil && i < len(out.rows) {
			c.placeScores(row, out.rows[i])
		}
		c.queue = append(c.queue, row)
	}
	return nil
}

// placeScores puts the first answers into a row, whatever they are called: the baseline
// knows them by number. Others than those of the baseline are not looked at.
func (c *captureRows) placeScores(row, values []Value) {
	for i, place := range c.scores {
		if row[place] = (Value{Kind: Missing}); i < len(values) {
			row[place] = values[i]
		}
	}
}

// place puts values into a row: by name where they have any, else in the order of
// the columns at. What a row lacks is Missing, what it has more gets a column.
func (c *captureRows) place(row []Value, names []string, values []Value, at []int) []Value {
	if names == nil {
		for i, place := range at {
			if row[place] = (Value{Kind: Missing}); i < len(values) {
				row[place] = values[i]
			}
		}
		for i := len(at); i < len(values); i++ {
			row = c.extra(row, "_c"+strconv.Itoa(i), values[i])
		}
		return row
	}
	for _, place := range at {
		row[place] = Value{Kind: Missing}
	}
	for i, name := range names[:min(len(names), len(values))] {
		place := slices.Index(c.columns, name)
		if place < 0 {
			row = c.extra(row, name, values[i])
			continue
		}
		for len(row) <= place {
			row = append(row, Value{})
		}
		row[place] = values[i]
	}
	return row
}

func (c *captureRows) extra(row []Value, name string, v Value) []Value {
	place := slices.Index(c.columns, name)
	if place < 0 {
		if len(c.columns) == 2*MaxFeatures {
			return row
		}
		place = len(c.columns)
		c.columns = append(c.columns, name)
	}
	for len(row) <= place {
		row = append(row, Value{})
	}
	row[place] = v
	return row
}

// table reads one side of a record of Data Capture; nil where there is none.
func (d *captured) table() (*table, error) {
	if d == nil {
		return nil, nil
	}
	data, encoding := d.Data, d.Encoding
	if encoding == "BASE64" {
		raw, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return nil, fmt.Errorf("it is said to be BASE64: %w", err)
		}
		data = string(raw)
		switch {
		case strings.HasPrefix(d.Type, "text/csv"):
			encoding = "CSV"
		case strings.HasPrefix(d.Type, "application/json"):
			encoding = "JSON"
		}
	}
	switch encoding {
	case "CSV":
		return textTable(data)
	case "JSON":
		return jsonTable(data)
	}
	return nil, fmt.Errorf("its encoding is %q with the content type %q, which holds no table", d.Encoding, d.Type)
}

func textTable(data string) (*table, error) {
	r := csv.NewReader(strings.NewReader(data))
	r.FieldsPerRecord = -1
	t := &table{}
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if len(fields) > maxRowValues {
			return nil, fmt.Errorf("a row has %d values, more than %d", len(fields), maxRowValues)
		}
		row := make([]Value, len(fields))
		for i, f := range fields {
			row[i] = TextValue(f)
		}
		t.rows = append(t.rows, row)
	}
}

// jsonTable reads a flat object, a list of numbers and texts, or a list of either.
func jsonTable(data string) (*table, error) {
	var document any
	if err := json.Unmarshal([]byte(data), &document); err != nil {
		return nil, err
	}
	list, ok := document.([]any)
	if !ok || len(list) == 0 || !nested(list[0]) {
		list = []any{document}
	}
	t := &table{}
	for _, one := range list {
		switch v := one.(type) {
		case map[string]any:
			if t.names == nil {
				for name := range v {
					t.names = append(t.names, name)
				}
				slices.Sort(t.names)
			}
			row := make([]Value, len(t.names))
			for i, name := range t.names {
				row[i] = jsonValue(v[name])
			}
			t.rows = append(t.rows, row)
		case []any:
			row := make([]Value, len(v))
			for i, field := range v {
				row[i] = jsonValue(field)
			}
			t.rows = append(t.rows, row)
		default:
			t.rows = append(t.rows, []Value{jsonValue(v)})
		}
		if n := len(t.rows[len(t.rows)-1]); n > maxRowValues {
			return nil, fmt.Errorf("a row has %d values, more than %d", n, maxRowValues)
		}
	}
	return t, nil
}

func nested(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func jsonValue(v any) Value {
	switch v := v.(type) {
	case float64:
		return NumberValue(v)
	case bool:
		return Value{Kind: Text, Text: strconv.FormatBool(v)}
	case string:
		return TextValue(v)
	case nil:
		return Value{Kind: Missing}
	}
	return Value{Kind: Text, Text: "(nested)"}
}

// tensorType is how a device says what a tensor is.
var tensorType = regexp.MustCompile(`^Tensor\[(\w{1,16}); ?(\d{1,12}(?:, ?\d{1,12}){0,15})\]$`)

// tensors puts the rows of all tensors beside each other. byReference tells that one
// of them lies in a file of its own, so that there are none.
func tensors(list []deviceTensor) (t *table, byReference bool, err error) {
	for _, one := range list {
		if one.Data == nil {
			return nil, one.Ref != nil, nil
		}
		rows, err := one.rows()
		if err != nil {
			return nil, false, fmt.Errorf("tensor %q: %w", one.Name, err)
		}
		switch {
		case t == nil:
			t = &table{rows: rows}
		case len(t.rows) != len(rows):
			return nil, false, fmt.Errorf("tensor %q has %d rows, the one before %d", one.Name, len(rows), len(t.rows))
		default:
			for i := range rows {
				t.rows[i] = append(t.rows[i], rows[i]...)
			}
		}
	}
	return t, false, nil
}

func (d *deviceTensor) rows() ([][]Value, error) {
	m := tensorType.FindStringSubmatch(d.Type)
	if m == nil || d.Encoding != "BASE64" {
		return nil, fmt.Errorf("its type is %.64q and its encoding %.16q, it must be Tensor[...] and BASE64", d.Type, d.Encoding)
	}
	size, read := element(m[1])
	if size == 0 {
		return nil, fmt.Errorf("its elements are %s, which are no numbers that are known", m[1])
	}
	rows, width := 1, 1
	for i, text := range strings.Split(m[2], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n > math.MaxInt32 {
			return nil, fmt.Errorf("its shape is %s", m[2])
		}
		if i == 0 && strings.Contains(m[2], ",") {
			rows = n
			continue
		}
		if width *= n; width > maxRowValues {
			return nil, fmt.Errorf("a row has more than %d values", maxRowValues)
		}
	}
	data, err := base64.StdEncoding.DecodeString(*d.Data)
	if err != nil {
		return nil, err
	}
	if len(data) != rows*width*size {
		return nil, fmt.Errorf("it has %d bytes, its type says %d", len(data), rows*width*size)
	}
	if width == 0 {
		rows = 0
	}
	table := make([][]Value, rows)
	for i := range table {
		table[i] = make([]Value, width)
		for j := range table[i] {
			table[i][j] = NumberValue(read(data))
			data = data[size:]
		}
	}
	return table, nil
}

// element is the size of an element type, 0 for one that is not known, and how to
// read one.
func element(name string) (int, func([]byte) float64) {
	le := binary.LittleEndian
	switch strings.ToUpper(name) {
	case "FLOAT32", "FP32", "FLOAT":
		return 4, func(b []byte) float64 { return float64(math.Float32frombits(le.Uint32(b))) }
	case "FLOAT64", "FP64", "DOUBLE":
		return 8, func(b []byte) float64 { return math.Float64frombits(le.Uint64(b)) }
	case "INT8":
		return 1, func(b []byte) float64 { return float64(int8(b[0])) }
	case "UINT8", "BOOL":
		return 1, func(b []byte) float64 { return float64(b[0]) }
	case "INT16":
		return 2, func(b []byte) float64 { return float64(int16(le.Uint16(b))) }
	case "UINT16":
		return 2, func(b []byte) float64 { return float64(le.Uint16(b)) }
	case "INT32":
		return 4, func(b []byte) float64 { return float64(int32(le.Uint32(b))) }
	case "UINT32":
		return 4, func(b []byte) float64 { return float64(le.Uint32(b)) }
	case "INT64":
		return 8, func(b []byte) float64 { return float64(int64(le.Uint64(b))) }
	case "UINT64":
		return 8, func(b []byte) float64 { return float64(le.Uint64(b)) }
	}
	return 0, nil
}
