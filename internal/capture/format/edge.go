package format

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/picket-ml/picket/tensor"
)

// MaxEmbed is the largest payload that the Edge Manager agent wrote into a record, and
// what Embed is by default.
const MaxEmbed = 3072

// edgeRecord is a line, in the order in which the agent wrote its keys.
type edgeRecord struct {
	Inputs           []edgeData   `json:"deviceFleetInputs"`
	Outputs          []edgeData   `json:"deviceFleetOutputs"`
	AuxiliaryInputs  []edgeData   `json:"deviceFleetAuxiliaryInputs"`
	AuxiliaryOutputs []edgeData   `json:"deviceFleetAuxiliaryOutputs"`
	Metadata         edgeMetadata `json:"eventMetadata"`
	Version          string       `json:"eventVersion"`
}

type edgeData struct {
	Name string `json:"name"`
	// One of the two is there: an empty payload is embedded.
	Data        *string `json:"data,omitempty"`
	Ref         string  `json:"data-ref,omitempty"`
	Encoding    string  `json:"encoding"`
	Mode        string  `json:"mode"`
	ContentType string  `json:"observedContentType"`
}

type edgeMetadata struct {
	Fleet   string `json:"deviceFleetName"`
	Device  string `json:"deviceId"`
	ID      string `json:"eventId"`
	Time    string `json:"inferenceTime"` // seconds, and no zone: UTC
	Model   string `json:"modelName"`
	Version string `json:"modelVersion"`
}

const edgeTime = "2006-01-02T15:04:05"

// edge is a line of JSON for each record, and payloads above the limit beside them.
func (o *Options) edge(b *Batch) ([]Object, error) {
	folder := o.folder(b, o.Fleet, b.Model)
	var objects []Object
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	encoder.SetEscapeHTML(false)
	for i := range b.Records {
		r := &b.Records[i]
		e := &edgeEncoder{options: o, batch: b, folder: folder, record: r}
		line := edgeRecord{
			Inputs:           e.tensors("input-tensors", "Input", r.Inputs),
			Outputs:          e.tensors("output-tensors", "Output", r.Outputs),
			AuxiliaryInputs:  e.auxiliary("input-auxiliary-data", "Input", r.AuxiliaryInputs),
			AuxiliaryOutputs: e.auxiliary("output-auxiliary-data", "Output", r.AuxiliaryOutputs),
			Metadata: edgeMetadata{
				Fleet: o.Fleet, Device: o.Device, ID: r.ID, Time: r.Time.UTC().Format(edgeTime), Model: r.Model, Version: r.Version,
			},
			Version: "0",
		}
		if err := encoder.Encode(line); err != nil {
			return nil, fmt.Errorf("writing an Edge Manager record: %w", err)
		}
		objects = append(objects, e.objects...)
	}
	return append(objects, o.object(b, folder, ".jsonl", jsonLines, lines.Bytes())), nil
}

// edgeEncoder writes one record.
type edgeEncoder struct {
	options *Options
	batch   *Batch
	folder  string
	record  *Record
	objects []Object
}

func (e *edgeEncoder) tensors(where, mode string, all []Tensor) []edgeData {
	list := []edgeData{} // never null
	for i := range all {
		t := &all[i]
		content, kind := t.Data, edgeType(t)
		if !t.Numbers() {
			// Words and numbers have no element type in common.
			content, kind = appendRows(nil, all[i:i+1]), "text/csv"
		}
		list = append(list, e.data(t.Name, where, mode, i, "BASE64", kind, content))
	}
	return list
}

func (e *edgeEncoder) auxiliary(where, mode string, all []Auxiliary) []edgeData {
	list := []edgeData{}
	for i := range all {
		a := &all[i]
		list = append(list, e.data(a.Name, where, mode, i, a.Encoding, a.ContentType, a.Data))
	}
	return list
}

// data is one payload, in the record or beside it.
func (e *edgeEncoder) data(name, where, mode string, index int, encoding, kind string, content []byte) edgeData {
	d := edgeData{Name: name, Encoding: encoding, Mode: mode, ContentType: kind}
	limit := e.options.Embed
	text := encoding == "CSV" || encoding == "JSON"
	if len(content) <= limit && (!text || utf8.Valid(content)) {
		value := string(content)
		if !text {
			// The agent's NONE means bytes as they are, which JSON has no form for.
			d.Encoding, value = "BASE64", base64.StdEncoding.EncodeToString(content)
		}
		d.Data = &value
		return d
	}
	d.Encoding = "NONE"
	id := e.options.idOf(e.batch, e.record.Number, where+" "+strconv.Itoa(index), content)
	key := path.Join(e.folder, "raw-data", where, id)
	d.Ref = e.options.Ref(key)
	e.objects = append(e.objects, Object{Key: key, Content: content, Payload: true, Packed: true, ContentType: "application/octet-stream"})
	return d
}

// edgeNames are the agent's words for element types, where they are not ours.
var edgeNames = map[tensor.DType]string{tensor.FP16: "FLOAT16", tensor.FP32: "FLOAT32", tensor.FP64: "FLOAT64", tensor.BF16: "BFLOAT16"}

// edgeType is such as "Tensor[FLOAT32; 1, 6, 10, 10]". Readers take it apart by a pattern.
func edgeType(t *Tensor) string {
	name := edgeNames[t.DType]
	if name == "" {
		name = t.DType.String()
	}
	var b strings.Builder
	b.WriteString("Tensor[" + name + ";")
	for i, d := range t.Shape {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(strconv.FormatInt(d, 10))
	}
	b.WriteByte(']')
	return b.String()
}
