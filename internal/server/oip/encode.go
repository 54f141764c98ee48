package oip

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/internal/server/failure"
)

// encode is the answer as a ModelInferResponse.
func (p prediction) encode() encoded {
	pool := mem.DefaultBufferPool()
	buffer := pool.Get(p.sizeBound())
	*buffer = p.append((*buffer)[:0], false)
	return encoded{mem.BufferSlice{mem.NewBuffer(buffer, pool)}}
}

// encodeStream is the answer as a ModelStreamInferResponse.
func (p prediction) encodeStream() encoded {
	pool := mem.DefaultBufferPool()
	inner := pool.Get(p.sizeBound())
	*inner = p.append((*inner)[:0], true)
	head := protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.BytesType), uint64(len(*inner)))
	return encoded{mem.BufferSlice{mem.SliceBuffer(head), mem.NewBuffer(inner, pool)}}
}

// encodeStreamError is the answer to a request that failed.
func encodeStreamError(id []byte, message string) encoded {
	inner := protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), id)
	b := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), message)
	b = protowire.AppendBytes(protowire.AppendTag(b, 2, protowire.BytesType), inner)
	return encoded{mem.BufferSlice{mem.SliceBuffer(b)}}
}

// fieldBytes is the most bytes that the tags and lengths of an output take beside
// its names and its data: those of eight dimensions, of the parameters of an
// output in shared memory, and of the messages around them.
const fieldBytes = 256

// sizeBound is at least what append appends.
func (p prediction) sizeBound() int {
	n := fieldBytes + len(p.model.Name()) + 3*len(p.model.Version()) + len(p.message.id)
	for i := range p.message.outputs {
		out := &p.message.outputs[i]
		t := &p.request.Outputs[out.tensor]
		n += fieldBytes + 3*len(t.Name) + len(out.place.region)
		if out.place.region == nil {
			n += t.Size()
		}
	}
	return n
}

// append appends a ModelInferResponse. final adds what clients of Triton's streams
// look for: that no further answer to the request will come.
func (p prediction) append(b []byte, final bool) []byte {
	text := func(field protowire.Number, s string) {
		b = protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
	}
	text(1, p.model.Name())
	text(2, versionOf(p.model.Version()))
	if len(p.message.id) > 0 {
		b = protowire.AppendBytes(protowire.AppendTag(b, 3, protowire.BytesType), p.message.id)
	}
	if final {
		b = append(b, finalResponse...)
	}
	for i := range p.message.outputs {
		b = p.appendOutput(b, &p.message.outputs[i])
	}
	for i := range p.message.outputs {
		out := &p.message.outputs[i]
		b = protowire.AppendTag(b, 6, protowire.BytesType)
		if out.place.region != nil {
			// Empty, but there: clients in C++ index this list by output.
			b = append(b, 0)
			continue
		}
		b = protowire.AppendBytes(b, p.request.Outputs[out.tensor].Bytes())
	}
	return b
}

// finalResponse is the parameter triton_final_response, which is true.
var finalResponse = func() []byte {
	value := append(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
	entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "triton_final_response")
	entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), value)
	return protowire.AppendBytes(protowire.AppendTag(nil, 4, protowire.BytesType), entry)
}()

// appendOutput appends the description of one output.
func (p prediction) appendOutput(b []byte, out *output) []byte {
	t := &p.request.Outputs[out.tensor]
	name, datatype := failure.ValidText(t.Name), t.DType.String()
	shape := 0
	for i := range t.Shape.Rank() {
		shape += protowire.SizeVarint(uint64(t.Shape.Dim(i)))
	}
	size := 2 + protowire.SizeBytes(len(name)) + protowire.SizeBytes(len(datatype))
	if shape > 0 {
		size += 1 + protowire.SizeBytes(shape)
	}
	var parameters []byte
	if out.place.region != nil {
		parameters = placeParameters(out.place, t.Size())
		size += len(parameters)
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, 5, protowire.BytesType), uint64(size))
	b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), name)
	b = protowire.AppendString(protowire.AppendTag(b, 2, protowire.BytesType), datatype)
	if shape > 0 {
		b = protowire.AppendVarint(protowire.AppendTag(b, 3, protowire.BytesType), uint64(shape))
		for i := range t.Shape.Rank() {
			b = protowire.AppendVarint(b, uint64(t.Shape.Dim(i)))
		}
	}
	return append(b, parameters...)
}

// placeParameters says where in shared memory an output of that size is.
func placeParameters(at place, size int) []byte {
	var b []byte
	add := func(key string, value []byte) {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), key)
		entry = protowire.AppendBytes(protowire.AppendTag(entry, 2, protowire.BytesType), value)
		b = protowire.AppendBytes(protowire.AppendTag(b, 4, protowire.BytesType), entry)
	}
	whole := func(v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.VarintType), v)
	}
	add("shared_memory_region", protowire.AppendBytes(protowire.AppendTag(nil, 3, protowire.BytesType), at.region))
	add("shared_memory_byte_size", whole(uint64(size)))
	if at.offset > 0 {
		add("shared_memory_offset", whole(at.offset))
	}
	return b
}
