package format

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
)

// captureLine is a line of an endpoint's Data Capture, in the order in which it writes
// its keys.
type captureLine struct {
	Data     captureData     `json:"captureData"`
	Metadata captureMetadata `json:"eventMetadata"`
	Version  string          `json:"eventVersion"`
}

type captureData struct {
	Input  *captureSide `json:"endpointInput,omitempty"`
	Output *captureSide `json:"endpointOutput,omitempty"`
}

type captureSide struct {
	ContentType string `json:"observedContentType"`
	Mode        string `json:"mode"`
	Data        string `json:"data"`
	Encoding    string `json:"encoding"`
}

type captureMetadata struct {
	ID          string   `json:"eventId"`
	InferenceID string   `json:"inferenceId,omitempty"`
	Custom      []string `json:"customAttributes,omitempty"`
	Time        string   `json:"inferenceTime"`
}

const captureTime = "2006-01-02T15:04:05Z"

// MaxFlat is how many columns a row may have as text; wider ones, pictures as a rule, are
// bytes.
const MaxFlat = 4096

// endpoint is a line for each row: what reads it takes a line for one observation.
func (o *Options) endpoint(b *Batch) ([]Object, error) {
	var lines []byte
	for i := range b.Records {
		r := &b.Records[i]
		inputs, outputs := flat(r.Inputs), flat(r.Outputs)
		n := 1
		if len(r.Inputs) > 0 && inputs != nil {
			n = inputs[0].rows()
			if len(r.Outputs) > 0 && (outputs == nil || outputs[0].rows() != n) {
				n = 1 // what belongs together cannot be told
			}
		} else if len(r.Inputs) == 0 && outputs != nil {
			n = outputs[0].rows()
		}
		if n == 0 {
			n = 1 // a request without rows was one all the same
		}
		for row := range n {
			line := captureLine{Version: "0", Metadata: captureMetadata{
				ID: r.ID, InferenceID: r.InferenceID, Time: r.Time.UTC().Format(captureTime),
				Custom: []string{"device=" + o.Device, "modelVersion=" + r.Version},
			}}
			if n > 1 {
				suffix := "-" + strconv.Itoa(row)
				line.Metadata.ID += suffix
				if r.InferenceID != "" {
					line.Metadata.InferenceID += suffix
				}
			}
			line.Data.Input = o.side("INPUT", r.Inputs, inputs, row, n)
			line.Data.Output = o.side("OUTPUT", r.Outputs, outputs, row, n)
			encoded, err := json.Marshal(line)
			if err != nil {
				return nil, fmt.Errorf("writing a Data Capture record: %w", err)
			}
			if lines == nil { // those that follow are about as long, as a rule
				const most = 10 << 20
				lines = make([]byte, 0, min((len(encoded)+len(encoded)/16+1)*n*len(b.Records), most))
			}
			lines = append(append(lines, encoded...), '\n')
		}
	}
	variant := o.Variant
	if variant == "" {
		variant = "AllTraffic"
	}
	return []Object{o.object(b, o.folder(b, b.Model, variant), ".jsonl", jsonLines, lines)}, nil
}

// side is the inputs or the outputs of a row; nil where there are none.
func (o *Options) side(mode string, all []Tensor, table []flatTensor, row, n int) *captureSide {
	if len(all) == 0 {
		return nil
	}
	s := &captureSide{Mode: mode}
	switch {
	case table == nil || n == 1 && table[0].rows() != 1:
		s.ContentType, s.Encoding = tensorsType, "BASE64"
		s.Data = base64.StdEncoding.EncodeToString(asDocument(all))
	case o.JSON:
		s.ContentType, s.Encoding = "application/json", "JSON"
		s.Data = string(appendObject(make([]byte, 0, 32*columnsOf(table)), table, row))
	default:
		s.ContentType, s.Encoding = "text/csv", "CSV"
		s.Data = string(appendRow(make([]byte, 0, 16*columnsOf(table)), table, row))
	}
	return s
}

// flatTensor is a tensor seen as rows and columns, those of more dimensions too.
type flatTensor struct {
	*Tensor
	rowCount, columns int
}

func (f flatTensor) rows() int { return f.rowCount }

// columnsOf is how many columns a table has.
func columnsOf(table []flatTensor) (n int) {
	for i := range table {
		n += table[i].columns
	}
	return n
}

// flat is the tensors as one table, side by side; nil where that cannot be, as they have
// different numbers of rows, are opaque, or too wide for text.
func flat(all []Tensor) []flatTensor {
	var table []flatTensor
	width := 0
	for i := range all {
		f := flatTensor{Tensor: &all[i]}
		var ok bool
		if f.rowCount, f.columns, ok = all[i].Table(); !ok {
			if all[i].Opaque {
				return nil
			}
			f.rowCount, f.columns = 1, 1
			for d, n := range all[i].Shape {
				if d == 0 {
					f.rowCount = int(n)
				} else {
					f.columns *= int(n)
				}
			}
		}
		if width += f.columns; width > MaxFlat || len(table) > 0 && f.rowCount != table[0].rowCount {
			return nil
		}
		table = append(table, f)
	}
	return table
}

// appendRow is a line of CSV without its end.
func appendRow(dst []byte, table []flatTensor, row int) []byte {
	first := true
	for _, t := range table {
		for c := range t.columns {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			if t.Columns != nil && t.Columns[c].Text != nil {
				dst = append(dst, t.Columns[c].Text[row]...) // hexadecimal digits, or nothing
				continue
			}
			dst = appendCSV(dst, t.Element(row*t.columns+c), t.DType)
		}
	}
	return dst
}

// appendRows is all rows as CSV, each with its end.
func appendRows(dst []byte, all []Tensor) []byte {
	table := flat(all)
	if table == nil {
		return dst
	}
	for row := range table[0].rowCount {
		dst = append(appendRow(dst, table, row), '\n')
	}
	return dst
}

// appendObject is a flat object of JSON, with the columns in their order.
func appendObject(dst []byte, table []flatTensor, row int) []byte {
	dst = append(dst, '{')
	first := true
	for _, t := range table {
		for c := range t.columns {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendQuoted(dst, t.columnName(c))
			dst = append(dst, ':')
			switch {
			case t.Columns == nil || t.Columns[c].Text == nil:
				dst = appendJSON(dst, t.Element(row*t.columns+c), t.DType)
			case t.Columns[c].Text[row] == "":
				dst = append(dst, "null"...)
			default:
				dst = appendQuoted(dst, t.Columns[c].Text[row])
			}
		}
	}
	return append(dst, '}')
}

func (f flatTensor) columnName(c int) string {
	if f.Columns != nil {
		return f.Columns[c].Name
	}
	if f.columns == 1 {
		return f.Name
	}
	return f.Name + "_" + strconv.Itoa(c)
}

func appendQuoted(dst []byte, text string) []byte {
	quoted, err := json.Marshal(text)
	if err != nil {
		panic("BUG: " + err.Error()) // a string always has a form
	}
	return append(dst, quoted...)
}

// tensorsType is the content type of asDocument.
const tensorsType = "application/vnd.picket.tensors+json"

// asDocument is tensors that make no table: a list with name, type, shape and bytes.
func asDocument(all []Tensor) []byte {
	type document struct {
		Name  string  `json:"name"`
		DType string  `json:"datatype"`
		Shape []int64 `json:"shape"`
		Data  []byte  `json:"data,omitempty"` // base64
		CSV   string  `json:"csv,omitempty"`
	}
	list := make([]document, len(all))
	for i := range all {
		t := &all[i]
		list[i] = document{Name: t.Name, DType: t.DType.String(), Shape: append([]int64{}, t.Shape...), Data: t.Data}
		if !t.Numbers() {
			list[i].Data, list[i].CSV = nil, string(appendRows(nil, all[i:i+1]))
		}
	}
	encoded, err := json.Marshal(list)
	if err != nil {
		panic("BUG: " + err.Error()) // strings, numbers and bytes always have a form
	}
	return encoded
}

// truthLine is an outcome, as Model Monitor merges it with what was captured.
type truthLine struct {
	Data struct {
		Data     string `json:"data"`
		Encoding string `json:"encoding"`
	} `json:"groundTruthData"`
	Metadata struct {
		ID string `json:"eventId"`
	} `json:"eventMetadata"`
	Version string `json:"eventVersion"`
}

// truth is a line for each outcome, in a tree of its own.
func (o *Options) truth(b *Batch) []Object {
	var lines []byte
	for i := range b.Records {
		r := &b.Records[i]
		line := truthLine{Version: "0"}
		line.Data.Data, line.Data.Encoding = r.Truth.Data, r.Truth.Encoding
		line.Metadata.ID = r.ID
		encoded, err := json.Marshal(line)
		if err != nil {
			panic("BUG: " + err.Error()) // strings always have a form
		}
		lines = append(append(lines, encoded...), '\n')
	}
	return []Object{o.object(b, o.folder(b, "ground-truth", b.Model), ".jsonl", jsonLines, lines)}
}
