package oip

import (
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/picket-ml/picket/tensor"
)

// message is a request for a prediction, whichever form it came in. Its texts and
// bytes point into what came over the wire, which it holds until release.
type message struct {
	model, version, id []byte
	timeout            time.Duration // 0 for none
	inputs             []input
	outputs            []output // empty for all
	// binary is what outputs that do not say so themselves are sent as over HTTP.
	binary bool

	wire mem.Buffer // what the fields point into; nil when that is not pooled
	raw  [][]byte   // while decoding: raw_input_contents
}

// payload is where the bytes of an input are.
type payload uint8

const (
	absent   payload = iota
	rawBytes         // as they are in memory
	elements         // an InferTensorContents message
	jsonText         // a JSON array
	shared           // in registered shared memory
)

// input is one input tensor of a message.
type input struct {
	name, datatype []byte
	shape          dims
	form           payload
	data           []byte // but for shared
	place          place
	binarySize     int64 // what HTTP's binary extension says of its length; -1 for none
}

// output is one output that a message asks for.
type output struct {
	name   []byte
	place  place
	form   outputForm
	tensor int // index in the model's outputs, once bound
}

// outputForm is what an output over HTTP asks to be sent as.
type outputForm uint8

const (
	byDefault outputForm = iota
	asBinary
	asJSON
)

// place is a part of registered shared memory.
type place struct {
	region       []byte // nil for none
	offset, size uint64
	sized        bool // the size was given
}

// dims is a shape as it came: nothing in it has been checked.
type dims struct {
	dim  [tensor.MaxRank]int64
	rank int // may be above MaxRank; the dimensions beyond are not kept
}

func (d *dims) add(v int64) {
	if d.rank < len(d.dim) {
		d.dim[d.rank] = v
	}
	d.rank++
}

// slice is the dimensions that were kept.
func (d *dims) slice() []int64 { return d.dim[:min(d.rank, len(d.dim))] }

// shares tells whether any tensor is in shared memory.
func (m *message) shares() bool {
	for i := range m.inputs {
		if m.inputs[i].place.region != nil {
			return true
		}
	}
	for i := range m.outputs {
		if m.outputs[i].place.region != nil {
			return true
		}
	}
	return false
}

// messagePool recycles messages; they hold no bytes while they are in it.
var messagePool = sync.Pool{New: func() any { return &message{} }}

func newMessage() *message { return messagePool.Get().(*message) }

// release gives back the message and what its fields point into.
func (m *message) release() {
	if m.wire != nil {
		m.wire.Free()
	}
	clear(m.inputs)
	clear(m.outputs)
	clear(m.raw)
	*m = message{inputs: m.inputs[:0], outputs: m.outputs[:0], raw: m.raw[:0]}
	messagePool.Put(m)
}
