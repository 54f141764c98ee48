package oip

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/tensor"
)

// retryOf is how long the status says to wait, 0 for nothing.
func retryOf(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			return info.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// Tensors in shared memory, and outputs, are in the budget, and refused before there is room for them.
func TestMemoryOfTensors(t *testing.T) {
	const rows, most = 2000, 1 << 20
	f := start(t, Options{Budget: local.NewBudget(most), MaxMessage: 64 << 10}, standard(), engine.ModelOptions{})
	key, _ := object(t, "large", bytes.Repeat([]byte{1}, 12*rows))
	if err := f.register(t, "large", key, 0, 12*rows); err != nil {
		t.Fatal(err)
	}
	r := request("rows", "data", "FP32", []int64{rows, 3}, nil)
	r.RawInputContents = nil
	r.Inputs[0].Parameters = in("large", 0, 12*rows)
	body := `{"inputs":[{"name":"data","datatype":"FP32","shape":[2000,3],"parameters":{"shared_memory_region":"large","shared_memory_byte_size":24000}}]}`
	f.checkNothingInFlight(t)
	before := tensor.MemoryUsage().Live
	held := int64(most - 2*12*rows + 1) // one byte less than input and output take is left, and less with what the call takes
	if err := f.server.budget.Take(held); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ModelInfer(t.Context(), r); status.Code(err) != codes.ResourceExhausted || retryOf(err) < failure.MinRetry {
		t.Errorf("gRPC: %v, to be tried again after %v", err, retryOf(err))
	}
	if a := f.do(t, "POST", "/v2/models/rows/infer", body); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("HTTP: %d %v %s", a.status, a.header, a.body)
	}
	csv := strings.Repeat("1,2,3\n", rows)
	if a := f.do(t, "POST", "/invocations", csv, "Content-Type", "text/csv", targetModel, "rows"); a.status != 429 {
		t.Errorf("invocations: %d %s", a.status, a.body)
	}
	if now := tensor.MemoryUsage().Live; now != before {
		t.Errorf("requests that were refused have %d buffers", now-before)
	}
	f.server.budget.Give(held)
	if _, err := f.ModelInfer(t.Context(), r); err != nil {
		t.Errorf("once there is room: %v", err)
	}
	if a := f.do(t, "POST", "/v2/models/rows/infer", body); a.status != 200 {
		t.Errorf("once there is room: %d %s", a.status, a.body)
	}
	if a := f.do(t, "POST", "/invocations", csv, "Content-Type", "text/csv", targetModel, "rows"); a.status != 200 {
		t.Errorf("once there is room: %d %s", a.status, a.body)
	}
	f.checkNothingInFlight(t)
}

// Each listener has its own answer to who may load, with the key that would change it; streams stay open however long they are idle.
func TestControlByListener(t *testing.T) {
	patience := patience{greeting: time.Minute, Patience: local.Patience{Transfer: 200 * time.Millisecond, Rate: 1 << 20}}
	f := start(t, Options{patience: patience, Models: func() []Declared { return []Declared{{Name: "rows", Path: "rows"}} }}, standard(), engine.ModelOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, l, Access{Access: local.Access{ControlKey: "tcp.control"}})
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	over := oipapi.NewGRPCInferenceServiceClient(conn)
	stream, err := over.ModelStreamInfer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	infer := func() {
		t.Helper()
		if err := stream.Send(request("rows", "data", "FP32", []int64{1, 3}, pattern(12))); err != nil {
			t.Fatal(err)
		}
		if out, err := stream.Recv(); err != nil || out.GetErrorMessage() != "" {
			t.Fatalf("%v, %v", out, err)
		}
	}
	infer()
	_, loading := over.RepositoryModelLoad(t.Context(), &oipapi.RepositoryModelLoadRequest{ModelName: "rows"})
	_, unloading := over.RepositoryModelUnload(t.Context(), &oipapi.RepositoryModelUnloadRequest{ModelName: "rows"})
	for _, err := range []error{loading, unloading} {
		if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "tcp.control") {
			t.Errorf("over TCP: %v", err)
		}
	}
	if _, err := f.RepositoryModelLoad(t.Context(), &oipapi.RepositoryModelLoadRequest{ModelName: "rows"}); err != nil {
		t.Errorf("over the socket: %v", err)
	}
	time.Sleep(4 * patience.Transfer)
	infer()
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
}
