package oip

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/server/local"
	"github.com/picket-ml/picket/tensor"
)

// targetModel is the header in which SageMaker's runtime names one of the models
// of an endpoint.
const targetModel = "X-Amzn-SageMaker-Target-Model"

// inferenceID is the header by which a caller names an inference, to say later what
// became of it; the answer repeats it.
const inferenceID = "X-Amzn-SageMaker-Inference-Id"

// invocations answers as the containers of SageMaker do: rows in, a prediction a
// row out.
func (s *Server) invocations(w http.ResponseWriter, r *http.Request) error {
	reply, err := replyType(r)
	if err != nil {
		return err
	}
	b, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer b.release()
	name, err := s.target(r)
	if err != nil {
		return err
	}
	span := s.tracer.Of(r)
	model, err := s.acquire(name, "")
	if err != nil {
		span.Asked(name)
		return err
	}
	defer model.Release()
	span.Model(model)
	request, reserved, err := newRowsRequest(model, b.data, s.limits.MaxMessage, s.budget)
	if err != nil {
		model.Refused(err)
		return err
	}
	defer s.budget.Give(reserved)
	defer request.Release()
	if id := r.Header.Get(inferenceID); id != "" {
		w.Header().Set(inferenceID, id)
		if model.Tapped() {
			request.Identify([]byte(id))
		}
	}
	span.Request(request)
	if err := request.Predict(r.Context()); err != nil {
		return err
	}
	answer, err := appendRows(nil, request.Outputs, request.Rows, reply)
	if err != nil {
		return err
	}
	return writeBody(w, reply, answer)
}

const (
	csvType  = "text/csv"
	jsonType = "application/json"
)

// replyType is the type of the answer: what Accept asks for, else the type of the
// question.
func replyType(r *http.Request) (string, error) {
	sent := contentType(r.Header.Get("Content-Type"))
	switch sent {
	case "", csvType, jsonType, "application/jsonlines", "application/x-jsonlines":
	case "application/x-recordio-protobuf":
		return "", &statusError{http.StatusUnsupportedMediaType, errors.New("application/x-recordio-protobuf is not supported: send text/csv or application/json")}
	default:
		return "", &statusError{http.StatusUnsupportedMediaType, fmt.Errorf("the content type %q is not supported: send text/csv or application/json", failure.Clip(sent))}
	}
	for accepted := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		switch contentType(accepted) {
		case csvType:
			return csvType, nil
		case jsonType:
			return jsonType, nil
		case "", "*/*", "application/*", "text/*":
			if sent == csvType {
				return csvType, nil
			}
			return jsonType, nil
		}
	}
	return "", &statusError{http.StatusNotAcceptable, errors.New("none of the types in Accept is supported: text/csv and application/json are")}
}

// contentType is the type without parameters, in lower case.
func contentType(header string) string {
	if kind, _, err := mime.ParseMediaType(header); err == nil {
		return kind
	}
	kind, _, _ := strings.Cut(header, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// target is the name of the model that is asked: what the header says, or the only
// one there is.
func (s *Server) target(r *http.Request) (string, error) {
	if name := r.Header.Get(targetModel); name != "" {
		return name, nil
	}
	list := s.engine.List()
	switch len(list) {
	case 1:
		return list[0].Name, nil
	case 0:
		return "", fmt.Errorf("%w: no model is loaded", engine.ErrNotFound)
	}
	return "", fmt.Errorf("%w: %d models are loaded: name one in the header %s", engine.ErrInvalidInput, len(list), targetModel)
}

// newRowsRequest turns rows of text into a filled request, which the caller
// releases, and reserves what its tensors take, which the caller gives back. limit
// is the most bytes that its tensors may have. Errors wrap engine.ErrInvalidInput,
// engine.ErrMemory, engine.ErrBusy or failure.ErrTooLarge.
func newRowsRequest(model *engine.Snapshot, text []byte, limit int64, budget *local.Budget) (_ *engine.Request, reserved int64, err error) {
	specs := model.Signature().Inputs
	inputs := make([]rows.Input, len(specs))
	for i := range specs {
		bytes, err := specs[i].RowBytes()
		if err != nil {
			return nil, 0, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
		}
		inputs[i] = rows.Input{Name: specs[i].Name, DType: specs[i].DType, Elements: bytes / specs[i].DType.Size()}
	}
	text, err = instances(text)
	if err != nil {
		return nil, 0, err
	}
	reader, err := rows.NewReader(bytes.NewReader(text), inputs)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	data := make([][]byte, len(specs))
	n := 0
	for ; ; n++ {
		if err = reader.Read(data); err != nil {
			break
		}
		size := int64(0)
		for i := range data {
			size += int64(len(data[i]))
		}
		if size > limit {
			return nil, 0, fmt.Errorf("%w: the rows are larger than %d bytes: send fewer at a time", engine.ErrInvalidInput, limit)
		}
	}
	switch {
	case !errors.Is(err, io.EOF):
		return nil, 0, fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	case n == 0:
		return nil, 0, fmt.Errorf("%w: the body has no rows", engine.ErrInvalidInput)
	}
	reserved = local.OutputBytes(model.Signature(), n, false)
	for i := range data {
		reserved += int64(len(data[i]))
	}
	if err := budget.Take(reserved); err != nil {
		return nil, 0, err
	}
	request, err := model.NewRequest(n)
	if err != nil {
		budget.Give(reserved)
		return nil, 0, err
	}
	for i := range data {
		copy(request.Inputs[i].Bytes(), data[i])
	}
	return request, reserved, nil
}

// instances is the rows in a JSON object that has them as a member, as several of
// SageMaker's containers take them; all other text is rows itself.
func instances(text []byte) ([]byte, error) {
	s := &scanner{text: text}
	if s.peek() != '{' {
		return text, nil
	}
	var found []byte
	err := s.object(func(key []byte) error {
		value, err := s.skip(1)
		if string(key) == "instances" {
			found = value
		}
		return err
	})
	if found == nil {
		return text, nil // a row by itself, or no JSON, which its reader says better
	}
	if err == nil {
		err = s.end()
	}
	return found, err
}

// appendRows appends a line, or an element, for each row.
func appendRows(b []byte, outputs []tensor.Tensor, n int, kind string) ([]byte, error) {
	style, open, between, shut := rows.JSON, `{"predictions":[`, ",", "]}"
	if kind == csvType {
		style, open, between, shut = rows.Text, "", "\n", "\n"
	}
	b = append(b, open...)
	for row := range n {
		if row > 0 {
			b = append(b, between...)
		}
		var err error
		if b, err = appendRow(b, outputs, row, n, style); err != nil {
			return nil, err
		}
	}
	return append(b, shut...), nil
}

// appendRow appends the outputs of one row of n. As JSON, one number is a number,
// several are an array, and several outputs are an object of these.
func appendRow(b []byte, outputs []tensor.Tensor, row, n int, style rows.Style) ([]byte, error) {
	if style == rows.JSON && len(outputs) > 1 {
		b = append(b, '{')
	}
	for i, t := range outputs {
		if i > 0 {
			b = append(b, ',')
		}
		if style == rows.JSON && len(outputs) > 1 {
			b = append(appendText(b, failure.ValidText(t.Name)), ':')
		}
		size := t.Size() / n
		array := style == rows.JSON && size != t.DType.Size()
		if array {
			b = append(b, '[')
		}
		var err error
		if b, err = rows.Append(b, t.Bytes()[row*size:(row+1)*size], t.DType, style); err != nil {
			return nil, fmt.Errorf("writing output %q: %w", t.Name, err)
		}
		if array {
			b = append(b, ']')
		}
	}
	if style == rows.JSON && len(outputs) > 1 {
		b = append(b, '}')
	}
	return b, nil
}
