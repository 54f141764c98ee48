package upload

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/format"
)

// maxPayload is the largest tensor that is brought into memory to leave; what is larger
// stays.
const maxPayload = 256 << 20

// errUnfit is that of a record which can never leave.
var errUnfit = errors.New("it stays here")

// convert is a captured record as the policy takes it: with bytes of its own, because
// those of a batch belong to all who read it.
func convert(w Work, r *capture.Record) (format.Record, error) {
	out := format.Record{
		Number: r.ID.Sequence, ID: valid(r.Name()), InferenceID: valid(r.Inference), Model: valid(r.Model), Version: valid(r.Version), Time: r.Time,
	}
	if r.Kind == capture.Truth {
		if len(r.AuxOutputs) != 1 {
			return out, fmt.Errorf("an outcome has %d parts and must have one: %w", len(r.AuxOutputs), errUnfit)
		}
		p := &r.AuxOutputs[0]
		data, err := content(w, p.Data, p.Beside)
		if err != nil {
			return out, err
		}
		encoding := "CSV"
		if p.Encoding == capture.JSON {
			encoding = "JSON"
		}
		out.Truth = &format.Truth{Data: valid(string(data)), Encoding: encoding}
		return out, nil
	}
	var err error
	if out.Inputs, err = tensors(w, r.Inputs); err != nil {
		return out, err
	}
	if out.Outputs, err = tensors(w, r.Outputs); err != nil {
		return out, err
	}
	if out.AuxiliaryInputs, err = auxiliary(w, r.AuxInputs); err != nil {
		return out, err
	}
	out.AuxiliaryOutputs, err = auxiliary(w, r.AuxOutputs)
	return out, err
}

func tensors(w Work, all []capture.Tensor) ([]format.Tensor, error) {
	out := make([]format.Tensor, len(all))
	for i := range all {
		t := &all[i]
		data, err := content(w, t.Data, t.Beside)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		out[i] = format.Tensor{Name: valid(t.Name), DType: t.DType, Shape: slices.Clone(t.Shape), Data: data}
	}
	return out, nil
}

func auxiliary(w Work, all []capture.Payload) ([]format.Auxiliary, error) {
	out := make([]format.Auxiliary, len(all))
	for i := range all {
		p := &all[i]
		data, err := content(w, p.Data, p.Beside)
		if err != nil {
			return nil, fmt.Errorf("auxiliary data %q: %w", p.Name, err)
		}
		out[i] = format.Auxiliary{Name: valid(p.Name), Data: data, Encoding: p.Encoding.String(), ContentType: valid(p.Name)}
	}
	return out, nil
}

// content is a copy of bytes that lie in the record or beside it.
func content(w Work, data []byte, beside *capture.Beside) ([]byte, error) {
	if beside == nil {
		return bytes.Clone(data), nil
	}
	if beside.Size > maxPayload {
		return nil, fmt.Errorf("it has %d bytes, and at most %d leave: %w", beside.Size, maxPayload, errUnfit)
	}
	return w.Beside(beside)
}

func valid(text string) string { return strings.ToValidUTF8(text, "�") }
