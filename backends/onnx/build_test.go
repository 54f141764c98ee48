package onnx_test

import (
	"strconv"

	"github.com/picket-ml/picket/internal/testkit/onnxfile"
)

// ONNX's numbers of element types.
const (
	float, uint8s, int8s, uint16s, int16s, int32s, int64s, text, boolean, half, double, uint32s, uint64s, complex64s, bhalf = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16
)

// The words of these tests for parts of ONNX files.
type message = onnxfile.Message

var (
	node   = onnxfile.Node
	whole  = onnxfile.Whole
	wholes = onnxfile.Wholes
	info   = onnxfile.Info
	weight = onnxfile.Weight
	raw    = onnxfile.Raw
)

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
		graph = graph.Part(1, n)
	}
	graph = graph.Text(2, "graph")
	for _, v := range f.initializers {
		graph = graph.Part(5, v)
	}
	for _, v := range f.inputs {
		graph = graph.Part(11, v)
	}
	for _, v := range f.outputs {
		graph = graph.Part(12, v)
	}
	ir, opset := f.ir, f.opset
	if ir == 0 {
		ir = 8
	}
	if opset == 0 {
		opset = 17
	}
	m := message(nil).Number(1, ir).Text(2, "test").Number(5, 7)
	for range max(1, f.graphs) {
		m = m.Part(7, graph)
	}
	m = m.Part(8, message(nil).Text(1, "").Number(2, opset)).Part(8, message(nil).Text(1, "ai.onnx.ml").Number(2, 3))
	for _, fn := range f.functions {
		m = m.Part(25, fn)
	}
	return m
}

// tensorAttribute and graphAttribute are attributes that are those.
func tensorAttribute(name string, t message) message {
	return message(nil).Text(1, name).Part(5, t).Number(20, 4)
}

func graphAttribute(name string, g message) message {
	return message(nil).Text(1, name).Part(6, g).Number(20, 5)
}

// outside is an initializer whose numbers are in a file.
func outside(name, location string, offset, length int64, dims ...int64) message {
	m := message(nil)
	for _, d := range dims {
		m = m.Number(1, d)
	}
	m = m.Number(2, float).Text(8, name)
	for _, e := range [][2]string{{"location", location}, {"offset", strconv.FormatInt(offset, 10)}, {"length", strconv.FormatInt(length, 10)}} {
		m = m.Part(13, message(nil).Text(1, e[0]).Text(2, e[1]))
	}
	return m.Number(14, 1)
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
