//go:build cgo && linux

package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
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

// network is an ONNX model in the making: layers one after the other. The numbers are those of the fields in onnx.proto.
type network struct {
	name    string
	graph   message
	random  *rand.Rand
	last    string // the name of what the layers so far give
	layers  int
	input   []int64 // of one row
	outputs int64
}

func newNetwork(name string, input ...int64) *network {
	return &network{name: name, random: rand.New(rand.NewPCG(1, 2)), last: "input", input: input}
}

// weight adds random weights, whose scale keeps what comes of so many inputs at the size of one.
func (n *network) weight(inputs int64, dims ...int64) string {
	name := "w" + strconv.Itoa(n.layers) + "x" + strconv.Itoa(len(dims))
	m, count := message(nil), int64(1)
	for _, d := range dims {
		m, count = m.number(1, d), count*d
	}
	raw := make([]byte, 0, 4*count)
	for range count {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(n.random.NormFloat64()/math.Sqrt(float64(inputs)))))
	}
	n.graph = n.graph.part(5, m.number(2, 1).text(8, name).part(9, raw))
	return name
}

// layer adds an operator.
func (n *network) layer(operator string, weights []string, attributes ...message) {
	n.layers++
	to := "v" + strconv.Itoa(n.layers)
	m := message(nil).text(1, n.last)
	for _, w := range weights {
		m = m.text(1, w)
	}
	m = m.text(2, to).text(4, operator)
	for _, a := range attributes {
		m = m.part(5, a)
	}
	n.graph, n.last = n.graph.part(1, m), to
}

// wholes is an attribute of whole numbers.
func wholes(name string, values ...int64) message {
	m := message(nil).text(1, name)
	for _, v := range values {
		m = m.number(8, v)
	}
	return m.number(20, 7)
}

// convolve adds a convolution of 3 by 3 with so many channels, every second place, and what follows it as a rule.
func (n *network) convolve(from, to int64) {
	n.layer("Conv", []string{n.weight(9*from, to, from, 3, 3)}, wholes("kernel_shape", 3, 3), wholes("pads", 1, 1, 1, 1), wholes("strides", 2, 2))
	n.layer("Relu", nil)
}

// dense adds a product.
func (n *network) dense(from, to int64) {
	n.layer("MatMul", []string{n.weight(from, from, to)})
	n.outputs = to
}

// file ends the network.
func (n *network) file() []byte {
	info := func(name string, dims ...int64) message {
		shape := message(nil).part(1, message(nil).text(2, "rows"))
		for _, d := range dims {
			shape = shape.part(1, message(nil).number(1, d))
		}
		return message(nil).text(1, name).part(2, message(nil).part(1, message(nil).number(1, 1).part(2, shape)))
	}
	graph := n.graph.text(2, "network").part(11, info("input", n.input...)).part(12, info(n.last, n.outputs))
	return message(nil).number(1, 8).text(2, "picket").part(7, graph).part(8, message(nil).text(1, "").number(2, 17))
}

// tabular is a network for rows of 30 numbers: microseconds a row.
func tabular() *network {
	n := newNetwork("30-64-32-1", 30)
	for _, layer := range [][2]int64{{30, 64}, {64, 32}} {
		n.dense(layer[0], layer[1])
		n.layer("Relu", nil)
	}
	n.dense(32, 1)
	n.layer("Sigmoid", nil)
	return n
}

// vision is a small network for pictures of 64 by 64: a millisecond a row.
func vision() *network {
	n := newNetwork("three convolutions of 3x64x64", 3, 64, 64)
	for _, layer := range [][2]int64{{3, 32}, {32, 64}, {64, 128}} {
		n.convolve(layer[0], layer[1])
	}
	n.layer("GlobalAveragePool", nil)
	n.layer("Flatten", nil)
	n.dense(128, 10)
	return n
}
