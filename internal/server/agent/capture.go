package agent

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/server/failure"
)

const (
	maxCaptureIDBytes = 256
	// clockSkew is how far ahead a client's clock may be. Containers share the
	// host's clock; clients beyond a bridge do not.
	clockSkew = 5 * time.Minute
	// Seconds of the years 1 and 9999: beyond, a time cannot be written down.
	minSeconds, maxSeconds = -62135596800, 253402300799
)

// CaptureData implements agentapi.AgentServer: it checks the request as the
// interface says and then refuses, because nothing is captured yet, and a
// client must not believe that something was kept.
func (s *service) CaptureData(_ context.Context, in *agentapi.CaptureDataRequest) (*agentapi.CaptureDataResponse, error) {
	model, err := s.acquire("capturing data", in.GetModelName())
	if err != nil {
		return nil, err
	}
	model.Release()
	if err := checkCapture(in, time.Now()); err != nil {
		return nil, err
	}
	return nil, status.Error(codes.FailedPrecondition, "nothing was captured: this version of Picket does not capture data")
}

// GetCaptureDataStatus implements agentapi.AgentServer: no id is known.
func (s *service) GetCaptureDataStatus(context.Context, *agentapi.GetCaptureDataStatusRequest) (*agentapi.GetCaptureDataStatusResponse, error) {
	return &agentapi.GetCaptureDataStatusResponse{Status: agentapi.CaptureDataStatus_NOT_FOUND}, nil
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
		return status.Error(codes.InvalidArgument, "the inference_timestamp is no time: nanos must be from 0 to 999999999, the year from 1 to 9999")
	}
	if at := time.Unix(t.GetSeconds(), int64(t.GetNanos())); at.After(now.Add(clockSkew)) {
		return status.Error(codes.OutOfRange, fmt.Sprintf("the inference_timestamp is more than %v in the future: check the client's clock", clockSkew))
	}
	return nil
}
