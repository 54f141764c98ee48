package agent

import (
	"strings"
	"testing"

	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// Refusals count in words that fit the number, and do not print shapes whole.
func TestSentencesOfRefusals(t *testing.T) {
	f := startRowsOf3(t, Options{})
	for want, tensors := range map[string][]*agentapi.Tensor{
		"the request has 0 tensors, the model has 1 input": {},
		"it has 1 byte, ": {tensorOf("", 0, nil, pattern(1))},
		"its shape [2 3] is not that of the 1 row that":                    {tensorOf("data", f32, []int32{2, 3}, pattern(12))},
		"its shape [1 1 1 1 1 1 1 1 …] is not that of the 2 rows that its": {tensorOf("data", f32, []int32{1, 1, 1, 1, 1, 1, 1, 1, 3}, pattern(24))},
	} {
		_, err := f.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: tensors})
		if got := status.Convert(err).Message(); !strings.Contains(got, want) {
			t.Errorf("the message is %q, which does not say %q", got, want)
		}
	}
}

// What LoadModel says of a request has no digits, and still says what is wrong.
func TestSentencesOfLoadModel(t *testing.T) {
	f := startRowsOf3(t, Options{})
	for want, in := range map[string]*agentapi.LoadModelRequest{
		"too long":     {Name: strings.Repeat("a", 300), Url: "fraud"},
		"local folder": {Name: "cards", Url: "s3://bucket/cards"},
	} {
		_, err := f.LoadModel(t.Context(), in)
		if got := status.Convert(err).Message(); !strings.Contains(got, want) || strings.ContainsAny(got, "0123456789") {
			t.Errorf("the message is %q, which does not say %q, or has digits", got, want)
		}
	}
}
