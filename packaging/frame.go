package packaging

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The frame is a gzip header with nothing left to choose, and in its extra field the size and a check sum of all that
// follows. Without the check sum bits of a deflate stream could change that decode to the same.
const frameBytes = 28

var frameStart = [16]byte{
	0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, // deflate, an extra field, no time, no operating system
	16, 0, // its length
	'P', 'k', 12, 0, // our subfield and its length
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is what stands in the extra field.
type frame struct {
	size int64
	sum  uint32
}

func (f frame) encode() []byte {
	b := append(make([]byte, 0, frameBytes), frameStart[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.size))
	return binary.LittleEndian.AppendUint32(b, f.sum)
}

// parseFrame reads the frame from the first bytes of a file of that size.
func parseFrame(head []byte, size int64) (frame, error) {
	if len(head) < frameBytes || !bytes.Equal(head[:len(frameStart)], frameStart[:]) {
		return frame{}, fmt.Errorf("%w: it does not begin as one", ErrForeign)
	}
	f := frame{int64(binary.LittleEndian.Uint64(head[16:])), binary.LittleEndian.Uint32(head[24:])}
	if f.size != size {
		return frame{}, bad("it has %d bytes and says that it has %d: it is cut, or something was added", size, f.size)
	}
	return f, nil
}

// summed gives the bytes of r, which has exactly n, and sums them up; at their end it fails where the sum is another
// than was promised.
type summed struct {
	r    io.Reader
	left int64
	sum  uint32
	want uint32
}

// Read implements io.Reader.
func (s *summed) Read(p []byte) (int, error) {
	if s.left == 0 {
		if s.sum != s.want {
			return 0, errChecksum
		}
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.r.Read(p)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil
		if s.left > 0 {
			err = bad("it became shorter while it was read")
		}
	}
	return n, err
}

var errChecksum = bad("its check sum is not that of its bytes: it was damaged, copy it again")
