package onnx_test

import (
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// ONNX's numbers of element types.
const (
	float, uint8s, int8s, uint16s, int16s, int32s, int64s, text, boolean, half, double, uint32s, uint64s, complex64s, bhalf = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16
)

// message is a protocol buffers message in the making.
type message []byte

func (m message) text(number protowire.Number, s string) message {
	return protowire.AppendString(protowire.AppendTag(m, number, protowire.BytesType), s)
}

func (m message) part(number protowire.Number, b []byte) message {
	return protowire.AppendBytes(protowire.AppendTag(m, number, protowire.BytesType), b)
}

func (m message) number(number protowire.Number, v int64) message {
	return protowire.AppendVarint(protowire.AppendTag(m, number, protowire.VarintType), uint64(v))
}

// file is an ONNX file as tests write them. Zero fields take what makes a sound file.
type file struct {
	ir, opset    int64
	nodes        []message
	inputs       []message
	outputs      []message
	initializers []message
	functions    []message
	graphs       int
}

func (f file) bytes() []byte {
	graph := message(nil)
	for _, n := range f.nodes {
		graph = graph.part(1, n)
	}
	graph = graph.text(2, "graph")
	for _, v := range f.initializers {
		graph = graph.part(5, v)
	}
	for _, v := range f.inputs {
		graph = graph.part(11, v)
	}
	for _, v := range f.outputs {
		graph = graph.part(12, v)
	}
	ir, opset := f.ir, f.opset
	if ir == 0 {
		ir = 8
	}
	if opset == 0 {
		opset = 17
	}
	m := message(nil).number(1, ir).text(2, "test").number(5, 7)
	for range max(1, f.graphs) {
		m = m.part(7, graph)
	}
	m = m.part(8, message(nil).text(1, "").number(2, opset)).part(8, message(nil).text(1, "ai.onnx.ml").number(2, 3))
	for _, fn := range f.functions {
		m = m.part(25, fn)
	}
	return m
}

// node is an operator; attributes are messages.
func node(operator string, inputs, outputs []string, attributes ...message) message {
	m := message(nil)
	for _, s := range inputs {
		m = m.text(1, s)
	}
	for _, s := range outputs {
		m = m.text(2, s)
	}
	m = m.text(4, operator)
	for _, a := range attributes {
		m = m.part(5, a)
	}
	return m
}

// whole is an attribute that is a number; tensorAttribute and graphAttribute are others.
func whole(name string, v int64) message {
	return message(nil).text(1, name).number(3, v).number(20, 2)
}

func wholes(name string, v ...int64) message {
	m := message(nil).text(1, name)
	for _, x := range v {
		m = m.number(8, x)
	}
	return m.number(20, 7)
}

func tensorAttribute(name string, t message) message {
	return message(nil).text(1, name).part(5, t).number(20, 4)
}

func graphAttribute(name string, g message) message {
	return message(nil).text(1, name).part(6, g).number(20, 5)
}

// info is an input or output; a dimension of -1 is left open, -2 left out altogether with the shape.
func info(name string, element int64, dims ...int64) message {
	shape := message(nil)
	for i, d := range dims {
		if d < 0 {
			shape = shape.part(1, message(nil).text(2, "d"+strconv.Itoa(i)))
		} else {
			shape = shape.part(1, message(nil).number(1, d))
		}
	}
	t := message(nil).number(1, element)
	if len(dims) == 0 || dims[0] != -2 {
		t = t.part(2, shape)
	}
	return message(nil).text(1, name).part(2, message(nil).part(1, t))
}

// weight is an initializer of float32.
func weight(name string, values []float32, dims ...int64) message {
	m := message(nil)
	for _, d := range dims {
		m = m.number(1, d)
	}
	return m.number(2, float).text(8, name).part(9, raw(values))
}

// outside is an initializer whose numbers are in a file.
func outside(name, location string, offset, length int64, dims ...int64) message {
	m := message(nil)
	for _, d := range dims {
		m = m.number(1, d)
	}
	m = m.number(2, float).text(8, name)
	for _, e := range [][2]string{{"location", location}, {"offset", strconv.FormatInt(offset, 10)}, {"length", strconv.FormatInt(length, 10)}} {
		m = m.part(13, message(nil).text(1, e[0]).text(2, e[1]))
	}
	return m.number(14, 1)
}

func raw(values []float32) []byte {
	b := make([]byte, 0, 4*len(values))
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// linear is a model that multiplies rows of n by the weight w, an initializer of n by n.
func linear(n int64, w message) file {
	return file{
		nodes:        []message{node("MatMul", []string{"x", "w"}, []string{"y"})},
		inputs:       []message{info("x", float, -1, n)},
		outputs:      []message{info("y", float, -1, n)},
		initializers: []message{w},
	}
}

// one is a model of one operator without attributes.
func one(operator string, in, out message) file {
	return file{nodes: []message{node(operator, []string{"x"}, []string{"y"})}, inputs: []message{in}, outputs: []message{out}}
}
