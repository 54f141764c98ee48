package oip

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

// decodeJSON reads the JSON of an inference request. tail is what follows it in
// the body: the tensors of the binary extension. The message points into both from
// then on. Members that are not known are passed over. Errors wrap
// engine.ErrInvalidInput.
func (m *message) decodeJSON(text, tail []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("%w: the JSON is not valid UTF-8", engine.ErrInvalidInput)
	}
	s := &scanner{text: text}
	err := s.object(func(key []byte) (err error) {
		switch string(key) {
		case "id":
			m.id, err = s.string()
		case "parameters":
			err = s.object(func(key []byte) error { return m.memberParameter(s, key) })
		case "inputs":
			err = s.array(func() error { return m.decodeJSONInput(s) })
		case "outputs":
			err = s.array(func() error { return m.decodeJSONOutput(s) })
		default:
			_, err = s.skip(1)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = m.distributeTail(tail)
	}
	return err
}

func (m *message) memberParameter(s *scanner, key []byte) error {
	value, err := s.parameter()
	if err != nil {
		return err
	}
	if string(key) == "binary_data_output" {
		m.binary, err = value.truth("binary_data_output")
		return err
	}
	return m.takeParameter(key, value)
}

func (m *message) decodeJSONInput(s *scanner) error {
	if len(m.inputs) == maxTensors {
		return errTooManyTensors
	}
	m.inputs = append(m.inputs, input{binarySize: -1})
	in := &m.inputs[len(m.inputs)-1]
	err := s.object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			in.name, err = s.string()
		case "datatype":
			in.datatype, err = s.string()
		case "shape":
			in.shape = dims{}
			err = s.array(func() error {
				v, err := s.whole()
				in.shape.add(v)
				return err
			})
		case "parameters":
			err = s.object(func(key []byte) error {
				value, err := s.parameter()
				if err != nil {
					return err
				}
				if string(key) == "binary_data_size" {
					size, err := value.whole("binary_data_size")
					in.binarySize = int64(size)
					return err
				}
				return in.place.take(key, value)
			})
		case "data":
			in.form = jsonText
			in.data, err = s.skip(1)
		default:
			_, err = s.skip(1)
		}
		return err
	})
	if err != nil {
		return err
	}
	if in.binarySize >= 0 {
		if in.form != absent {
			return fmt.Errorf("%w: input %q has data and binary_data_size; send one of the two", engine.ErrInvalidInput, failure.Clip(in.name))
		}
		in.form = rawBytes
	}
	return in.settlePlace()
}

func (m *message) decodeJSONOutput(s *scanner) error {
	if len(m.outputs) == maxTensors {
		return errTooManyTensors
	}
	m.outputs = append(m.outputs, output{})
	out := &m.outputs[len(m.outputs)-1]
	return s.object(func(key []byte) (err error) {
		switch string(key) {
		case "name":
			out.name, err = s.string()
		case "parameters":
			err = s.object(func(key []byte) error { return out.memberParameter(s, key) })
		default:
			_, err = s.skip(1)
		}
		return err
	})
}

func (out *output) memberParameter(s *scanner, key []byte) error {
	value, err := s.parameter()
	if err != nil {
		return err
	}
	switch string(key) {
	case "binary_data":
		binary, err := value.truth("binary_data")
		out.form = asJSON
		if binary {
			out.form = asBinary
		}
		return err
	case "classification":
		return errClassification
	}
	return out.place.take(key, value)
}

// distributeTail gives each input with a binary_data_size its part of tail.
func (m *message) distributeTail(tail []byte) error {
	for i := range m.inputs {
		in := &m.inputs[i]
		if in.form != rawBytes {
			continue
		}
		if in.binarySize > int64(len(tail)) {
			return fmt.Errorf("%w: input %q has a binary_data_size of %d, %d bytes are left in the body", engine.ErrInvalidInput, failure.Clip(in.name), in.binarySize, len(tail))
		}
		in.data, tail = tail[:in.binarySize:in.binarySize], tail[in.binarySize:]
	}
	if len(tail) > 0 {
		return fmt.Errorf("%w: %s follow the JSON and the tensors that it names", engine.ErrInvalidInput, failure.Counted(len(tail), "byte"))
	}
	return nil
}

// bareInput makes the message one that consists of nothing but the bytes of the
// only input of a model.
func (m *message) bareInput(body []byte, signature *engine.Signature) error {
	if len(signature.Inputs) != 1 {
		return fmt.Errorf("%w: a body without JSON is for models of one input; this one has %d", engine.ErrInvalidInput, len(signature.Inputs))
	}
	spec := &signature.Inputs[0]
	row, err := spec.RowBytes()
	if err != nil {
		return err
	}
	if row == 0 || len(body) == 0 || len(body)%row != 0 {
		return fmt.Errorf("%w: the body has %s, %s takes a multiple of %d", engine.ErrInvalidInput, failure.Counted(len(body), "byte"), spec, row)
	}
	in := input{name: []byte(failure.ValidText(spec.Name)), datatype: []byte(spec.DType.String()), form: rawBytes, data: body, binarySize: -1}
	for i, d := range spec.Dims {
		if i == 0 && d == engine.Variable {
			d = int64(len(body) / row)
		}
		in.shape.add(d)
	}
	m.inputs = append(m.inputs, in)
	m.binary = true
	return nil
}

var errNoBody = errors.New("the body is empty")
