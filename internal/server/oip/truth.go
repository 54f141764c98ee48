package oip

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/server/failure"
)

// maxTruths is how many outcomes one request may have.
const maxTruths = 10_000

// outcomeName is what the outcome of an inference is called in its record.
const outcomeName = "outcome"

// outcome is what became of one inference.
type outcome struct {
	ID      string          `json:"id"`
	Outcome json.RawMessage `json:"outcome"`
	Time    time.Time       `json:"time"`
}

// truth keeps what became of inferences, each by what its caller called it. The model
// need not be loaded any more. It answers when all of them are durable, and else keeps
// none.
func (s *Server) truth(w http.ResponseWriter, r *http.Request) error {
	model := r.PathValue("model")
	if err := engine.CheckName(model); err != nil {
		return err
	}
	b, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer b.release()
	var entries []*capture.Entry
	now := time.Now()
	add := func(id string, at time.Time, data []byte, as capture.Encoding) error {
		switch {
		case id == "" || len(id) > capture.MaxInference:
			return fmt.Errorf("%w: outcome %d has an id of %d bytes, it must have 1 to %d", engine.ErrInvalidInput, len(entries)+1, len(id), capture.MaxInference)
		case len(data) == 0:
			return fmt.Errorf("%w: the outcome of %q is missing", engine.ErrInvalidInput, failure.Clip(id))
		case len(entries) == maxTruths:
			return fmt.Errorf("%w: there are more than %d outcomes: send them in parts", engine.ErrInvalidInput, maxTruths)
		case at.After(now.Add(truthSkew)) || !at.IsZero() && at.Year() < 1970:
			return fmt.Errorf("%w: the time of the outcome of %q is %v: check the clock", engine.ErrInvalidInput, failure.Clip(id), at)
		case at.IsZero():
			at = now
		}
		entries = append(entries, capture.Single(&capture.Record{
			Inference: id, Time: at, Model: model, Kind: capture.Truth,
			AuxOutputs: []capture.Payload{{Name: outcomeName, Encoding: as, Data: data}},
		}))
		return nil
	}
	switch kind := contentType(r.Header.Get("Content-Type")); kind {
	case csvType:
		err = readTruthCSV(b.data, add)
	case "", jsonType, "application/jsonlines", "application/x-jsonlines", "application/x-www-form-urlencoded": // the last is what curl says
		err = readTruthJSON(b.data, add)
	default:
		err = &statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the content type %q is not supported: send application/json or text/csv", failure.Clip(kind))}
	}
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("%w: the body has no outcomes", engine.ErrInvalidInput)
	}
	if err := s.limits.Capture.Keep(r.Context(), entries...); err != nil {
		if errors.Is(err, capture.ErrOff) {
			return &statusError{http.StatusConflict, err}
		}
		return err
	}
	return writeJSON(w, map[string]int{"accepted": len(entries)})
}

// truthSkew is how far ahead a caller's clock may be.
const truthSkew = 5 * time.Minute

type addTruth func(id string, at time.Time, data []byte, as capture.Encoding) error

// readTruthJSON reads objects, one behind the other or in arrays.
func readTruthJSON(text []byte, add addTruth) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: the body is no JSON: %w", engine.ErrInvalidInput, err)
		}
		var several []outcome
		if raw[0] != '[' {
			raw = append(append([]byte{'['}, raw...), ']')
		}
		inner := json.NewDecoder(bytes.NewReader(raw))
		inner.DisallowUnknownFields()
		if err := inner.Decode(&several); err != nil {
			return fmt.Errorf("%w: an outcome is an object with id, outcome and, if need be, time: %w", engine.ErrInvalidInput, err)
		}
		for _, o := range several {
			if string(o.Outcome) == "null" {
				o.Outcome = nil
			}
			if err := add(o.ID, o.Time, o.Outcome, capture.JSON); err != nil {
				return err
			}
		}
	}
}

// readTruthCSV reads lines of an id and an outcome.
func readTruthCSV(text []byte, add addTruth) error {
	r := csv.NewReader(bytes.NewReader(text))
	r.FieldsPerRecord = -1
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: the body is no CSV: %w", engine.ErrInvalidInput, err)
		}
		if len(fields) != 2 {
			return fmt.Errorf("%w: a line has %s, it must have an id and an outcome", engine.ErrInvalidInput, failure.Counted(len(fields), "field"))
		}
		if err := add(fields[0], time.Time{}, []byte(fields[1]), capture.CSV); err != nil {
			return err
		}
	}
}
