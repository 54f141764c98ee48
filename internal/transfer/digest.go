package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"hash/crc64"
	"io"
	"os"
)

// nvme is the polynomial of CRC-64/NVME, which S3 keeps of whole objects.
const nvme = 0x9a6c9329ac4bc9b5

// digests are computed over the bytes of a file in their order.
type digests struct {
	sha hash.Hash
	crc hash.Hash64 // nil where nobody asks for it
}

func newDigests(d Description) *digests {
	out := &digests{sha: sha256.New()}
	if d.SHA256 == "" && d.CRC64NVME != "" {
		out.crc = crc64.New(crc64.MakeTable(nvme))
	}
	return out
}

func (d *digests) Write(b []byte) (int, error) {
	if d.crc != nil {
		_, _ = d.crc.Write(b) // it never fails
	}
	return d.sha.Write(b)
}

// hex is the SHA-256.
func (d *digests) hex() string { return hex.EncodeToString(d.sha.Sum(nil)) }

// fit tells whether they are those that the object should have; true where it has none.
func (d *digests) fit(want Description) bool {
	switch {
	case want.SHA256 != "":
		return d.hex() == want.SHA256
	case d.crc != nil:
		return base64.StdEncoding.EncodeToString(d.crc.Sum(nil)) == want.CRC64NVME
	}
	return true
}

// hashFile computes the digests of a whole file.
func hashFile(ctx context.Context, f *os.File, into *digests) (size int64, err error) {
	buffer := make([]byte, hashBuffer)
	for {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, err := f.ReadAt(buffer, size)
		_, _ = into.Write(buffer[:n]) // it never fails
		size += int64(n)
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return size, err
		}
	}
}

// hashBuffer stays in a core's own cache.
const hashBuffer = 256 << 10
