package oip

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// extremes are four elements of a type, its smallest and largest among them where
// the type has them.
func extremes(t *testing.T, d tensor.DType) (data []byte, contents *oipapi.InferTensorContents) {
	t.Helper()
	text := map[tensor.DType]string{
		tensor.Bool:  "true false true true",
		tensor.Uint8: "0 1 2 255", tensor.Uint16: "0 1 2 65535", tensor.Uint32: "0 1 2 4294967295", tensor.Uint64: "0 1 2 18446744073709551615",
		tensor.Int8: "-128 -1 0 127", tensor.Int16: "-32768 -1 0 32767", tensor.Int32: "-2147483648 -1 0 2147483647",
		tensor.Int64: "-9223372036854775808 -1 9007199254740993 9223372036854775807",
		tensor.FP16:  "0 -1.5 65504 0.1", tensor.BF16: "0 -1.5 1e38 0.1",
		tensor.FP32: "0.1 -1e-45 3.4028235e38 16777217", tensor.FP64: "0.1 5e-324 1.7976931348623157e308 0.30000000000000004",
	}[d]
	contents = &oipapi.InferTensorContents{}
	for field := range strings.FieldsSeq(text) {
		var err error
		if data, err = rows.AppendNumber(data, d, field); err != nil {
			t.Fatal(err)
		}
		signed, _ := strconv.ParseInt(field, 10, 64)
		unsigned, _ := strconv.ParseUint(field, 10, 64)
		switch d {
		case tensor.Bool:
			contents.BoolContents = append(contents.BoolContents, field == "true")
		case tensor.Uint8, tensor.Uint16, tensor.Uint32:
			contents.UintContents = append(contents.UintContents, uint32(unsigned))
		case tensor.Uint64:
			contents.Uint64Contents = append(contents.Uint64Contents, unsigned)
		case tensor.Int8, tensor.Int16, tensor.Int32:
			contents.IntContents = append(contents.IntContents, int32(signed))
		case tensor.Int64:
			contents.Int64Contents = append(contents.Int64Contents, signed)
		case tensor.FP32:
			contents.Fp32Contents = append(contents.Fp32Contents, math.Float32frombits(binary.LittleEndian.Uint32(data[len(data)-4:])))
		case tensor.FP64:
			contents.Fp64Contents = append(contents.Fp64Contents, math.Float64frombits(binary.LittleEndian.Uint64(data[len(data)-8:])))
		default:
			contents = nil
		}
		if contents == nil {
			contents = &oipapi.InferTensorContents{}
		}
	}
	return data, contents
}

// Every type goes in and out in every form, bit for bit.
func TestEveryTypeInEveryForm(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	for _, d := range types {
		model := "all-" + d.String()
		data, contents := extremes(t, d)
		out, err := f.ModelInfer(t.Context(), request(model, "x", d.String(), []int64{2, 2}, data))
		if err != nil || !bytes.Equal(out.GetRawOutputContents()[0], data) {
			t.Errorf("%v raw: %v, %v, want %x", d, out, err, data)
		}
		if d != tensor.FP16 && d != tensor.BF16 {
			in := request(model, "x", d.String(), []int64{2, 2}, nil)
			in.RawInputContents, in.Inputs[0].Contents = nil, contents
			if out, err := f.ModelInfer(t.Context(), in); err != nil || !bytes.Equal(out.GetRawOutputContents()[0], data) {
				t.Errorf("%v typed: %v, %v, want %x", d, out, err, data)
			}
		}
		numbers, err := rows.Append(nil, data, d, rows.JSON)
		if err != nil {
			t.Fatal(err)
		}
		list := strings.Split(string(numbers), ",")
		nested := fmt.Sprintf("[[%s,%s],[ %s , %s ]]", list[0], list[1], list[2], list[3])
		for _, text := range []string{"[" + string(numbers) + "]", nested} {
			head := fmt.Sprintf(`{"inputs":[{"data":%s,"name":"x","datatype":"%v","shape":[2,2]}]`, text, d)
			a := f.do(t, "POST", "/v2/models/"+model+"/infer", head+`}`)
			if want := `"data":[` + string(numbers) + `]`; a.status != 200 || !strings.Contains(a.body, want) {
				t.Errorf("%v JSON: %d %s, want %s", d, a.status, a.body, want)
			}
			a = f.do(t, "POST", "/v2/models/"+model+"/infer", head+`,"parameters":{"binary_data_output":true}}`)
			checkBinary(t, d, a, data)
		}
		head := fmt.Sprintf(`{"inputs":[{"name":"x","datatype":"%v","shape":[2,2],"parameters":{"binary_data_size":%d}}],"outputs":[{"name":"x-out","parameters":{"binary_data":true}}]}`, d, len(data))
		a := f.do(t, "POST", "/v2/models/"+model+"/versions/7/infer", head+string(data), headerLength, strconv.Itoa(len(head)))
		checkBinary(t, d, a, data)
		a = f.do(t, "POST", "/v2/models/"+model+"/infer", string(data), headerLength, "0")
		checkBinary(t, d, a, data)
	}
}

// checkBinary wants an answer whose only tensor is data behind the JSON.
func checkBinary(t *testing.T, d tensor.DType, a answerOf, data []byte) {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get(headerLength))
	if err != nil || a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v: %d %v %q", d, a.status, a.header, a.body)
		return
	}
	var head struct {
		Outputs []struct {
			Shape      []int
			Parameters map[string]int
			Data       []any
		}
	}
	if err := json.Unmarshal([]byte(a.body[:n]), &head); err != nil {
		t.Fatal(err)
	}
	if o := head.Outputs[0]; o.Parameters["binary_data_size"] != len(data) || o.Data != nil || !slices.Equal(o.Shape, []int{2, 2}) || a.body[n:] != string(data) {
		t.Errorf("%v: %q, want %x behind the JSON", d, a.body, data)
	}
}

func TestTwoInputsInAnyOrder(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	a, b := pattern(24), pattern(32)
	in := request("pair", "b", "INT64", []int64{2, 2}, b)
	in.Inputs = append(in.Inputs, &oipapi.ModelInferRequest_InferInputTensor{Name: "a", Datatype: "FP32", Shape: []int64{2, 3}})
	in.RawInputContents = append(in.RawInputContents, a)
	in.Id = "x"
	out, err := f.ModelInfer(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	want := &oipapi.ModelInferResponse{
		ModelName: "pair", ModelVersion: "7", Id: "x", RawOutputContents: [][]byte{a, b},
		Outputs: []*oipapi.ModelInferResponse_InferOutputTensor{
			{Name: "a-out", Datatype: "FP32", Shape: []int64{2, 3}}, {Name: "b-out", Datatype: "INT64", Shape: []int64{2, 2}},
		},
	}
	if !proto.Equal(out, want) {
		t.Errorf("answered %v, want %v", out, want)
	}
	in.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "b-out"}}
	if out, err = f.ModelInfer(t.Context(), in); err != nil || len(out.GetOutputs()) != 1 || !bytes.Equal(out.GetRawOutputContents()[0], b) {
		t.Errorf("one output: %v, %v", out, err)
	}
}

func TestRefusals(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	good := func(change func(*oipapi.ModelInferRequest)) *oipapi.ModelInferRequest {
		in := request("rows", "data", "FP32", []int64{2, 3}, pattern(24))
		change(in)
		return in
	}
	typed := func(contents *oipapi.InferTensorContents) *oipapi.ModelInferRequest {
		return good(func(in *oipapi.ModelInferRequest) { in.RawInputContents, in.Inputs[0].Contents = nil, contents })
	}
	text := func(s string) *oipapi.InferParameter {
		return &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_StringParam{StringParam: s}}
	}
	for says, c := range map[string]struct {
		code codes.Code
		in   *oipapi.ModelInferRequest
	}{
		`no model is loaded as "nobody"`:    {codes.NotFound, good(func(in *oipapi.ModelInferRequest) { in.ModelName = "nobody" })},
		`under a name of more than 255`:     {codes.NotFound, good(func(in *oipapi.ModelInferRequest) { in.ModelName = strings.Repeat("x", 300) })},
		`has no version "8", it has "7"`:    {codes.NotFound, good(func(in *oipapi.ModelInferRequest) { in.ModelVersion = "8" })},
		`has 0 inputs, the model has 1`:     {codes.InvalidArgument, &oipapi.ModelInferRequest{ModelName: "rows"}},
		`has no input "data"`:               {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Name = "other" })},
		`datatype is "FP64"`:                {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Datatype = "FP64" })},
		`datatype is "BYTES"`:               {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Datatype = "BYTES" })},
		`shape has 1 dimension`:             {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape = []int64{6} })},
		`has 9 dimensions`:                  {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape = make([]int64, 9) })},
		`has 4 in dimension 1`:              {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape = []int64{2, 4} })},
		`has 0 rows`:                        {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape = []int64{0, 3} })},
		`has 9223372036854775807 rows`:      {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape[0] = math.MaxInt64 })},
		`datatype make 25769803764`:         {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Shape[0] = math.MaxInt32 })},
		`it has 23 bytes`:                   {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.RawInputContents[0] = pattern(23) })},
		`2 raw_input_contents for 1 inputs`: {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.RawInputContents = append(in.RawInputContents, nil) })},
		`carries no data`:                   {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.RawInputContents = nil })},
		`contents beside raw_input`:         {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) { in.Inputs[0].Contents = &oipapi.InferTensorContents{} })},
		`5 elements, its shape makes 6`:     {codes.InvalidArgument, typed(&oipapi.InferTensorContents{Fp32Contents: make([]float32, 5)})},
		`not in the field of its datatype`:  {codes.InvalidArgument, typed(&oipapi.InferTensorContents{Fp64Contents: make([]float64, 6)})},
		`the model has no output "score"`: {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) {
			in.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "score"}}
		})},
		`asked for twice`: {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) {
			in.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "data-out"}, {Name: "data-out"}}
		})},
		`classification is not supported`: {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) {
			in.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "data-out", Parameters: map[string]*oipapi.InferParameter{"classification": text("2")}}}
		})},
		`timeout must be a whole number`: {codes.InvalidArgument, good(func(in *oipapi.ModelInferRequest) {
			in.Parameters = map[string]*oipapi.InferParameter{"timeout": text("1")}
		})},
		`in shared memory and in the request`: {codes.InvalidArgument, func() *oipapi.ModelInferRequest {
			in := typed(&oipapi.InferTensorContents{})
			in.Inputs[0].Parameters = map[string]*oipapi.InferParameter{"shared_memory_region": text("in")}
			return in
		}()},
	} {
		out, err := f.ModelInfer(t.Context(), c.in)
		if got := status.Convert(err); got.Code() != c.code || !strings.Contains(got.Message(), says) {
			t.Errorf("answered %v, %v; want %v and a sentence with %s", out, err, c.code, says)
		}
	}
	f.checkServing(t)
}

func TestRefusalsOfJSON(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	input := func(data string) string {
		return `{"inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"data":` + data + `}]}`
	}
	for _, c := range []struct {
		body, says string
		header     []string
	}{
		{"", "the body is empty", nil},
		{"[]", `has "[" at byte 0 where an object`, nil},
		{"{", "ends where a string", nil},
		{input("[1,2,3,4,5,6]") + "x", "where the end should be", nil},
		{input("[1,2,3,4,5]"), "5 elements, its shape makes 6", nil},
		{input("[1,2,3,4,5,6,7]"), "more elements than its shape", nil},
		{input("[[1,2,3],[4,5]]"), "2 entries in dimension 1, its shape has 3", nil},
		{input("[[1,2],[3,4],[5,6]]"), "2 entries in dimension 1, its shape has 3", nil},
		{input("[[1,2,3],4,5,6]"), "side by side", nil},
		{input("[1,[2,3],4,5,6]"), "side by side", nil},
		{input("[[[1,2,3]],[[4,5,6]]]"), "nested deeper", nil},
		{input("[1,2,3,4,5,1e39]"), "is too large for FP32", nil},
		{input(`[1,2,3,4,5,"6"]`), "has a string", nil},
		{input("[1,2,3,4,5,true]"), "is no FP32", nil},
		{input("[1,2,3,4,5,01]"), "where a comma", nil},
		{input("1234567890123"), "is not an array", nil},
		{input(strings.Repeat("[", 100)), "nested more than 32 deep", nil},
		{`{"inputs":[{"name":"data","datatype":"FP32","shape":[1000000,3],"data":[1]}]}`, "fewer elements than its shape", nil},
		{`{"inputs":[{"name":"data","datatype":"FP32","shape":[1.5,3],"data":[1]}]}`, "whole number", nil},
		{`{"inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"parameters":{"binary_data_size":24}}]}`, "0 bytes are left", nil},
		{`{"inputs":[]}abc`, "3 bytes follow the JSON", []string{headerLength, "13"}},
		{`{"inputs":[]}`, "the body has 13 bytes", []string{headerLength, "14"}},
		{`{"inputs":[]}`, "the body has 13 bytes", []string{headerLength, "-1"}},
		{"1234567", "takes a multiple of 12", []string{headerLength, "0"}},
		{"{\"id\":\"\xff\"}", "not valid UTF-8", nil},
	} {
		a := f.do(t, "POST", "/v2/models/rows/infer", c.body, c.header...)
		var told struct{ Error string }
		if err := json.Unmarshal([]byte(a.body), &told); err != nil || a.status != 400 || !strings.Contains(told.Error, c.says) {
			t.Errorf("%.100q: %d %s; want a sentence with %s", c.body, a.status, a.body, c.says)
		}
	}
	a := f.do(t, "POST", "/v2/models/all-INT64/infer", `{"inputs":[{"name":"x","datatype":"INT64","shape":[1,2],"data":[1,null]}]}`)
	if a.status != 400 || !strings.Contains(a.body, "INT64 has no room") {
		t.Errorf("null as INT64: %d %s", a.status, a.body)
	}
	f.checkServing(t)
}

// What JSON has no word for comes back as null.
func TestMissingValues(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	a := f.do(t, "POST", "/v2/models/rows/infer", `{"inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"data":[null,NaN,Infinity,-Infinity,0.1,-0]}]}`)
	if a.status != 200 || !strings.Contains(a.body, `"data":[null,null,null,null,0.1,-0]`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestStream(t *testing.T) {
	f := start(t, Options{}, standard(), engine.ModelOptions{})
	stream, err := f.ModelStreamInfer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const calls = 50
	for i := range calls {
		in := request("rows", "data", "FP32", []int64{1, 3}, bytes.Repeat([]byte{byte(i)}, 12))
		in.Id = strconv.Itoa(i)
		if i%7 == 3 {
			in.ModelName = "nobody"
		}
		if err := stream.Send(in); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range calls {
		out, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if out.GetInferResponse().GetId() != strconv.Itoa(i) {
			t.Fatalf("answer %d is %v", i, out)
		}
		if failed := out.GetErrorMessage() != ""; failed != (i%7 == 3) {
			t.Errorf("answer %d is %v", i, out)
		} else if !failed && out.GetInferResponse().GetRawOutputContents()[0][0] != byte(i) {
			t.Errorf("answer %d is %v", i, out)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
}
