package oip

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress; gRPC bounds what comes out by the largest message
	"google.golang.org/grpc/mem"
)

// codec leaves the messages of predictions as they came, for decode and encode,
// and everything else to the generated code.
type codec struct{ generated encoding.CodecV2 }

// encoded is an answer that is ready to be sent; gRPC frees it.
type encoded struct{ mem.BufferSlice }

// Name implements encoding.CodecV2.
func (codec) Name() string { return "proto" }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(encoded); ok {
		return e.BufferSlice, nil
	}
	return c.generated.Marshal(v)
}

// Unmarshal implements encoding.CodecV2. A message keeps the buffers until its
// release.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*message); ok {
		m.wire = data.MaterializeToBuffer(mem.DefaultBufferPool())
		return nil
	}
	return c.generated.Unmarshal(data, v)
}
