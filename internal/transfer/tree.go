package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"sync"
	"sync/atomic"
)

// leafBytes is the unit of the tree digest, and of the parts of a download.
const leafBytes = 64 << 10

// maxTree is the largest object of which leaves are kept, a ten thousandth of it in memory.
const maxTree = 64 << 30

// treeKey is the name, in an object's metadata, of the tree digest of its bytes: the SHA-256, in hexadecimal, of the CRC-32C
// of each 64 KiB of them, one after the other in four bytes each, the highest first. It finds what lines, stores and disks do
// to bytes, not what somebody does on purpose, who could write the metadata as well; signatures are for that. Those who each
// have a part of the bytes can compute it, in a tenth of the time of SHA-256.
const treeKey = "picket-crc32c-64k"

// leafSum is the checksum of a leaf.
type leafSum = uint32

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumLeaf(b []byte) leafSum { return crc32.Checksum(b, castagnoli) }

// tree collects the checksums of leaves. Many may add at once, each other leaves.
type tree struct {
	size   int64
	leaves []leafSum
	known  []bool
}

func newTree(size int64) *tree {
	count := (size + leafBytes - 1) / leafBytes
	return &tree{size: size, leaves: make([]leafSum, count), known: make([]bool, count)}
}

// add takes bytes that begin at the offset from, which lie in file too. A leaf of which they have the end is known then.
func (t *tree) add(file *os.File, from int64, b []byte) error {
	for len(b) > 0 {
		i := from / leafBytes
		start, end := i*leafBytes, min((i+1)*leafBytes, t.size)
		n := min(end-from, int64(len(b)))
		switch {
		case from+n < end: // the rest of the leaf is still to come
		case from == start:
			t.leaves[i], t.known[i] = sumLeaf(b[:n]), true
		default:
			if err := t.read(file, i); err != nil {
				return err
			}
		}
		from, b = from+n, b[n:]
	}
	return nil
}

// read computes leaf i from the file.
func (t *tree) read(file *os.File, i int64) error {
	start := i * leafBytes
	buffer := make([]byte, min(leafBytes, t.size-start))
	if _, err := file.ReadAt(buffer, start); err != nil {
		return err
	}
	t.leaves[i], t.known[i] = sumLeaf(buffer), true
	return nil
}

// complete computes the leaves that are not known, of what an earlier try fetched.
func (t *tree) complete(ctx context.Context, file *os.File, parallel int) error {
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	var workers sync.WaitGroup
	for range parallel {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(t.leaves)) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if t.known[i] {
					continue
				}
				if err := t.read(file, i); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
			}
		})
	}
	workers.Wait()
	if first == nil {
		first = ctx.Err()
	}
	return first
}

// hex is the digest, once all leaves are known.
func (t *tree) hex() string {
	whole := sha256.New()
	var b [4]byte
	for _, sum := range t.leaves {
		binary.BigEndian.PutUint32(b[:], sum)
		_, _ = whole.Write(b[:]) // it never fails
	}
	return hex.EncodeToString(whole.Sum(nil))
}

// treeWriter computes the digest of bytes in their order.
type treeWriter struct {
	whole []leafSum
	leaf  []byte
}

func (w *treeWriter) Write(b []byte) (int, error) {
	length := len(b)
	for len(b) > 0 {
		n := min(leafBytes-len(w.leaf), len(b))
		w.leaf, b = append(w.leaf, b[:n]...), b[n:]
		if len(w.leaf) == leafBytes {
			w.flush()
		}
	}
	return length, nil
}

func (w *treeWriter) flush() {
	w.whole, w.leaf = append(w.whole, sumLeaf(w.leaf)), w.leaf[:0]
}

func (w *treeWriter) hex() string {
	if len(w.leaf) > 0 {
		w.flush()
	}
	t := &tree{leaves: w.whole}
	return t.hex()
}
