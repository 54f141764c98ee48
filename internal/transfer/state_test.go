package transfer

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What was saved is what is loaded; a file of which a byte is another is not believed.
func TestState(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := &state{Bucket: "b", Key: "k", ETag: `"e"`, Size: 3*leafBytes + 1, Part: leafBytes, Have: []int64{leafBytes, 0, 17, 1}}
	for _, have := range [][]int64{{0, 0, 0, 0}, {leafBytes, leafBytes, leafBytes, 1}, s.Have} { // in place, shorter and longer
		s.Have = have
		if err := s.save(file); err != nil {
			t.Fatal(err)
		}
		if got := loadState(file); !reflect.DeepEqual(got, s) {
			t.Fatalf("loaded %+v, saved %+v", got, s)
		}
	}
	info, err := file.Stat()
	if err != nil || info.Size() != stateSize(s) {
		t.Fatalf("it takes %d bytes, not %d; %v", info.Size(), stateSize(s), err)
	}
	for at := range info.Size() {
		var was [1]byte
		if _, err := file.ReadAt(was[:], at); err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte{was[0] ^ 1}, at); err != nil {
			t.Fatal(err)
		}
		if got := loadState(file); got != nil {
			t.Fatalf("byte %d changed, and %+v is believed", at, got)
		}
		if _, err := file.WriteAt(was[:], at); err != nil {
			t.Fatal(err)
		}
	}
}

// Whatever the file says, with a digest that fits: what is believed is possible.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"bucket":"b","key":"k","etag":"e","size":65537,"part_bytes":65536,"have":[65536,1]}`))
	f.Add([]byte(`{"size":9223372036854775807,"part_bytes":65536,"have":[]}`))
	f.Add([]byte(`{"size":1,"part_bytes":65536,"have":[-1]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		sum := sha256.Sum256(text)
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, append([]byte(hex.EncodeToString(sum[:])+"\n"), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := loadState(file)
		if s == nil {
			return
		}
		total := int64(0)
		for i, n := range s.Have {
			from, to := s.bounds(i)
			if n < 0 || n > to-from || to > s.Size || from >= to {
				t.Fatalf("%+v is believed", s)
			}
			total += n
		}
		if total > s.Size || len(s.Have) > maxParts+1 {
			t.Fatalf("%+v is believed", s)
		}
	})
}
