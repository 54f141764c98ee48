package oip

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/tensor"
)

// seeds are messages that use what the decoder knows.
func seeds() []*oipapi.ModelInferRequest {
	truth := &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_BoolParam{BoolParam: true}}
	whole := &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_Int64Param{Int64Param: 5_000_000}}
	region := &oipapi.InferParameter{ParameterChoice: &oipapi.InferParameter_StringParam{StringParam: "in"}}
	typed := request("pair", "a", "FP32", []int64{1, 3}, nil)
	typed.RawInputContents = nil
	typed.Inputs[0].Contents = &oipapi.InferTensorContents{Fp32Contents: []float32{1, 2, 3}}
	typed.Inputs = append(typed.Inputs, &oipapi.ModelInferRequest_InferInputTensor{
		Name: "b", Datatype: "INT64", Shape: []int64{1, 2}, Contents: &oipapi.InferTensorContents{Int64Contents: []int64{-1, 1 << 40}},
	})
	shared := request("rows", "data", "FP32", []int64{2, 3}, nil)
	shared.RawInputContents = nil
	shared.Inputs[0].Parameters = map[string]*oipapi.InferParameter{"shared_memory_region": region, "shared_memory_byte_size": whole}
	full := request("rows", "data", "FP32", []int64{2, 3}, pattern(24))
	full.Id, full.ModelVersion = "an id", "7"
	full.Parameters = map[string]*oipapi.InferParameter{"timeout": whole, "triton_enable_empty_final_response": truth}
	full.Outputs = []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "data-out"}}
	return []*oipapi.ModelInferRequest{request("rows", "data", "FP32", []int64{1, 3}, pattern(12)), typed, shared, full}
}

// FuzzDecode holds the hand-made decoder against the generated one: what it takes,
// the other takes too, and both read the same; what it refuses is no message, or
// one of those that mean nothing here. What is taken is answered or refused with a
// status of the table, and nothing stays allocated.
func FuzzDecode(f *testing.F) {
	for _, seed := range seeds() {
		data, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("\x0a\x04rows\x2a\x00\x3a\x00"))
	f.Add([]byte{0x2a, 0x03, 0x18, 0xff, 0x01})
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		before := tensor.MemoryUsage().Live
		m := newMessage()
		defer m.release()
		m.wire = mem.SliceBuffer(data)
		p, err := s.answer(t.Context(), m, nil)
		checkFuzzed(t, err)
		if err == nil {
			want := &oipapi.ModelInferRequest{}
			if err := proto.Unmarshal(data, want); err != nil {
				// Texts that are passed over are not looked at.
				if !strings.Contains(err.Error(), "UTF-8") {
					t.Fatalf("took what is no message: %v", err)
				}
			} else {
				checkSameMessage(t, m, want)
			}
			checkAnswer(t, p)
			p.release()
		}
		if after := tensor.MemoryUsage().Live; after != before {
			t.Errorf("%d buffers were live before, %d are after", before, after)
		}
	})
}

// checkSameMessage compares what both decoders read.
func checkSameMessage(t *testing.T, m *message, want *oipapi.ModelInferRequest) {
	t.Helper()
	if string(m.model) != want.GetModelName() || string(m.version) != want.GetModelVersion() || string(m.id) != want.GetId() {
		t.Errorf("read %q %q %q, want %v", m.model, m.version, m.id, want)
	}
	if len(m.inputs) != len(want.GetInputs()) {
		t.Fatalf("read %d inputs, want %v", len(m.inputs), want)
	}
	raw := want.GetRawInputContents()
	for i, in := range want.GetInputs() {
		got := m.inputs[i]
		if string(got.name) != in.GetName() || string(got.datatype) != in.GetDatatype() || !slices.Equal(got.shape.slice(), in.GetShape()) {
			t.Errorf("read input %q %q %v, want %v", got.name, got.datatype, got.shape, in)
		}
		if len(raw) > 0 && !bytes.Equal(got.data, raw[i]) {
			t.Errorf("read the data %x for input %d, want %x", got.data, i, raw[i])
		}
	}
}

// checkAnswer holds the hand-made encoder against the generated decoder.
func checkAnswer(t *testing.T, p prediction) {
	t.Helper()
	encoded := p.encode()
	out := &oipapi.ModelInferResponse{}
	err := proto.Unmarshal(encoded.Materialize(), out)
	encoded.Free()
	if err != nil {
		t.Fatalf("the answer cannot be read: %v", err)
	}
	if out.GetId() != string(p.message.id) || out.GetModelName() != p.model.Name() || len(out.GetOutputs()) != len(p.message.outputs) ||
		len(out.GetRawOutputContents()) != len(out.GetOutputs()) {
		t.Fatalf("answered %v", out)
	}
	for i, o := range out.GetOutputs() {
		want := p.request.Outputs[p.message.outputs[i].tensor]
		if o.GetName() != want.Name || o.GetDatatype() != want.DType.String() || !slices.Equal(o.GetShape(), want.Shape.AppendDims(nil)) ||
			!bytes.Equal(out.GetRawOutputContents()[i], want.Bytes()) {
			t.Errorf("answered %v, want %v", o, want)
		}
	}
	stream := &oipapi.ModelStreamInferResponse{}
	streamed := p.encodeStream()
	err = proto.Unmarshal(streamed.Materialize(), stream)
	streamed.Free()
	if err != nil || !stream.GetInferResponse().GetParameters()["triton_final_response"].GetBoolParam() {
		t.Fatalf("the answer in a stream is %v, %v", stream, err)
	}
	stream.InferResponse.Parameters = nil
	if !proto.Equal(stream.GetInferResponse(), out) {
		t.Errorf("answered %v in a stream, %v without", stream.GetInferResponse(), out)
	}
}

// checkFuzzed wants an error to be the client's own.
func checkFuzzed(t *testing.T, err error) {
	t.Helper()
	switch code := failure.Code(err); code {
	case codes.OK, codes.NotFound, codes.InvalidArgument:
	case codes.DeadlineExceeded: // of requests with a short timeout
	default:
		t.Errorf("code %v: %v", code, err)
	}
}

func fuzzServer(f *testing.F) *Server {
	s, err := New(Options{Engine: newEngine(f, standard(), slog.New(slog.DiscardHandler), engine.ModelOptions{}), MaxTensor: 1 << 20})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Stop)
	return s
}

// FuzzInferJSON gives the HTTP parser whatever comes. What it takes without the
// words of Python is JSON; it is answered completely or refused with a status of
// the table; nothing stays allocated.
func FuzzInferJSON(f *testing.F) {
	for _, seed := range []struct{ body, length string }{
		{`{"id":"a","inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"data":[1,2.5,-3e-2,null,NaN,0]}]}`, ""},
		{`{"inputs":[{"name":"data","datatype":"FP32","shape":[2,3],"data":[[1,2,3],[4,5,6]]}],"outputs":[{"name":"data-out","parameters":{"binary_data":true}}]}`, ""},
		{`{"inputs":[{"name":"data","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"parameters":{"binary_data_output":true,"timeout":1000000}}` + "\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@", "154"},
		{"\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@", "0"},
		{`{"inputs":[{"name":"\u0064ata","data":[[[[[[[[1]]]]]]]],"shape":[1,1],"datatype":"FP32"}]}`, ""},
		{`{"x":{"y":[{}, [], "", true, null]},"inputs":[]}`, "9"},
	} {
		f.Add([]byte(seed.body), seed.length)
	}
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, body []byte, length string) {
		before := tensor.MemoryUsage().Live
		m := newMessage()
		defer m.release()
		m.model = []byte("rows")
		err := s.readInfer(m, body, length)
		checkFuzzed(t, err)
		if err == nil && length == "" && !bytes.Contains(body, []byte("N")) && !bytes.Contains(body, []byte("I")) && !json.Valid(body) {
			t.Errorf("took what is no JSON: %q", body)
		}
		if err != nil {
			return
		}
		p, err := s.predict(t.Context(), m, nil)
		checkFuzzed(t, err)
		if err == nil {
			header, answer, err := p.appendHTTP(nil)
			if err != nil || !json.Valid(answer[:header]) {
				t.Errorf("answered %q, %v", answer, err)
			}
			p.release()
		}
		if after := tensor.MemoryUsage().Live; after != before {
			t.Errorf("%d buffers were live before, %d are after", before, after)
		}
	})
}
