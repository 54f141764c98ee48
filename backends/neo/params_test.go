package neo

import (
	"bytes"
	"encoding/binary"
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

func parseParams(data []byte) ([]Param, error) {
	return ParseParams(bytes.NewReader(data), int64(len(data)))
}

func TestParseParams(t *testing.T) {
	data := realParams(t)
	params, err := parseParams(data)
	if err != nil {
		t.Fatal(err)
	}
	// The weights and biases of 30-64-32-1, 4 bytes each, as TVM has packed them.
	want := map[string]string{"p0": "[4, 30, 16]", "p1": "[1, 64]", "p2": "[2, 64, 16]", "p3": "[1, 32]", "p4": "[1, 32, 1]", "p5": "[1]"}
	for _, p := range params {
		if p.Element != (Element{codeFloat, 32}) || p.Shape.String() != want[p.Name] || p.Bytes != 4*p.Shape.Elements() || p.Offset+p.Bytes > int64(len(data)) {
			t.Errorf("got %+v, want %s", p, want[p.Name])
		}
		delete(want, p.Name)
	}
	if len(want) != 0 {
		t.Errorf("not found: %v", want)
	}
	for n := range len(data) {
		if _, err := parseParams(data[:n]); err == nil {
			t.Fatalf("the first %d bytes pass for the whole file", n)
		}
	}
}

func TestRefusesDamagedParams(t *testing.T) {
	data := realParams(t)
	first := bytes.Index(data, binary.LittleEndian.AppendUint64(nil, arrayMagic))
	for name, tc := range map[string]struct {
		at   int
		to   byte
		says string
	}{
		"the mark":          {0, 0, "does not begin as a parameter file"},
		"how many names":    {0x17, 1, "names where"},
		"a name's length":   {0x27, 1, "bytes of a name where"},
		"a name":            {0x21, '1', `two tensors named "p1"`},
		"how many tensors":  {first - 8, 5, "5 tensors for 6 names"},
		"a tensor's mark":   {first, 0, "does not begin as a tensor"},
		"a device":          {first + 16, 2, "on a device of type 2"},
		"the dimensions":    {first + 24, 9, "9 dimensions, the limit is 8"},
		"a type":            {first + 28, 3, "the type of code 3 and 32 bits is unknown"},
		"bits":              {first + 29, 31, "the type float31 is unknown"},
		"lanes":             {first + 30, 2, "2 values to an element"},
		"a dimension":       {first + 32, 5, "7680 bytes for [5, 30, 16]"},
		"a large dimension": {first + 39, 0x7f, "more elements than fit"},
		"a negative one":    {first + 39, 0xff, "negative"},
		"the bytes":         {first + 56, 1, "bytes for"},
		"too many bytes":    {first + 63, 1, "bytes where"},
	} {
		damaged := bytes.Clone(data)
		damaged[tc.at] = tc.to
		if _, err := parseParams(damaged); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: want an error that says %q, got %v", name, tc.says, err)
		}
	}
}

// FuzzParams: what passes lies in the file, one tensor behind the other.
func FuzzParams(f *testing.F) {
	data := realParams(f)
	f.Add(data)
	f.Add(data[:200])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		params, err := parseParams(data)
		if err != nil && params != nil {
			t.Fatalf("an error and a value: %v, %v", err, params)
		}
		at := int64(0)
		for _, p := range params {
			if p.Offset < at || p.Bytes < 0 || p.Offset+p.Bytes > int64(len(data)) || p.Bytes != p.Shape.Elements()*p.Element.Bytes() {
				t.Fatalf("%+v lies outside of the %d bytes of the file, or over the one before", p, len(data))
			}
			at = p.Offset + p.Bytes
		}
	})
}
