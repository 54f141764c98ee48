package dlr

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func realParams(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, "tvm/mlp_b1-v3/compiled.params"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestWalkParams(t *testing.T) {
	data := realParams(t)
	// The weights and biases of 30-64-32-1, 4 bytes each.
	const want = 4 * (30*64 + 64 + 64*32 + 32 + 32 + 1)
	if n, err := walkParams(bytes.NewReader(data), int64(len(data))); err != nil || n != want {
		t.Errorf("got %d bytes of tensors, %v; want %d", n, err, want)
	}
	for n := range len(data) {
		if _, err := walkParams(bytes.NewReader(data[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d bytes pass for the whole file", n)
		}
	}
	for at, say := range map[int]string{0: "does not begin", 0x17: "names where", 0x27: "bytes of a name where"} {
		damaged := bytes.Clone(data)
		damaged[at] ^= 0xff
		if _, err := walkParams(bytes.NewReader(damaged), int64(len(data))); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("byte %#x damaged: %v", at, err)
		}
	}
}

// FuzzWalkParams: what passes has no more tensors than bytes.
func FuzzWalkParams(f *testing.F) {
	data := realParams(f)
	f.Add(data)
	f.Add(data[:200])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := walkParams(bytes.NewReader(data), int64(len(data)))
		if err != nil && n != 0 {
			t.Fatalf("an error and a value: %v, %d", err, n)
		}
		if n < 0 || n > int64(len(data)) {
			t.Fatalf("%d bytes of tensors in %d bytes", n, len(data))
		}
	})
}
