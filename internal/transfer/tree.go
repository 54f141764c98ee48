package transfer

import (
	"context"
	"encoding/hex"
	"os"
	"sync"
	"sync/atomic"

	"github.com/zeebo/blake3"
)

// leafBytes is the unit of the tree digest, and of the parts of a download.
const leafBytes = 64 << 10

// maxTree is the largest object of which leaves are kept, half a thousandth of it in memory.
const maxTree = 64 << 30

// treeKey is the name, in an object's metadata, of the tree digest of its bytes: the BLAKE3, in hexadecimal, of the BLAKE3
// of each 64 KiB of them, one after the other. It binds the bytes as their SHA-256 does, but can be computed by those who
// each have a part of them, and takes a third of the time.
const treeKey = "picket-blake3-64k"

// leafSum is the digest of a leaf.
type leafSum = [32]byte

// tree collects the digests of leaves. Many may add at once, each other leaves.
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
			t.leaves[i], t.known[i] = blake3.Sum256(b[:n]), true
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
	t.leaves[i], t.known[i] = blake3.Sum256(buffer), true
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
	whole := blake3.New()
	for i := range t.leaves {
		_, _ = whole.Write(t.leaves[i][:]) // it never fails
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
	w.whole, w.leaf = append(w.whole, blake3.Sum256(w.leaf)), w.leaf[:0]
}

func (w *treeWriter) hex() string {
	if len(w.leaf) > 0 {
		w.flush()
	}
	t := &tree{leaves: w.whole}
	return t.hex()
}
