package agent

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/tensor"
)

// FuzzPredict gives the handler whatever decodes as a request. Each gets an
// answer with complete tensors or a status of the table, never both; nothing
// stays allocated.
func FuzzPredict(f *testing.F) {
	add := func(name string, tensors ...*agentapi.Tensor) {
		data, err := proto.Marshal(&agentapi.PredictRequest{Name: name, Tensors: tensors})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	add("fraud", tensorOf("data", f32, []int32{-1, 3}, pattern(24)))
	add("fraud", tensorOf("", 0, nil, pattern(12)))
	add("fraud", tensorOf("data", f64, []int32{1 << 30, 1 << 30, 1 << 30}, pattern(24)))
	add("pair", tensorOf("b", 0, nil, pattern(32)), tensorOf("a", f32, []int32{2, 3}, pattern(24)))
	add("fraud", &agentapi.Tensor{Data: &agentapi.Tensor_SharedMemoryHandle{SharedMemoryHandle: &agentapi.SharedMemoryHandle{SegmentId: 1 << 40, Offset: 1 << 63}}})
	add("", nil...)
	f.Add([]byte("\x0a\x05fraud\x12\x00"))

	fixture := start(f, Options{}, map[string]*copyModel{
		"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true}},
		"pair": {
			signature:  sameInOut(spec("a", tensor.FP32, -1, 3), spec("b", tensor.Int64, -1, 2)),
			properties: engine.Properties{Inline: true},
		},
	})
	if _, err := fixture.LoadModel(f.Context(), &agentapi.LoadModelRequest{Name: "pair", Url: "pair"}); err != nil {
		f.Fatal(err)
	}
	services := []*service{
		{engine: fixture.engine, log: fixture.server.log, maxTensor: 1 << 20, budget: local.NewBudget(1 << 30)},
		{engine: fixture.engine, log: fixture.server.log, maxTensor: 1 << 20, strict: true, budget: local.NewBudget(1 << 30)},
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &agentapi.PredictRequest{}
		if proto.Unmarshal(data, in) != nil {
			return
		}
		before := tensor.MemoryUsage().Live
		var oks [2]bool
		for i, s := range services {
			out, err := s.Predict(t.Context(), in)
			if (out == nil) == (err == nil) {
				t.Fatalf("answer %v and error %v", out, err)
			}
			oks[i] = err == nil
			if code := status.Code(err); code != codes.OK && code != codes.NotFound && code != codes.InvalidArgument {
				t.Errorf("status %v: %v", code, err)
			}
			for _, o := range out.GetTensors() {
				size := int64(elementSize(o.GetTensorMetadata().GetDataType()))
				for _, d := range o.GetTensorMetadata().GetShape() {
					size *= int64(d)
				}
				if size <= 0 || size != int64(len(o.GetByteData())) {
					t.Errorf("an output says %v and has %d bytes", o.GetTensorMetadata(), len(o.GetByteData()))
				}
			}
		}
		if oks[1] && !oks[0] {
			t.Error("the strict service took what the lenient one refused")
		}
		if after := tensor.MemoryUsage().Live; after != before {
			t.Errorf("%d buffers were live before, %d are after", before, after)
		}
	})
}
