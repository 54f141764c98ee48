package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/engine"
	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/internal/shm"
)

const (
	maxCaptureIDBytes = capture.MaxInference
	// clockSkew is how far ahead a client's clock may be. Containers share the
	// host's clock; clients beyond a bridge do not.
	clockSkew = 5 * time.Minute
	// Seconds of the years 1700 and 2200: beyond, a time cannot be written down.
	minSeconds, maxSeconds = -8520336000, 7258118399
)

// CaptureData implements agentapi.AgentServer: it returns when the capture is durable.
func (s *service) CaptureData(ctx context.Context, in *agentapi.CaptureDataRequest) (*agentapi.CaptureDataResponse, error) {
	const doing = "capturing data"
	model, err := s.acquire(doing, in.GetModelName())
	if err != nil {
		return nil, err
	}
	version := model.Version()
	model.Release()
	now := time.Now()
	if err := checkCapture(in, now); err != nil {
		return nil, err
	}
	r := &capture.Record{
		Inference: in.GetCaptureId(), Time: now, Model: in.GetModelName(), Version: failure.ValidText(version), Kind: capture.Explicit,
	}
	if t := in.GetInferenceTimestamp(); t != nil {
		r.Time = time.Unix(t.GetSeconds(), int64(t.GetNanos()))
	}
	fetched := fetcher{service: s, ctx: ctx}
	defer fetched.release()
	for _, side := range []struct {
		from []*agentapi.Tensor
		to   *[]capture.Tensor
	}{{in.GetInputTensors(), &r.Inputs}, {in.GetOutputTensors(), &r.Outputs}} {
		for _, t := range side.from {
			c, err := fetched.tensor(t)
			if err != nil {
				return nil, s.status(doing, r.Model, err, failure.RetryAfter(err, 0))
			}
			*side.to = append(*side.to, c)
		}
	}
	for _, side := range []struct {
		from []*agentapi.AuxilaryData
		to   *[]capture.Payload
	}{{in.GetInputs(), &r.AuxInputs}, {in.GetOutputs(), &r.AuxOutputs}} {
		for _, d := range side.from {
			c, err := fetched.payload(d)
			if err != nil {
				return nil, s.status(doing, r.Model, err, failure.RetryAfter(err, 0))
			}
			*side.to = append(*side.to, c)
		}
	}
	if err := s.capture.Keep(ctx, capture.Single(r)); err != nil {
		return nil, s.captureStatus(doing, r.Model, err)
	}
	return &agentapi.CaptureDataResponse{}, nil
}

// captureStatus is the gRPC status of a Keeper's error.
func (s *service) captureStatus(doing, model string, err error) error {
	if errors.Is(err, capture.ErrOff) {
		return status.Error(codes.FailedPrecondition, doing+": "+capture.ErrOff.Error())
	}
	return s.status(doing, model, err, failure.RetryAfter(err, 0))
}

// GetCaptureDataStatus implements agentapi.AgentServer. What is on disk is in progress
// until it has left the host; no id is known where nothing is captured.
func (s *service) GetCaptureDataStatus(ctx context.Context, in *agentapi.GetCaptureDataStatusRequest) (*agentapi.GetCaptureDataStatusResponse, error) {
	is, err := s.capture.Status(ctx, in.GetCaptureId())
	if err != nil && !errors.Is(err, capture.ErrOff) {
		return nil, s.captureStatus("looking for a capture", "", err)
	}
	out := &agentapi.GetCaptureDataStatusResponse{Status: agentapi.CaptureDataStatus_NOT_FOUND}
	switch is {
	case capture.Waiting:
		out.Status = agentapi.CaptureDataStatus_IN_PROGRESS
	case capture.Left:
		out.Status = agentapi.CaptureDataStatus_SUCCESS
	case capture.Dead:
		out.Status = agentapi.CaptureDataStatus_FAILURE
	}
	return out, nil
}

// fetcher copies what clients hand over in shared memory.
type fetcher struct {
	*service
	ctx      context.Context
	reserved int64
}

// release gives back what was reserved.
func (f *fetcher) release() { f.budget.Give(f.reserved) }

// tensor is a tensor as it came: its bytes need not fit its type and shape.
func (f *fetcher) tensor(t *agentapi.Tensor) (capture.Tensor, error) {
	m := t.GetTensorMetadata()
	c := capture.Tensor{Name: failure.ValidText(string(m.GetName())), DType: elementType(m.GetDataType())}
	for _, d := range m.GetShape() {
		c.Shape = append(c.Shape, int64(d))
	}
	if len(c.Shape) > maxCapturedRank || len(c.Name) > maxCapturedName {
		return c, fmt.Errorf("%w: tensor %q has more than %d dimensions, or its name more than %d bytes", engine.ErrInvalidInput, failure.Clip(c.Name), maxCapturedRank, maxCapturedName)
	}
	var err error
	if h, shared := t.GetData().(*agentapi.Tensor_SharedMemoryHandle); shared {
		need := uint64(elementSize(m.GetDataType()))
		for _, d := range m.GetShape() {
			if d < 0 {
				need = 0 // the rest of the segment
				break
			}
			if high, low := bits.Mul64(need, uint64(d)); high == 0 {
				need = low
			} else {
				need = math.MaxUint64
			}
		}
		c.Data, err = f.shared(h.SharedMemoryHandle, need)
	} else {
		c.Data = t.GetByteData()
	}
	if err != nil {
		return c, fmt.Errorf("tensor %q: %w", failure.Clip(c.Name), err)
	}
	return c, nil
}

// What a record holds: dimensions, bytes of a name, and tensors or data of one side.
const (
	maxCapturedRank  = 255
	maxCapturedName  = 4096
	maxCapturedCount = 255
)

func (f *fetcher) payload(d *agentapi.AuxilaryData) (capture.Payload, error) {
	c := capture.Payload{Name: failure.ValidText(d.GetName()), Encoding: capture.Encoding(d.GetEncoding()), Data: d.GetByteData()}
	if len(c.Name) > maxCapturedName {
		return c, fmt.Errorf("%w: the name of data %q has more than %d bytes", engine.ErrInvalidInput, failure.Clip(c.Name), maxCapturedName)
	}
	if h, shared := d.GetData().(*agentapi.AuxilaryData_SharedMemoryHandle); shared {
		var err error
		if c.Data, err = f.shared(h.SharedMemoryHandle, 0); err != nil {
			return c, fmt.Errorf("data %q: %w", failure.Clip(c.Name), err)
		}
	}
	return c, nil
}

// shared copies what a handle names: its size, or need bytes, or the rest of the segment
// where need is 0.
func (f *fetcher) shared(wire *agentapi.SharedMemoryHandle, need uint64) ([]byte, error) {
	who, err := local.CallerOf(f.ctx)
	if err != nil {
		return nil, err
	}
	h := shm.Handle{ID: wire.GetSegmentId(), Offset: wire.GetOffset(), Size: wire.GetSize()}
	available, err := shm.Available(h, who)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	if need == 0 {
		need = available
	}
	n, err := h.Length(need, f.maxTensor)
	if err == nil && uint64(n) > available {
		err = &shm.Error{Kind: shm.ErrTooSmall}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	if err := f.budget.Take(int64(n)); err != nil {
		return nil, err
	}
	f.reserved += int64(n)
	b := make([]byte, n)
	if err := shm.Copy(b, h, who); err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	return b, nil
}

// checkCapture refuses what no capture could keep. Clients name tensors as they
// like, send bytes that disagree with the metadata, and send none at all: all
// that is theirs to know. The error is a gRPC status.
func checkCapture(in *agentapi.CaptureDataRequest, now time.Time) error {
	switch id := in.GetCaptureId(); {
	case id == "":
		return status.Error(codes.InvalidArgument, "the capture_id is empty")
	case len(id) > maxCaptureIDBytes:
		return status.Errorf(codes.InvalidArgument, "the capture_id is longer than %d bytes", maxCaptureIDBytes)
	case strings.ContainsFunc(id, unicode.IsControl):
		return status.Error(codes.InvalidArgument, "the capture_id has characters that cannot be printed")
	}
	if err := checkTimestamp(in.GetInferenceTimestamp(), now); err != nil {
		return err
	}
	if max(len(in.GetInputTensors()), len(in.GetOutputTensors()), len(in.GetInputs()), len(in.GetOutputs())) > maxCapturedCount {
		return status.Errorf(codes.InvalidArgument, "there are more than %d tensors or data of one kind", maxCapturedCount)
	}
	for _, side := range [][]*agentapi.Tensor{in.GetInputTensors(), in.GetOutputTensors()} {
		for _, t := range side {
			if _, err := readHint(t.GetTensorMetadata()); err != nil {
				return status.Errorf(codes.InvalidArgument, "tensor %q: %v", failure.Clip(t.GetTensorMetadata().GetName()), err)
			}
			if t.GetData() == nil {
				return status.Errorf(codes.InvalidArgument, "tensor %q carries no data: set byte_data or shared_memory_handle", failure.Clip(t.GetTensorMetadata().GetName()))
			}
		}
	}
	for _, side := range [][]*agentapi.AuxilaryData{in.GetInputs(), in.GetOutputs()} {
		for _, data := range side {
			if _, known := agentapi.Encoding_name[int32(data.GetEncoding())]; !known {
				return status.Errorf(codes.InvalidArgument, "data %q: its encoding %d is none of the interface", failure.Clip(data.GetName()), int32(data.GetEncoding()))
			}
		}
	}
	return nil
}

func checkTimestamp(t *agentapi.Timestamp, now time.Time) error {
	if t == nil {
		return nil // the time of receipt stands for it
	}
	if t.GetNanos() < 0 || t.GetNanos() > 999_999_999 || t.GetSeconds() < minSeconds || t.GetSeconds() > maxSeconds {
		return status.Error(codes.InvalidArgument, "the inference_timestamp is no time: nanos must be from 0 to 999999999, the year from 1700 to 2199")
	}
	if at := time.Unix(t.GetSeconds(), int64(t.GetNanos())); at.After(now.Add(clockSkew)) {
		return status.Error(codes.OutOfRange, fmt.Sprintf("the inference_timestamp is more than %v in the future: check the client's clock", clockSkew))
	}
	return nil
}
