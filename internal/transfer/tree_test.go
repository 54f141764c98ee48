package transfer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// The digest is what it is said to be, in whatever pieces and order the bytes come.
func TestTree(t *testing.T) {
	random1 := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, leafBytes - 1, leafBytes, leafBytes + 1, 7*leafBytes + 12345} {
		body := random(size)
		var leaves []byte
		for from := 0; from < size; from += leafBytes {
			sum := crc32.Checksum(body[from:min(from+leafBytes, size)], crc32.MakeTable(crc32.Castagnoli))
			leaves = binary.BigEndian.AppendUint32(leaves, sum)
		}
		sum := sha256.Sum256(leaves)
		want := hex.EncodeToString(sum[:])
		w := &treeWriter{}
		for from := 0; from < size; {
			n := min(1+random1.IntN(2*leafBytes), size-from)
			_, _ = w.Write(body[from : from+n])
			from += n
		}
		if got := w.hex(); got != want {
			t.Errorf("%d bytes in order: %s, want %s", size, got, want)
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, body, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		tree := newTree(int64(size))
		for from := 0; from < size; {
			n := min(1+random1.IntN(2*leafBytes), size-from)
			if random1.IntN(3) > 0 { // the rest is of an earlier try
				if err := tree.add(file, int64(from), body[from:from+n]); err != nil {
					t.Fatal(err)
				}
			}
			from += n
		}
		if err := tree.complete(t.Context(), file, 3); err != nil {
			t.Fatal(err)
		}
		if got := tree.hex(); got != want {
			t.Errorf("%d bytes in pieces: %s, want %s", size, got, want)
		}
		_ = file.Close()
	}
}
