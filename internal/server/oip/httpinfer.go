package oip

import (
	"fmt"
	"net/http"
	"strconv"

	"google.golang.org/grpc/mem"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/internal/server/failure"
)

// headerLength is how long the JSON before the binary tensors is.
const headerLength = "Inference-Header-Content-Length"

// httpInfer answers one prediction over HTTP.
func (s *Server) httpInfer(w http.ResponseWriter, r *http.Request) error {
	b, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	defer b.release()
	m := newMessage()
	defer m.release()
	m.model, m.version = []byte(r.PathValue("model")), []byte(r.PathValue("version"))
	if err := s.readInfer(m, b.data, r.Header.Get(headerLength)); err != nil {
		return err
	}
	p, err := s.predict(r.Context(), m, s.tracer.Of(r))
	if err != nil {
		return err
	}
	defer p.release()
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(p.sizeBound())
	defer pool.Put(buffer)
	header, answer, err := p.appendHTTP((*buffer)[:0])
	if err != nil {
		return err
	}
	kind := "application/json"
	if header < len(answer) {
		kind = "application/octet-stream"
		w.Header().Set(headerLength, strconv.Itoa(header))
	}
	return writeBody(w, kind, answer)
}

// readInfer decodes the body of an inference request; length is what the header
// says of its JSON.
func (s *Server) readInfer(m *message, data []byte, length string) error {
	if length == "" {
		if len(data) == 0 {
			return fmt.Errorf("%w: %w", engine.ErrInvalidInput, errNoBody)
		}
		return m.decodeJSON(data, nil)
	}
	n, err := strconv.ParseUint(length, 10, 31)
	if err != nil || int(n) > len(data) {
		return fmt.Errorf("%w: the header %s is %q, the body has %s", engine.ErrInvalidInput, headerLength, failure.Clip(length), failure.Counted(len(data), "byte"))
	}
	if n > 0 {
		return m.decodeJSON(data[:n], data[n:])
	}
	model, err := s.acquire(string(m.model), string(m.version))
	if err != nil {
		return err
	}
	defer model.Release()
	return m.bareInput(data, model.Signature())
}

// appendHTTP appends the answer: JSON, and the binary tensors behind it. header is
// the length of the JSON.
func (p prediction) appendHTTP(b []byte) (header int, _ []byte, err error) {
	b = appendText(append(b, `{"model_name":`...), p.model.Name())
	b = appendText(append(b, `,"model_version":`...), versionOf(p.model.Version()))
	if len(p.message.id) > 0 {
		b = appendText(append(b, `,"id":`...), string(p.message.id))
	}
	b = append(b, `,"outputs":[`...)
	for i := range p.message.outputs {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = p.appendHTTPOutput(b, &p.message.outputs[i]); err != nil {
			return 0, nil, err
		}
	}
	b = append(b, "]}"...)
	header = len(b)
	for i := range p.message.outputs {
		if out := &p.message.outputs[i]; p.isBinary(out) {
			b = append(b, p.request.Outputs[out.tensor].Bytes()...)
		}
	}
	return header, b, nil
}

// isBinary tells whether an output follows the JSON.
func (p prediction) isBinary(out *output) bool {
	return out.place.region == nil && (out.form == asBinary || out.form == byDefault && p.message.binary)
}

func (p prediction) appendHTTPOutput(b []byte, out *output) ([]byte, error) {
	t := p.request.Outputs[out.tensor]
	b = appendText(append(b, `{"name":`...), failure.ValidText(t.Name))
	b = append(append(append(b, `,"datatype":"`...), t.DType.String()...), `","shape":[`...)
	for i := range t.Shape.Rank() {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, t.Shape.Dim(i), 10)
	}
	b = append(b, ']')
	switch {
	case out.place.region != nil:
		// Nothing more: clients in C++ take parameters for those of a binary tensor.
		return append(b, '}'), nil
	case p.isBinary(out):
		b = strconv.AppendInt(append(b, `,"parameters":{"binary_data_size":`...), int64(t.Size()), 10)
		return append(b, "}}"...), nil
	}
	b, err := rows.Append(append(b, `,"data":[`...), t.Bytes(), t.DType, rows.JSON)
	if err != nil {
		return nil, fmt.Errorf("writing output %q as JSON: %w", t.Name, err)
	}
	return append(b, "]}"...), nil
}
