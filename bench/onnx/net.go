//go:build cgo && linux

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"github.com/picket-ml/picket/internal/testkit/onnxfile"
)

// network is an ONNX model in the making: layers one after the other.
type network struct {
	name    string
	graph   onnxfile.Message
	random  *rand.Rand
	last    string // the name of what the layers so far give
	layers  int
	input   []int64 // of one row
	outputs int64
	idle    bool // it does next to nothing: what is measured is the way of its rows to it
}

func newNetwork(name string, input ...int64) *network {
	return &network{name: name, random: rand.New(rand.NewPCG(1, 2)), last: "input", input: input}
}

// weight adds random weights, whose scale keeps what comes of so many inputs at the size of one.
func (n *network) weight(inputs int64, dims ...int64) string {
	name := "w" + strconv.Itoa(n.layers) + "x" + strconv.Itoa(len(dims))
	count := int64(1)
	for _, d := range dims {
		count *= d
	}
	values := make([]float32, count)
	for i := range values {
		values[i] = float32(n.random.NormFloat64() / math.Sqrt(float64(inputs)))
	}
	n.graph = n.graph.Part(5, onnxfile.Weight(name, values, dims...))
	return name
}

// layer adds an operator.
func (n *network) layer(operator string, weights []string, attributes ...onnxfile.Message) {
	n.layers++
	to := "v" + strconv.Itoa(n.layers)
	m := onnxfile.Node(operator, append([]string{n.last}, weights...), []string{to}, attributes...)
	n.graph, n.last = n.graph.Part(1, m), to
}

// convolve adds a convolution of 3 by 3 with so many channels, every second place, and what follows it as a rule.
func (n *network) convolve(from, to int64) {
	n.layer("Conv", []string{n.weight(9*from, to, from, 3, 3)}, onnxfile.Wholes("kernel_shape", 3, 3), onnxfile.Wholes("pads", 1, 1, 1, 1), onnxfile.Wholes("strides", 2, 2))
	n.layer("Relu", nil)
}

// dense adds a product.
func (n *network) dense(from, to int64) {
	n.layer("MatMul", []string{n.weight(from, from, to)})
	n.outputs = to
}

// file ends the network.
func (n *network) file() []byte {
	graph := n.graph.Text(2, "network").Part(11, onnxfile.Info("input", onnxfile.Float, append([]int64{-1}, n.input...)...)).Part(12, onnxfile.Info(n.last, onnxfile.Float, -1, n.outputs))
	return onnxfile.Message(nil).Number(1, 8).Text(2, "picket").Part(7, graph).Part(8, onnxfile.Message(nil).Text(1, "").Number(2, 17))
}

// large tells whether a row is a picture rather than some numbers.
func (n *network) large() bool { return len(n.input) > 1 }

// write makes the folder, with the network in a folder of its own.
func (n *network) write(folder string) error {
	path := modelIn(folder)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	if err := os.WriteFile(path, n.file(), 0o600); err != nil {
		return fmt.Errorf("writing a model: %w", err)
	}
	return nil
}

// modelIn is where write puts it.
func modelIn(folder string) string { return filepath.Join(folder, "model", "model.onnx") }

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

// mean is the least that a network can do with such pictures: what it takes is the bytes' way to it.
func mean() *network {
	n := newNetwork("the means of 3x64x64", 3, 64, 64)
	n.idle = true
	n.layer("GlobalAveragePool", nil)
	n.layer("Flatten", nil)
	n.dense(3, 10)
	return n
}
