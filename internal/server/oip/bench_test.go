package oip

import (
	"fmt"
	"strconv"
	"testing"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
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

// What 64 rows of 30 numbers cost to read as JSON.
func BenchmarkJSON(b *testing.B) {
	const rows, columns = 64, 30
	body := fmt.Appendf(nil, `{"inputs":[{"name":"data","datatype":"FP32","shape":[%d,%d],"data":[`, rows, columns)
	for i, v := range testkit.RowsNoMissing(rows, columns) {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendFloat(body, float64(v), 'g', -1, 32)
	}
	body = append(body, "]}]}"...)
	dst := make([]byte, 4*rows*columns)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		m := newMessage()
		if err := m.decodeJSON(body, nil); err != nil {
			b.Fatal(err)
		}
		if err := copyNumbers(dst, m.inputs[0].data, tensor.FP32, []int64{rows, columns}); err != nil {
			b.Fatal(err)
		}
		m.release()
	}
}
