package format

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/tensor"
)

func floats(values ...float64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

var (
	nan  = math.NaN()
	noon = time.Date(2023, 5, 31, 20, 5, 24, 987654321, time.FixedZone("", 3600))
)

// aBatch has what a batch can have: several rows, missing values, infinities, a hashed column, a picture, outputs of a
// failed request missing, auxiliary data.
func aBatch() *Batch {
	return &Batch{Spool: "00000000000000aa", Segment: 7, Model: "fraud", Records: []Record{
		{
			Number: 41, ID: "event-1", InferenceID: "caller-1", Model: "fraud", Version: "1.0", Time: noon,
			Inputs: []Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{1, 3}, Data: floats(1.5, nan, math.Inf(1)),
				Columns: []Column{{Name: "amount"}, {Name: "age"}, {Name: "limit"}}}},
			Outputs: []Tensor{{Name: "score", DType: tensor.FP64, Shape: []int64{1, 1}, Data: binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1))}},
		},
		{
			Number: 42, ID: "event-2", Model: "fraud", Version: "1.0", Time: noon.Add(time.Minute),
			Inputs: []Tensor{{Name: "data", DType: tensor.FP32, Shape: []int64{2, 3}, Data: floats(1, 2, 0, 3, 4, 0),
				Columns: []Column{{Name: "amount"}, {Name: "age"}, {Name: "card", Text: []string{"0badcafe", ""}}}}},
			Outputs: []Tensor{{Name: "score", DType: tensor.FP64, Shape: []int64{2, 1}, Data: make([]byte, 16)}},
		},
		{
			Number: 43, ID: "event-3", Model: "fraud", Version: "1.0", Time: noon.Add(2 * time.Minute),
			Inputs:           []Tensor{{Name: "picture", DType: tensor.Uint8, Shape: []int64{1, 2, 2, 1}, Data: []byte{1, 2, 3, 255}}},
			AuxiliaryInputs:  []Auxiliary{{Name: "Input-1", Data: []byte("\xff\xd8"), Encoding: "NONE", ContentType: "jpg"}},
			AuxiliaryOutputs: []Auxiliary{{Name: "Output-1", Data: []byte(`{"a":"ü<&>"}`), Encoding: "JSON", ContentType: "json"}},
		},
		{
			Number: 44, ID: "event-4", Model: "fraud", Version: "1.0", Time: noon.Add(3 * time.Minute),
			Inputs: []Tensor{{Name: "odd", DType: tensor.FP32, Shape: []int64{5}, Data: []byte{1, 2, 3}, Opaque: true}},
		},
	}}
}

var update = flag.Bool("update", false, "write what is encoded as what is expected")

// golden holds the objects against the files of a folder. Readers elsewhere depend on every byte.
func golden(t *testing.T, name string, o Options, b *Batch) []Object {
	t.Helper()
	o.Ref = func(key string) string { return "s3://bucket/" + key }
	objects, err := Encode(o, b)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, object := range objects {
		all.WriteString(object.Key + " " + object.ContentType + "\n")
		all.Write(object.Content)
		all.WriteString("\n")
	}
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, all.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all.Bytes(), want) {
		t.Errorf("%s is\n%s\nwant\n%s", name, all.Bytes(), want)
	}
	again, err := Encode(o, b)
	if err != nil || len(again) != len(objects) {
		t.Fatal(err)
	}
	for i := range again {
		if again[i].Key != objects[i].Key || !bytes.Equal(again[i].Content, objects[i].Content) {
			t.Errorf("%s is another object the second time", objects[i].Key)
		}
	}
	return objects
}

// What readers of the Edge Manager agent's records demand of them.
func TestEdge(t *testing.T) {
	objects := golden(t, "edge.txt", Options{Kind: Edge, Prefix: "prefix", Fleet: "fleet", Device: "device-1", Embed: MaxEmbed}, aBatch())
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	key := regexp.MustCompile(`^prefix/fleet/fraud/2023/05/31/19/[0-9a-f]{32}\.jsonl$`)
	if !key.MatchString(objects[0].Key) {
		t.Errorf("the key is %s", objects[0].Key)
	}
	lines := strings.Split(strings.TrimSuffix(string(objects[0].Content), "\n"), "\n")
	type data struct {
		Name                string
		Data                string
		Encoding, Mode      string
		ObservedContentType string
	}
	var records []struct {
		DeviceFleetInputs, DeviceFleetOutputs                   []data
		DeviceFleetAuxiliaryInputs, DeviceFleetAuxiliaryOutputs *[]data
		EventMetadata                                           struct{ DeviceID, EventID, InferenceTime, DeviceFleetName, ModelName, ModelVersion string }
		EventVersion                                            string
	}
	if err := json.Unmarshal([]byte("["+strings.Join(lines, ",")+"]"), &records); err != nil {
		t.Fatal(err)
	}
	if len(records) != 4 {
		t.Fatalf("%d records", len(records))
	}
	r := records[0]
	raw, err := base64.StdEncoding.DecodeString(r.DeviceFleetInputs[0].Data)
	if err != nil || !bytes.Equal(raw, floats(1.5, nan, math.Inf(1))) {
		t.Errorf("the first input is %x (%v)", raw, err)
	}
	if r.DeviceFleetInputs[0].ObservedContentType != "Tensor[FLOAT32; 1, 3]" || r.EventMetadata.InferenceTime != "2023-05-31T19:05:24" || r.EventMetadata.DeviceID != "device-1" || r.EventVersion != "0" {
		t.Errorf("%+v", r)
	}
	fourD := regexp.MustCompile(`Tensor\[(\w+); (\d+), (\d+), (\d+), (\d+)\]`)
	if m := fourD.FindStringSubmatch(records[2].DeviceFleetInputs[0].ObservedContentType); m == nil || m[1] != "UINT8" || m[3] != "2" {
		t.Errorf("a tensor of 4 dimensions is %q", records[2].DeviceFleetInputs[0].ObservedContentType)
	}
	for i, r := range records {
		if r.DeviceFleetInputs == nil || r.DeviceFleetOutputs == nil || r.DeviceFleetAuxiliaryInputs == nil || r.DeviceFleetAuxiliaryOutputs == nil {
			t.Errorf("record %d lacks one of the four lists", i)
		}
	}
}

// Payloads above the limit are objects of their own, which come first, and the record names them.
func TestEdgePayloads(t *testing.T) {
	objects := golden(t, "edge-payloads.txt", Options{Kind: Edge, Fleet: "fleet", Device: "device-1", Embed: 2}, aBatch())
	last := objects[len(objects)-1]
	if last.Payload || len(objects) != 8 {
		t.Fatalf("%d objects, the last is a payload: %v", len(objects), last.Payload)
	}
	for _, o := range objects[:len(objects)-1] {
		if !o.Payload || !strings.Contains(o.Key, "/raw-data/") || !bytes.Contains(last.Content, []byte(`"data-ref":"s3://bucket/`+o.Key+`"`)) {
			t.Errorf("the payload %s is not what the record names", o.Key)
		}
	}
}

func TestEndpoint(t *testing.T) {
	objects := golden(t, "endpoint.txt", Options{Kind: Endpoint, Prefix: "p", Device: "device-1"}, aBatch())
	if !strings.HasPrefix(objects[0].Key, "p/fraud/AllTraffic/2023/05/31/19/") {
		t.Errorf("the key is %s", objects[0].Key)
	}
	golden(t, "endpoint-json.txt", Options{Kind: Endpoint, Device: "device-1", JSON: true, Variant: "blue"}, aBatch())
}

func TestTruth(t *testing.T) {
	b := &Batch{Segment: 1, Model: "fraud", Truth: true, Records: []Record{
		{Number: 1, ID: "event-1", Model: "fraud", Time: noon, Truth: &Truth{Data: "1", Encoding: "CSV"}},
		{Number: 2, ID: "event-2", Model: "fraud", Time: noon, Truth: &Truth{Data: `{"fraud":true}`, Encoding: "JSON"}},
	}}
	golden(t, "truth.txt", Options{Kind: Endpoint, Prefix: "p"}, b)
	objects, err := Encode(Options{Kind: Parquet}, b)
	if err != nil {
		t.Fatal(err)
	}
	rows := readParquet(t, objects[0].Content)
	if len(rows) != 2 || rows[1]["ground_truth"] != `{"fraud":true}` || rows[0]["event_id"] != "event-1" {
		t.Errorf("%v", rows)
	}
}

func readParquet(t *testing.T, content []byte) []map[string]any {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]any
	for _, group := range f.RowGroups() {
		reader := group.Rows()
		defer reader.Close()
		buffer := make([]parquet.Row, 16)
		for {
			n, err := reader.ReadRows(buffer)
			for _, row := range buffer[:n] {
				m := map[string]any{}
				for _, v := range row {
					name := f.Schema().Columns()[v.Column()][0]
					switch {
					case v.IsNull():
						m[name] = nil
					case v.Kind() == parquet.ByteArray:
						m[name] = string(v.ByteArray())
					case v.Kind() == parquet.Float:
						m[name] = v.Float()
					case v.Kind() == parquet.Double:
						m[name] = v.Double()
					case v.Kind() == parquet.Int64:
						m[name] = v.Int64()
					case v.Kind() == parquet.Int32:
						m[name] = v.Int32()
					}
				}
				rows = append(rows, m)
			}
			if err != nil {
				break
			}
		}
	}
	return rows
}

func TestParquet(t *testing.T) {
	all := aBatch()
	var rows []map[string]any
	for i := range all.Records {
		b := *all
		b.Records = all.Records[i : i+1]
		if i > 0 && SameObject(Parquet, &all.Records[i-1], &all.Records[i]) {
			t.Errorf("records %d and %d are of one layout", i-1, i)
		}
		objects, err := Encode(Options{Kind: Parquet, Fleet: "fleet", Device: "device-1"}, &b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Encode(Options{Kind: Parquet, Fleet: "fleet", Device: "device-1"}, &b)
		if err != nil || again[0].Key != objects[0].Key || !bytes.Equal(again[0].Content, objects[0].Content) {
			t.Errorf("record %d is another object the second time (%v)", i, err)
		}
		rows = append(rows, readParquet(t, objects[0].Content)...)
	}
	if len(rows) != 5 {
		t.Fatalf("%d rows", len(rows))
	}
	first := rows[0]
	if first["in.amount"] != float32(1.5) || first["in.age"] != nil || first["in.limit"] != float32(math.Inf(1)) || first["out.score"] != 0.1 ||
		first["time"] != noon.UnixMicro() || first["record"] != int64(41) || first["inference_id"] != "caller-1" {
		t.Errorf("%v", first)
	}
	if rows[1]["in.card"] != "0badcafe" || rows[2]["in.card"] != nil || rows[2]["row"] != int32(1) || rows[2]["in.age"] != float32(4) {
		t.Errorf("%v", rows[1:3])
	}
	if rows[3]["in.picture"] != "\x01\x02\x03\xff" || rows[3]["in.picture.type"] != "Tensor[UINT8; 1, 2, 2, 1]" {
		t.Errorf("%v", rows[3])
	}
}

// The columns of a file are in the order of the model's, and not of the alphabet.
func TestParquetOrder(t *testing.T) {
	record := Record{ID: "a", Inputs: []Tensor{{Name: "x", DType: tensor.Int64, Shape: []int64{1, 12}, Data: make([]byte, 96)}}}
	objects, err := Encode(Options{Kind: Parquet}, &Batch{Records: []Record{record}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(objects[0].Content), int64(len(objects[0].Content)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range f.Schema().Columns()[len(metaColumns):] {
		names = append(names, c[0])
	}
	const want = "in.x_0 in.x_1 in.x_2 in.x_3 in.x_4 in.x_5 in.x_6 in.x_7 in.x_8 in.x_9 in.x_10 in.x_11"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("the columns are %s", got)
	}
}

// Every element type, with values at its ends, in every format.
func TestElementTypes(t *testing.T) {
	for d := tensor.Bool; d < tensor.Bytes; d++ {
		data := bytes.Repeat([]byte{0xff}, d.Size())
		if d == tensor.Bool {
			data[0] = 1
		}
		data = append(data, make([]byte, d.Size())...)
		r := Record{ID: "a", Model: "m", Inputs: []Tensor{{Name: "x", DType: d, Shape: []int64{1, 2}, Data: data}}}
		if err := r.Inputs[0].Check(); err != nil {
			t.Fatal(err)
		}
		for _, o := range []Options{{Kind: Edge, Embed: MaxEmbed}, {Kind: Endpoint}, {Kind: Endpoint, JSON: true}, {Kind: Parquet}} {
			if _, err := Encode(o, &Batch{Model: "m", Records: []Record{r}}); err != nil {
				t.Errorf("%v as %s: %v", d, o.Kind, err)
			}
		}
	}
}

func TestElementOfKey(t *testing.T) {
	for name, want := range map[string]string{"": "_", ".": "_", "..": "_", "a/b": "a_b", "a\x00b\n": "a_b_", "ü": "ü", "a..b": "a..b", "\\": "_"} {
		if got := Element(name); got != want {
			t.Errorf("%q is %q in a key, want %q", name, got, want)
		}
	}
	if got := Element(strings.Repeat("ü", 300)); len(got) > 255 || !strings.HasPrefix(got, "ü") {
		t.Errorf("a long name has %d bytes", len(got))
	}
}

// What a client may capture, whatever it is, gives objects that their readers can take apart.
func FuzzEncode(f *testing.F) {
	f.Add("m", "data", uint8(tensor.FP32), int64(1), int64(2), floats(1, nan), "CSV")
	f.Add("../x", "\xff", uint8(tensor.Bytes), int64(-1), int64(1<<40), []byte{}, "NONE")
	f.Fuzz(func(t *testing.T, model, name string, dtype uint8, a, b int64, data []byte, encoding string) {
		x := Tensor{Name: name, DType: tensor.DType(dtype % uint8(tensor.Bytes+1)), Shape: []int64{a, b}, Data: data}
		x.Opaque = x.Check() != nil
		r := Record{ID: name, Model: model, Inputs: []Tensor{x}, AuxiliaryOutputs: []Auxiliary{{Name: name, Data: data, Encoding: encoding}}}
		for _, kind := range []Kind{Edge, Endpoint, Parquet} {
			objects, err := Encode(Options{Kind: kind, Embed: 16, Ref: func(key string) string { return key }}, &Batch{Model: model, Records: []Record{r}})
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objects {
				if strings.Contains(o.Key, "..") && strings.Contains(o.Key+"/", "../") || strings.HasPrefix(o.Key, "/") {
					t.Errorf("the key %q leads out", o.Key)
				}
			}
			last := objects[len(objects)-1].Content
			if kind == Parquet {
				readParquet(t, last)
				continue
			}
			for line := range bytes.Lines(last) {
				if !json.Valid(line) {
					t.Errorf("%s: %q is no JSON", kind, line)
				}
			}
		}
	})
}
