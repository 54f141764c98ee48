// Package onnxfile writes ONNX files for tests and benchmarks, field by field and so unsound ones too. The numbers are those of the
// fields in onnx.proto.
package onnxfile

import (
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Float is ONNX's number of the element type float32.
const Float = 1

// Message is a protocol buffers message in the making. Each method appends a field.
type Message []byte

// Text appends a string.
func (m Message) Text(number protowire.Number, s string) Message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), s)
}

// Part appends bytes, or a message.
func (m Message) Part(number protowire.Number, b []byte) Message {
	return protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), b)
}

// Number appends a whole number.
func (m Message) Number(number protowire.Number, v int64) Message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(v))
}

// Node is an operator; attributes are messages.
func Node(operator string, inputs, outputs []string, attributes ...Message) Message {
	m := Message(nil)
	for _, s := range inputs {
		m = m.Text(1, s)
	}
	for _, s := range outputs {
		m = m.Text(2, s)
	}
	m = m.Text(4, operator)
	for _, a := range attributes {
		m = m.Part(5, a)
	}
	return m
}

// Whole is an attribute that is a number.
func Whole(name string, v int64) Message {
	return Message(nil).Text(1, name).Number(3, v).Number(20, 2)
}

// Wholes is an attribute of numbers.
func Wholes(name string, values ...int64) Message {
	m := Message(nil).Text(1, name)
	for _, v := range values {
		m = m.Number(8, v)
	}
	return m.Number(20, 7)
}

// Info is an input or output; a dimension of -1 is left open, -2 left out altogether with the shape.
func Info(name string, element int64, dims ...int64) Message {
	shape := Message(nil)
	for i, d := range dims {
		if d < 0 {
			shape = shape.Part(1, Message(nil).Text(2, "d"+strconv.Itoa(i)))
		} else {
			shape = shape.Part(1, Message(nil).Number(1, d))
		}
	}
	t := Message(nil).Number(1, element)
	if len(dims) == 0 || dims[0] != -2 {
		t = t.Part(2, shape)
	}
	return Message(nil).Text(1, name).Part(2, Message(nil).Part(1, t))
}

// Weight is an initializer of float32.
func Weight(name string, values []float32, dims ...int64) Message {
	m := Message(nil)
	for _, d := range dims {
		m = m.Number(1, d)
	}
	return m.Number(2, Float).Text(8, name).Part(9, Raw(values))
}

// Raw is values as ONNX has them.
func Raw(values []float32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}
