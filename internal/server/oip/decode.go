package oip

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
)

// maxTensors bounds the inputs and the outputs that a message names: far more
// than a model has, and few enough that a message of nothing but empty tensors
// does not grow in memory.
const maxTensors = 4096

// errNotProtobuf is for bytes that are no message at all.
var errNotProtobuf = fmt.Errorf("%w: the request is not a ModelInferRequest in protobuf's encoding", engine.ErrInvalidInput)

// fields calls each for every field of a protobuf message: number is the value of
// varints and fixed-width fields, data the bytes of length-delimited ones. Groups,
// which the protocol does not use, are skipped.
func fields(b []byte, each func(field protowire.Number, kind protowire.Type, number uint64, data []byte) error) error {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errNotProtobuf
		}
		b = b[n:]
		var number uint64
		var data []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			number = uint64(v)
		case protowire.Fixed64Type:
			number, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			data, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return errNotProtobuf
		}
		b = b[n:]
		if err := each(field, kind, number, data); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a ModelInferRequest. The message points into b from then on. Fields
// of another wire type than the protocol's are skipped, as unknown ones are.
// Errors wrap engine.ErrInvalidInput.
func (m *message) decode(b []byte) error {
	err := fields(b, func(field protowire.Number, kind protowire.Type, _ uint64, data []byte) error {
		if kind != protowire.BytesType {
			return nil
		}
		switch field {
		case 1:
			m.model = data
		case 2:
			m.version = data
		case 3:
			m.id = data
		case 4:
			return m.decodeParameter(data)
		case 5:
			return m.decodeInput(data)
		case 6:
			return m.decodeOutput(data)
		case 7:
			if len(m.raw) == maxTensors {
				return errTooManyTensors
			}
			m.raw = append(m.raw, data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !utf8.Valid(m.id) {
		return fmt.Errorf("%w: the id is not valid UTF-8", engine.ErrInvalidInput)
	}
	return m.distributeRaw()
}

var errTooManyTensors = fmt.Errorf("%w: the request names more than %d tensors", engine.ErrInvalidInput, maxTensors)

// distributeRaw gives each input that is not in shared memory its
// raw_input_contents.
func (m *message) distributeRaw() error {
	if len(m.raw) == 0 {
		return nil
	}
	next := 0
	for i := range m.inputs {
		in := &m.inputs[i]
		switch {
		case in.form == elements:
			return fmt.Errorf("%w: input %q has contents beside raw_input_contents; send one of the two", engine.ErrInvalidInput, failure.Clip(in.name))
		case in.form == shared:
		case next == len(m.raw):
			return fmt.Errorf("%w: the request has %d raw_input_contents, fewer than inputs", engine.ErrInvalidInput, len(m.raw))
		default:
			in.form, in.data = rawBytes, m.raw[next]
			next++
		}
	}
	if next != len(m.raw) {
		return fmt.Errorf("%w: the request has %d raw_input_contents for %d inputs that are not in shared memory", engine.ErrInvalidInput, len(m.raw), next)
	}
	return nil
}

func (m *message) decodeInput(b []byte) error {
	if len(m.inputs) == maxTensors {
		return errTooManyTensors
	}
	m.inputs = append(m.inputs, input{binarySize: -1})
	in := &m.inputs[len(m.inputs)-1]
	err := fields(b, func(field protowire.Number, kind protowire.Type, number uint64, data []byte) error {
		switch {
		case field == 3 && kind == protowire.VarintType:
			in.shape.add(int64(number))
		case kind != protowire.BytesType:
		case field == 1:
			in.name = data
		case field == 2:
			in.datatype = data
		case field == 3:
			return in.shape.decodePacked(data)
		case field == 4:
			key, value, err := decodeEntry(data)
			if err != nil {
				return err
			}
			return in.place.take(key, value)
		case field == 5:
			if in.form == elements {
				return fmt.Errorf("%w: input %q has contents twice", engine.ErrInvalidInput, failure.Clip(in.name))
			}
			in.form, in.data = elements, data
		}
		return nil
	})
	if err != nil {
		return err
	}
	return in.settlePlace()
}

// settlePlace makes an input with a region one in shared memory.
func (in *input) settlePlace() error {
	if in.place.region == nil {
		return nil
	}
	if in.form != absent {
		return fmt.Errorf("%w: input %q is in shared memory and in the request; send one of the two", engine.ErrInvalidInput, failure.Clip(in.name))
	}
	in.form = shared
	return nil
}

func (m *message) decodeOutput(b []byte) error {
	if len(m.outputs) == maxTensors {
		return errTooManyTensors
	}
	m.outputs = append(m.outputs, output{})
	out := &m.outputs[len(m.outputs)-1]
	return fields(b, func(field protowire.Number, kind protowire.Type, _ uint64, data []byte) error {
		switch {
		case kind != protowire.BytesType:
		case field == 1:
			out.name = data
		case field == 2:
			key, value, err := decodeEntry(data)
			if err != nil {
				return err
			}
			if string(key) == "classification" {
				return errClassification
			}
			return out.place.take(key, value)
		}
		return nil
	})
}

var errClassification = fmt.Errorf("%w: the parameter classification is not supported; ask for the whole output", engine.ErrInvalidInput)

func (m *message) decodeParameter(b []byte) error {
	key, value, err := decodeEntry(b)
	if err != nil {
		return err
	}
	return m.takeParameter(key, value)
}

// takeParameter minds the parameters of a request that mean something here.
func (m *message) takeParameter(key []byte, value parameter) error {
	if string(key) != "timeout" {
		return nil
	}
	us, err := value.whole("timeout")
	if err != nil {
		return err
	}
	m.timeout = time.Duration(min(us, math.MaxInt64/1000)) * time.Microsecond
	return nil
}

func (d *dims) decodePacked(b []byte) error {
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return errNotProtobuf
		}
		d.add(int64(v))
		b = b[n:]
	}
	return nil
}

// parameter is the value of an InferParameter, or of a member of a JSON object of
// parameters.
type parameter struct {
	kind   parameterKind
	text   []byte
	number int64 // also 0 and 1 for truth
}

type parameterKind uint8

const (
	otherParameter parameterKind = iota
	truthParameter
	wholeParameter
	textParameter
)

// whole is a number that is not negative.
func (p parameter) whole(name string) (uint64, error) {
	if p.kind != wholeParameter || p.number < 0 {
		return 0, fmt.Errorf("%w: the parameter %s must be a whole number of 0 or more", engine.ErrInvalidInput, name)
	}
	return uint64(p.number), nil
}

// truth is true or false.
func (p parameter) truth(name string) (bool, error) {
	if p.kind != truthParameter {
		return false, fmt.Errorf("%w: the parameter %s must be true or false", engine.ErrInvalidInput, name)
	}
	return p.number != 0, nil
}

// decodeEntry reads an entry of a map of InferParameters.
func decodeEntry(b []byte) (key []byte, value parameter, err error) {
	err = fields(b, func(field protowire.Number, kind protowire.Type, _ uint64, data []byte) error {
		switch {
		case kind != protowire.BytesType:
		case field == 1:
			key = data
		case field == 2:
			return value.decode(data)
		}
		return nil
	})
	return key, value, err
}

func (p *parameter) decode(b []byte) error {
	return fields(b, func(field protowire.Number, kind protowire.Type, number uint64, data []byte) error {
		switch {
		case field == 1 && kind == protowire.VarintType:
			*p = parameter{kind: truthParameter}
			if number != 0 {
				p.number = 1
			}
		case field == 2 && kind == protowire.VarintType:
			*p = parameter{kind: wholeParameter, number: int64(number)}
		case field == 3 && kind == protowire.BytesType:
			*p = parameter{kind: textParameter, text: data}
		case field == 4 && kind == protowire.Fixed64Type:
			*p = parameter{}
		case field == 5 && kind == protowire.VarintType:
			*p = parameter{kind: wholeParameter, number: int64(min(number, math.MaxInt64))}
		}
		return nil
	})
}

// take minds the parameters that place a tensor in shared memory.
func (p *place) take(key []byte, value parameter) (err error) {
	switch string(key) {
	case "shared_memory_region":
		if value.kind != textParameter || len(value.text) == 0 {
			return fmt.Errorf("%w: the parameter shared_memory_region must be the name of a region", engine.ErrInvalidInput)
		}
		p.region = value.text
	case "shared_memory_offset":
		p.offset, err = value.whole("shared_memory_offset")
	case "shared_memory_byte_size":
		p.sized = true
		p.size, err = value.whole("shared_memory_byte_size")
	}
	return err
}

// errElements is for typed contents that are not of the input's type.
var errElements = errors.New("its contents are not in the field of its datatype, or not encoded as such")
