package oip

import (
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
)

// What one message costs to decode and encode, by hand and by the generated code.
func BenchmarkCodec(b *testing.B) {
	in := request("rows", "data", "FP32", []int64{1, 3}, pattern(12))
	data, err := proto.Marshal(in)
	if err != nil {
		b.Fatal(err)
	}
	s, err := New(Options{Engine: newEngine(b, standard(), nil, engine.ModelOptions{})})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	b.Run("hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m := newMessage()
			m.wire = mem.SliceBuffer(data)
			p, err := s.answer(b.Context(), m, nil)
			if err != nil {
				b.Fatal(err)
			}
			e := p.encode()
			e.Free()
			p.release()
			m.release()
		}
	})
	b.Run("generated, without predicting", func(b *testing.B) {
		b.ReportAllocs()
		c := codec{encoding.GetCodecV2("proto")}
		for b.Loop() {
			var in oipapi.ModelInferRequest
			if err := c.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &in); err != nil {
				b.Fatal(err)
			}
			out, err := c.Marshal(&oipapi.ModelInferResponse{
				ModelName: in.GetModelName(), ModelVersion: "7",
				Outputs:           []*oipapi.ModelInferResponse_InferOutputTensor{{Name: "data-out", Datatype: "FP32", Shape: []int64{1, 3}}},
				RawOutputContents: [][]byte{append([]byte{}, in.GetRawInputContents()[0]...)},
			})
			if err != nil {
				b.Fatal(err)
			}
			out.Free()
		}
	})
}
