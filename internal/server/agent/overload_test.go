package agent

import (
	"bytes"
	"context"
	"math"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/tensor"
)

// stuckModel serves "stuck" beside "fraud", with room for queue requests. A run
// says so on running and ends when open is closed.
func stuckModel(t *testing.T, queue int) (f *fixture, running, open chan struct{}) {
	t.Helper()
	running, open = make(chan struct{}, 100), make(chan struct{})
	f = start(t, Options{}, map[string]*copyModel{
		"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true}},
		"stuck": {signature: rowsOf3, onRun: func() error { running <- struct{}{}; <-open; return nil }},
	})
	if _, err := f.engine.Load(t.Context(), "stuck", "stuck", engine.ModelOptions{MaxQueue: queue}); err != nil {
		t.Fatal(err)
	}
	return f, running, open
}

func oneRow(name string) *agentapi.PredictRequest {
	return &agentapi.PredictRequest{Name: name, Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(12))}}
}

func TestFullQueue(t *testing.T) {
	f, running, open := stuckModel(t, 2)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			_, err := f.Predict(t.Context(), oneRow("stuck"))
			checkStatus(t, "a request that was admitted", err, codes.OK)
		})
		if i == 0 {
			<-running
		}
	}
	waitFor(t, "the queue to be full", func() bool { return waiting(f, "stuck") == 2 })
	_, err := f.Predict(t.Context(), oneRow("stuck"))
	checkStatus(t, "a request too many", err, codes.ResourceExhausted)
	checkRetry(t, err)
	f.checkServing(t) // other models are not concerned
	close(open)
	wg.Wait()
	_, err = f.Predict(t.Context(), oneRow("stuck"))
	checkStatus(t, "a request after the crowd has gone", err, codes.OK)
	if got := errorCounts(t, f, "stuck"); len(got) != 1 || got["queue full"] != 1 {
		t.Errorf("the failures are counted as %v", got)
	}
}

// A client that hangs up takes what it asked for along, whether it waits or
// runs, and what it used comes back when the instance is done with it.
func TestClientLeaves(t *testing.T) {
	f, running, open := stuckModel(t, 10)
	before := tensor.MemoryUsage().Live
	leaver := dial(t, f.path)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if _, err := agentapi.NewAgentClient(leaver).Predict(t.Context(), oneRow("stuck")); err == nil {
				t.Error("a client that had left was answered")
			}
		})
		if i == 0 {
			<-running
		}
	}
	waitFor(t, "two requests to wait", func() bool { return waiting(f, "stuck") == 2 })
	leaver.Close()
	wg.Wait()
	waitFor(t, "its requests to leave the queue", func() bool { return waiting(f, "stuck") == 0 })
	waitFor(t, "all three to be counted", func() bool { return errorCounts(t, f, "stuck")["cancelled"] == 3 })
	close(open)
	waitFor(t, "the buffers to come back", func() bool { return tensor.MemoryUsage().Live == before })
	_, err := f.Predict(t.Context(), oneRow("stuck"))
	checkStatus(t, "the next client's request", err, codes.OK)
}

// Clients say the longest time there is when they mean to wait for ever.
func TestFarDeadline(t *testing.T) {
	f := startRowsOf3(t, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), math.MaxInt64)
	defer cancel()
	_, err := f.Predict(ctx, oneRow("fraud"))
	checkStatus(t, "a deadline in 292 years", err, codes.OK)
}

// Requests that do not fit the model are counted, or an operator who looks for
// the reason of a client's failures finds none.
func TestBadInputIsCounted(t *testing.T) {
	f := startRowsOf3(t, Options{})
	f.checkServing(t)
	for range 3 {
		_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(11))}})
		checkStatus(t, "a byte too few", err, codes.InvalidArgument)
	}
	if got := errorCounts(t, f, "fraud"); len(got) != 1 || got["bad input"] != 3 {
		t.Errorf("the failures are counted as %v", got)
	}
	stats, err := f.control.Stats(t.Context(), &controlapi.StatsRequest{})
	if err != nil || stats.GetModels()[0].GetRequests() != 4 || stats.GetModels()[0].GetRows() != 2 {
		t.Errorf("the counters are %v, %v", stats, err)
	}
}

// batch_rows are the rows the backend was given, answered or not.
func TestBatchRowsOfFailures(t *testing.T) {
	f := start(t, Options{}, map[string]*copyModel{"fraud": {signature: rowsOf3, onRun: func() error { return errTest }}})
	_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{tensorOf("", 0, nil, pattern(60))}})
	checkStatus(t, "a run that fails", err, codes.Internal)
	stats, err := f.control.Stats(t.Context(), &controlapi.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if m := stats.GetModels()[0]; m.GetRows() != 0 || m.GetBatches() != 1 || m.GetBatchRows() != 5 {
		t.Errorf("a failed run of 5 rows is counted as %v", m)
	}
}

func errorCounts(t *testing.T, f *fixture, name string) map[string]uint64 {
	t.Helper()
	stats, err := f.control.Stats(t.Context(), &controlapi.StatsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	counts := make(map[string]uint64)
	for _, m := range stats.GetModels() {
		if m.GetName() != name {
			continue
		}
		for _, e := range m.GetErrors() {
			counts[e.GetReason()] = e.GetCount()
		}
	}
	return counts
}

// What requests take from shared memory, and what their answers take, is in the budget as messages are: refused before it is allocated,
// with a hint when to ask again, and given back with the answer.
func TestMemoryOfAllRequests(t *testing.T) {
	const size = 12 << 17 // bytes of a request in shared memory, and of its answer
	running, open := make(chan struct{}, 10), make(chan struct{})
	budget := local.NewBudget(5 * size)
	f := start(t, Options{Budget: budget}, map[string]*copyModel{
		"fraud": {signature: rowsOf3, properties: engine.Properties{Inline: true}},
		"stuck": {signature: rowsOf3, onRun: func() error { running <- struct{}{}; <-open; return nil }},
	})
	if _, err := f.engine.Load(t.Context(), "stuck", "stuck", engine.ModelOptions{MaxQueue: 10, MaxBatchRows: 1}); err != nil {
		t.Fatal(err)
	}
	segment := ownSegment(t, bytes.Repeat([]byte{1}, size))
	request := func(model string) *agentapi.PredictRequest {
		return &agentapi.PredictRequest{Name: model, Tensors: []*agentapi.Tensor{
			{Data: &agentapi.Tensor_SharedMemoryHandle{SharedMemoryHandle: &agentapi.SharedMemoryHandle{SegmentId: segment}}},
		}}
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			_, err := f.Predict(t.Context(), request("stuck"))
			checkStatus(t, "a request that there is room for", err, codes.OK)
		})
	}
	<-running
	waitFor(t, "two requests to take their memory", func() bool { return budget.Used() >= 4*size && waiting(f, "stuck") == 1 })
	before := tensor.MemoryUsage().Live
	for _, model := range []string{"stuck", "fraud"} {
		_, err := f.Predict(t.Context(), request(model))
		checkStatus(t, "a request too many", err, codes.ResourceExhausted)
		checkRetry(t, err)
	}
	if now := tensor.MemoryUsage().Live; now != before {
		t.Errorf("requests that were refused have %d buffers", now-before)
	}
	f.checkServing(t) // there is room for small ones
	close(open)
	wg.Wait()
	waitFor(t, "it to be given back", func() bool { return budget.Used() == 0 })
	_, err := f.Predict(t.Context(), request("fraud"))
	checkStatus(t, "a request once there is room", err, codes.OK)
	// What fails on its way gives back as well.
	bad := request("fraud")
	bad.Tensors[0].GetSharedMemoryHandle().Offset = size
	_, err = f.Predict(t.Context(), bad)
	checkStatus(t, "memory that is not there", err, codes.InvalidArgument)
	waitFor(t, "everything to be given back", func() bool { return budget.Used() == 0 })
}

// checkRetry wants the status to say when to ask again.
func checkRetry(t *testing.T, err error) {
	t.Helper()
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RetryInfo); ok {
			if wait := info.GetRetryDelay().AsDuration(); wait < failure.MinRetry || wait > failure.MaxRetry {
				t.Errorf("it says to wait %v", wait)
			}
			return
		}
	}
	t.Errorf("%v, and nothing says when to ask again", err)
}
