package upload

import (
	"bytes"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Compression is how objects are compressed.
type Compression string

// The compressions. The name of an object says which it is.
const (
	None Compression = "none"
	Gzip Compression = "gzip"
	Zstd Compression = "zstd"
)

// suffix is what a name ends in.
func (c Compression) suffix() string {
	switch c {
	case Gzip:
		return ".gz"
	case Zstd:
		return ".zst"
	}
	return ""
}

// compress gives the same bytes for the same content: without a time or a name in them.
func (c Compression) compress(content []byte) ([]byte, error) {
	switch c {
	case Gzip:
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(content)
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			return nil, fmt.Errorf("compressing an object: %w", err)
		}
		return out.Bytes(), nil
	case Zstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("compressing an object: %w", err)
		}
		defer w.Close()
		return w.EncodeAll(content, nil), nil
	}
	return content, nil
}
