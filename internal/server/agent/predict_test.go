package agent

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/tensor"
)

const (
	f32 = agentapi.DataType_FLOAT32
	f64 = agentapi.DataType_FLOAT64
	i32 = agentapi.DataType_INT32
	u8  = agentapi.DataType_UINT8
)

// TestTensors is every way in which known clients and bad ones describe bytes.
func TestTensors(t *testing.T) {
	models := map[string]*copyModel{
		"fraud":  {signature: rowsOf3},                                         // float32 [-1, 3]
		"camera": {signature: sameInOut(spec("image", tensor.Uint8, 1, 4, 5))}, // 20 bytes, no rows
		"pair":   {signature: sameInOut(spec("a", tensor.FP32, -1, 3), spec("b", tensor.Int64, -1, 2))},
		"mixed":  {signature: sameInOut(spec("a", tensor.FP32, -1, 3), spec("scale", tensor.FP32))},
	}
	lenient := start(t, Options{}, models)
	strict := start(t, Options{StrictTensors: true}, models)
	for _, f := range []*fixture{lenient, strict} {
		for _, name := range []string{"camera", "pair", "mixed"} {
			if _, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: name, Url: name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	one := func(name string, d agentapi.DataType, shape []int32, n int) []*agentapi.Tensor {
		return []*agentapi.Tensor{tensorOf(name, d, shape, pattern(n))}
	}
	const ok, no = codes.OK, codes.InvalidArgument
	for _, test := range []struct {
		what    string
		model   string
		tensors []*agentapi.Tensor
		rows    int // of the answer, if any
		lenient codes.Code
		strict  codes.Code
	}{
		{"no metadata", "fraud", one("", 0, nil, 12), 1, ok, ok},
		{"no metadata, many rows", "fraud", one("", 0, nil, 1200), 100, ok, ok},
		{"what ListModels says", "fraud", one("data", f32, []int32{-1, 3}, 24), 2, ok, ok},
		{"the true shape", "fraud", one("data", f32, []int32{2, 3}, 24), 2, ok, ok},
		{"no name", "fraud", one("", f32, []int32{2, 3}, 24), 2, ok, ok},
		{"another name", "fraud", one("input", f32, []int32{2, 3}, 24), 2, ok, no},
		{"a type of the same width", "fraud", one("data", i32, []int32{2, 3}, 24), 2, ok, no},
		{"no type", "fraud", one("data", u8, []int32{-1, 3}, 24), 2, ok, no},
		{"a wider type, true shape", "fraud", one("data", f64, []int32{2, 3}, 24), 2, ok, no},
		{"float64 for float32", "fraud", one("data", f64, []int32{1, 3}, 24), 0, no, no},
		{"float64 for float32, open shape", "fraud", one("data", f64, []int32{-1, 3}, 24), 0, no, no},
		{"float64 for float32, no shape", "fraud", one("data", f64, nil, 24), 0, no, no},
		{"a flat shape", "fraud", one("data", f32, []int32{3}, 12), 1, ok, no},
		{"a flat open shape", "fraud", one("data", f32, []int32{-1}, 24), 2, ok, no},
		{"too many dimensions", "fraud", one("data", f32, []int32{1, 1, 1, 2, 3}, 24), 2, ok, no},
		{"two open dimensions", "fraud", one("data", f32, []int32{-1, -1}, 24), 2, ok, ok},
		{"fewer rows than bytes", "fraud", one("data", f32, []int32{1, 3}, 24), 0, no, no},
		{"more rows than bytes", "fraud", one("data", f32, []int32{3, 3}, 24), 0, no, no},
		{"other columns", "fraud", one("data", f32, []int32{-1, 4}, 24), 0, no, no},
		{"no bytes", "fraud", one("data", f32, []int32{0, 3}, 0), 0, no, no},
		{"a byte too few", "fraud", one("", 0, nil, 11), 0, no, no},
		{"a byte too many", "fraud", one("", 0, nil, 13), 0, no, no},
		{"a dimension of zero", "fraud", one("data", f32, []int32{0, -1}, 24), 0, no, no},
		{"a negative dimension", "fraud", one("data", f32, []int32{-2, 3}, 24), 0, no, no},
		{"huge dimensions", "fraud", one("data", f32, []int32{math.MaxInt32, math.MaxInt32, math.MaxInt32, math.MaxInt32}, 24), 0, no, no},
		{"dimensions whose product is 6 modulo 64 bits", "fraud", one("data", f32, []int32{1 << 30, 1 << 30, 1 << 30, 6}, 24), 0, no, no},
		{"the smallest dimension", "fraud", one("data", f32, []int32{math.MinInt32, math.MinInt32}, 24), 0, no, no},
		{"ten thousand dimensions", "fraud", one("data", f32, slices.Repeat([]int32{1 << 20}, 10_000), 24), 0, no, no},
		{"a type that is none", "fraud", one("data", 77, nil, 12), 0, no, no},
		{"a negative type", "fraud", one("data", -1, nil, 12), 0, no, no},
		{"no data", "fraud", []*agentapi.Tensor{{TensorMetadata: &agentapi.TensorMetadata{Name: []byte("data")}}}, 0, no, no},
		{"no tensor", "fraud", nil, 0, no, no},
		{"a tensor too many", "fraud", append(one("data", f32, nil, 12), one("more", f32, nil, 12)...), 0, no, no},
		{"a name of a megabyte", "pair", append(one(strings.Repeat("6", 1<<20), f32, nil, 12), one("b", 0, nil, 16)...), 0, no, no},

		{"a fixed shape", "camera", one("image", u8, []int32{1, 4, 5}, 20), -1, ok, ok},
		{"the camera client", "camera", one("image", f32, []int32{1, 4, 5}, 20), -1, ok, no},
		{"another shape of the right size", "camera", one("image", u8, []int32{20}, 20), -1, ok, no},
		{"another shape altogether", "camera", one("image", f32, []int32{7}, 20), -1, ok, no},
		{"as many bytes as the wrong type has", "camera", one("image", f32, []int32{1, 4, 5}, 80), 0, no, no},
		{"two fixed shapes", "camera", one("image", u8, nil, 40), 0, no, no},

		{"by name", "pair", append(one("a", f32, nil, 24), one("b", agentapi.DataType_INT64, nil, 32)...), 2, ok, no},
		{"by name, full", "pair", append(one("a", f32, []int32{-1, 3}, 24), one("b", agentapi.DataType_INT64, []int32{-1, 2}, 32)...), 2, ok, ok},
		{"by name, turned around", "pair", append(one("b", agentapi.DataType_INT64, []int32{2, 2}, 32), one("a", f32, []int32{2, 3}, 24)...), 2, ok, ok},
		{"by position", "pair", append(one("", 0, nil, 24), one("", 0, nil, 32)...), 2, ok, ok},
		{"the second by name, the first by position", "pair", append(one("", 0, nil, 24), one("b", agentapi.DataType_INT64, []int32{-1, 2}, 32)...), 2, ok, ok},
		{"an unknown name of two", "pair", append(one("", 0, nil, 24), one("c", 0, nil, 32)...), 0, no, no},
		{"one name twice", "pair", append(one("a", f32, nil, 24), one("a", f32, nil, 24)...), 0, no, no},
		{"rows that differ", "pair", append(one("a", f32, nil, 24), one("b", 0, nil, 48)...), 0, no, no},
		{"one of two", "pair", one("a", f32, nil, 24), 0, no, no},

		{"a scalar beside rows", "mixed", append(one("a", f32, []int32{-1, 3}, 12), one("scale", f32, []int32{}, 4)...), 1, ok, ok},
		{"a scalar beside many rows", "mixed", append(one("", 0, nil, 24), one("", 0, nil, 4)...), 0, no, no},
	} {
		for _, side := range []struct {
			name string
			*fixture
			want codes.Code
		}{{"lenient", lenient, test.lenient}, {"strict", strict, test.strict}} {
			what := fmt.Sprintf("%s, %s, to %s", side.name, test.what, test.model)
			out, err := side.Predict(t.Context(), &agentapi.PredictRequest{Name: test.model, Tensors: test.tensors})
			checkStatus(t, what, err, side.want)
			if err == nil {
				checkAnswer(t, what, out, models[test.model].signature, test.rows)
				for i, spec := range models[test.model].signature.Inputs {
					sent := test.tensors[i]
					for _, other := range test.tensors {
						if string(other.GetTensorMetadata().GetName()) == spec.Name {
							sent = other
						}
					}
					if !bytes.Equal(out.Tensors[i].GetByteData(), sent.GetByteData()) {
						t.Errorf("%s: output %d has other bytes than were sent", what, i)
					}
				}
			}
		}
	}
	lenient.checkServing(t)
	strict.checkServing(t)
}

// checkAnswer wants complete metadata and bytes that are as many as it says.
func checkAnswer(t *testing.T, what string, out *agentapi.PredictResponse, signature engine.Signature, rows int) {
	t.Helper()
	if len(out.GetTensors()) != len(signature.Outputs) {
		t.Fatalf("%s: %d tensors were answered, want %d", what, len(out.GetTensors()), len(signature.Outputs))
	}
	for i, spec := range signature.Outputs {
		m := out.Tensors[i].GetTensorMetadata()
		want := make([]int32, len(spec.Dims))
		size := spec.DType.Size()
		for j, d := range spec.Dims {
			if d == engine.Variable {
				d = int64(rows)
			}
			want[j] = int32(d)
			size *= int(d)
		}
		if string(m.GetName()) != spec.Name || m.GetDataType() != dataType(spec.DType) || !slices.Equal(m.GetShape(), want) {
			t.Errorf("%s: output %d is %v, want %s with %d rows", what, i, m, spec, rows)
		}
		if got := len(out.Tensors[i].GetByteData()); got != size {
			t.Errorf("%s: output %d has %d bytes, want %d", what, i, got, size)
		}
	}
}

func TestDescriptions(t *testing.T) {
	f := start(t, Options{}, map[string]*copyModel{
		"b-url": {signature: sameInOut(
			spec("z", tensor.FP32, -1, 30), spec("a", tensor.Bool, 1), spec("i8", tensor.Int8, 1), spec("u16", tensor.Uint16, 1),
			spec("bf", tensor.BF16, 1), spec("u32", tensor.Uint32, 1), spec("u64", tensor.Uint64, 1), spec("f16", tensor.FP16, 1), spec("bad\xff", tensor.FP64, 2, 1))},
		"a-url": {signature: rowsOf3},
	})
	for _, name := range []string{"b", "a"} {
		if _, err := f.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: name, Url: name + "-url"}); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"z FLOAT32 [-1 30]", "a UINT8 [1]", "i8 UINT8 [1]", "u16 INT16 [1]", "bf INT16 [1]", "u32 INT32 [1]", "u64 INT64 [1]", "f16 FLOAT16 [1]", "bad\uFFFD FLOAT64 [2 1]"}
	list, err := f.ListModels(t.Context(), &agentapi.ListModelsRequest{})
	if err != nil || len(list.GetModels()) != 2 || list.Models[0].GetName() != "a" || list.Models[1].GetName() != "b" {
		t.Fatalf("ListModels answered %v, %v", list, err)
	}
	described, err := f.DescribeModel(t.Context(), &agentapi.DescribeModelRequest{Name: "b"})
	if err != nil || !proto.Equal(described.GetModel(), list.Models[1]) {
		t.Errorf("DescribeModel answered %v, %v; ListModels %v", described, err, list.Models[1])
	}
	var got []string
	for _, m := range described.GetModel().GetInputTensorMetadatas() {
		got = append(got, fmt.Sprintf("%s %s %v", m.GetName(), m.GetDataType(), m.GetShape()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the inputs are described as\n%q, want\n%q", got, want)
	}
	if described.GetModel().GetUrl() != "b-url" || len(described.GetModel().GetOutputTensorMetadatas()) != len(want) {
		t.Errorf("described as %v", described)
	}
}

// Many clients at once, each with its own bytes and number of rows.
func TestConcurrentPredict(t *testing.T) {
	for _, inline := range []bool{true, false} {
		f := start(t, Options{}, map[string]*copyModel{"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: inline}}})
		var clients sync.WaitGroup
		for c := range 16 {
			clients.Go(func() {
				client := agentapi.NewAgentClient(f.conn)
				if c%2 == 0 {
					conn := dial(t, f.path)
					defer conn.Close()
					client = agentapi.NewAgentClient(conn)
				}
				for n := range 100 {
					data := bytes.Repeat([]byte{byte(c), byte(n), 1, 2}, 3*(1+(c+n)%9))
					out, err := client.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("data", f32, []int32{-1, 3}, data)}})
					if err != nil {
						t.Error(err)
						return
					}
					if !bytes.Equal(out.GetTensors()[0].GetByteData(), data) {
						t.Errorf("client %d got somebody else's answer", c)
					}
				}
			})
		}
		clients.Wait()
	}
}

func TestMessageLimits(t *testing.T) {
	f := startRowsOf3(t, Options{MaxMessage: 1 << 20})
	for n, want := range map[int]codes.Code{1<<20 - 4096: codes.OK, 1<<20 + 4096: codes.ResourceExhausted, 8 << 20: codes.ResourceExhausted} {
		_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(n/12*12))}})
		checkStatus(t, fmt.Sprintf("a message of about %d bytes", n), err, want)
	}
	f.checkServing(t)
	// The default takes what clients without options of their own could not
	// receive.
	large := startRowsOf3(t, Options{})
	data := pattern(60 << 20 / 12 * 12)
	out, err := large.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, data)}})
	if err != nil || !bytes.Equal(out.GetTensors()[0].GetByteData(), data) {
		t.Errorf("60 MiB were answered with %d tensors, %v", len(out.GetTensors()), err)
	}
}
