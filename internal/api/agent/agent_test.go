package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// frozen is the interface that deployed clients were generated from. A
// difference is a client that stops working, so this list only changes if it is
// found to be wrong about those clients.
const frozen = `
enum CaptureDataStatus: FAILURE=0 SUCCESS=1 IN_PROGRESS=2 NOT_FOUND=3
enum DataType: UINT8=0 INT16=1 INT32=2 INT64=3 FLOAT16=4 FLOAT32=5 FLOAT64=6
enum Encoding: CSV=0 JSON=1 NONE=2 BASE64=3
message AuxilaryData: string name=1, Encoding encoding=2, bytes byte_data=3 in data, SharedMemoryHandle shared_memory_handle=4 in data
message CaptureDataRequest: string model_name=1, string capture_id=2, Timestamp inference_timestamp=3, repeated Tensor input_tensors=4, repeated Tensor output_tensors=5, repeated AuxilaryData inputs=6, repeated AuxilaryData outputs=7
message CaptureDataResponse:
message DescribeModelRequest: string name=1
message DescribeModelResponse: Model model=1
message GetCaptureDataStatusRequest: string capture_id=1
message GetCaptureDataStatusResponse: CaptureDataStatus status=1
message ListModelsRequest:
message ListModelsResponse: repeated Model models=1
message LoadModelRequest: string url=1, string name=2
message LoadModelResponse: Model model=1
message Model: string url=1, string name=2, repeated TensorMetadata input_tensor_metadatas=3, repeated TensorMetadata output_tensor_metadatas=4
message PredictRequest: string name=1, repeated Tensor tensors=2
message PredictResponse: repeated Tensor tensors=1
message SharedMemoryHandle: uint64 size=1, uint64 offset=2, uint64 segment_id=3
message Tensor: TensorMetadata tensor_metadata=1, bytes byte_data=4 in data, SharedMemoryHandle shared_memory_handle=5 in data
message TensorMetadata: bytes name=1, DataType data_type=2, repeated packed int32 shape=3
message Timestamp: int64 seconds=1, int32 nanos=2
message UnLoadModelRequest: string name=1
message UnLoadModelResponse:
rpc CaptureData(CaptureDataRequest) CaptureDataResponse
rpc DescribeModel(DescribeModelRequest) DescribeModelResponse
rpc GetCaptureDataStatus(GetCaptureDataStatusRequest) GetCaptureDataStatusResponse
rpc ListModels(ListModelsRequest) ListModelsResponse
rpc LoadModel(LoadModelRequest) LoadModelResponse
rpc Predict(PredictRequest) PredictResponse
rpc UnLoadModel(UnLoadModelRequest) UnLoadModelResponse
`

func TestInterfaceIsTheOneClientsWereBuiltFrom(t *testing.T) {
	got := describe(t, File_agent_proto)
	want := strings.Split(strings.TrimSpace(frozen), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing or changed: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("not in the interface: %s", line)
		}
	}
}

func TestNamesOnTheWire(t *testing.T) {
	if got := File_agent_proto.Path(); got != "agent.proto" {
		t.Errorf("descriptor file name %q, want agent.proto", got)
	}
	if got := Agent_UnLoadModel_FullMethodName; got != "/AWS.SageMaker.Edge.Agent/UnLoadModel" {
		t.Errorf("method path %q", got)
	}
}

// Clients of 2021 declare TensorMetadata.name as a string, later ones as bytes:
// the same bytes must come out for both.
func TestTensorNameHasTheWireFormOfAString(t *testing.T) {
	got, err := proto.Marshal(&TensorMetadata{Name: []byte("data"), DataType: DataType_FLOAT32, Shape: []int32{-1, 30}})
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	want = protowire.AppendTag(want, 1, protowire.BytesType)
	want = protowire.AppendString(want, "data")
	want = protowire.AppendTag(want, 2, protowire.VarintType)
	want = protowire.AppendVarint(want, 5)
	var shape []byte
	shape = protowire.AppendVarint(shape, 0xffffffffffffffff) // -1, sign-extended as int32 fields are
	shape = protowire.AppendVarint(shape, 30)
	want = protowire.AppendTag(want, 3, protowire.BytesType)
	want = protowire.AppendBytes(want, shape)
	if !slices.Equal(got, want) {
		t.Fatalf("got % x, want % x", got, want)
	}
}

// The first segment a host creates has id 0, and most clients leave size and
// offset at 0: such a handle is an empty message, and only the oneof says that
// shared memory is meant.
func TestHandleOfSegmentZeroSurvives(t *testing.T) {
	sent := &Tensor{Data: &Tensor_SharedMemoryHandle{SharedMemoryHandle: &SharedMemoryHandle{}}}
	wire, err := proto.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var got Tensor
	if err := proto.Unmarshal(wire, &got); err != nil {
		t.Fatal(err)
	}
	if _, ok := got.GetData().(*Tensor_SharedMemoryHandle); !ok {
		t.Fatalf("data is %T, want a shared memory handle", got.GetData())
	}
}

// describe prints every declaration of a file, one line each, as in frozen.
func describe(t *testing.T, file protoreflect.FileDescriptor) []string {
	t.Helper()
	if file.Package() != "AWS.SageMaker.Edge" || file.Imports().Len() != 0 {
		t.Fatalf("package %s with %d imports", file.Package(), file.Imports().Len())
	}
	var lines []string
	for i := range file.Enums().Len() {
		enum := file.Enums().Get(i)
		line := fmt.Sprintf("enum %s:", enum.Name())
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			line += fmt.Sprintf(" %s=%d", value.Name(), value.Number())
		}
		lines = append(lines, line)
	}
	for i := range file.Messages().Len() {
		message := file.Messages().Get(i)
		var fields []string
		for j := range message.Fields().Len() {
			fields = append(fields, describeField(message.Fields().Get(j)))
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("message %s: %s", message.Name(), strings.Join(fields, ", "))))
	}
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		if service.Name() != "Agent" {
			t.Fatalf("service %s", service.Name())
		}
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			if method.IsStreamingClient() || method.IsStreamingServer() {
				t.Errorf("%s is not unary", method.Name())
			}
			lines = append(lines, fmt.Sprintf("rpc %s(%s) %s", method.Name(), method.Input().Name(), method.Output().Name()))
		}
	}
	return lines
}

func describeField(field protoreflect.FieldDescriptor) string {
	kind := field.Kind().String()
	switch {
	case field.Message() != nil:
		kind = string(field.Message().Name())
	case field.Enum() != nil:
		kind = string(field.Enum().Name())
	}
	if field.IsPacked() {
		kind = "packed " + kind
	}
	if field.IsList() {
		kind = "repeated " + kind
	}
	text := fmt.Sprintf("%s %s=%d", kind, field.Name(), field.Number())
	if oneof := field.ContainingOneof(); oneof != nil && !oneof.IsSynthetic() {
		text += " in " + string(oneof.Name())
	}
	return text
}
