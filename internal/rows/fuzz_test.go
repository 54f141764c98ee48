package rows

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"testing"

	"github.com/picket-ml/picket/tensor"
)

var fuzzSignatures = [][]Input{
	{{"data", tensor.FP32, 3}},
	{{"data", tensor.FP32, 1}},
	{{"a", tensor.FP32, 2}, {"b", tensor.Int64, 1}},
	{{"a", tensor.FP16, 1}, {"b", tensor.Uint8, 2}, {"c", tensor.FP64, 1}},
}

// Whatever the text: an error and a row never come together, rows are whole, what was read is read again from what
// Append writes of it, and JSON that is accepted is JSON to encoding/json too, with the same numbers.
func FuzzReader(f *testing.F) {
	for _, text := range []string{
		"1,2,3\n4,,nan\n", "\xef\xbb\xbf\"1\", 2 ,3\r\n", "x,y,z\n", "1;2", "[[1,2,3],[4,null,6]]", "[1,2,3]\n[4,5,6]\n", "[null]",
		`{"data":[1,2,3]}`, `[{"a":[1,2],"b":[3]}]`, `{"a":[1],"b":[1,2],"c":[0.1]}`, "[[1,2,3]", "[]", "[[]]", `[["a"]]`, "[[Infinity,NaN,-Infinity]]",
		"[1e400]", "[[1,2,3],]", "[[[1]]]", `{"\u0064ata":[1]}`,
	} {
		for s := range fuzzSignatures {
			f.Add(text, uint8(s))
		}
	}
	f.Fuzz(func(t *testing.T, text string, signature uint8) {
		inputs := fuzzSignatures[int(signature)%len(fuzzSignatures)]
		data, n, err := readAll(t, bytes.NewReader([]byte(text)), inputs)
		if len(inputs) == 1 {
			var again []byte
			size := inputs[0].Elements * inputs[0].DType.Size()
			for i := range n {
				var appendErr error
				if again, appendErr = Append(again, data[0][i*size:(i+1)*size], inputs[0].DType, Text); appendErr != nil {
					t.Fatal(appendErr)
				}
				again = append(again, '\n')
			}
			back, m, againErr := readAll(t, bytes.NewReader(again), inputs)
			if againErr != nil || m != n || !bytes.Equal(back[0], data[0]) {
				t.Fatalf("%q was read as %d rows, written as %q, and read again as %d (%v)", text, n, again, m, againErr)
			}
		}
		body := bytes.TrimPrefix([]byte(text), []byte("\xef\xbb\xbf"))
		if solid := bytes.TrimLeft(body, " \t\r\n"); err != nil || len(solid) == 0 || (solid[0] != '[' && solid[0] != '{') ||
			bytes.Contains(body, []byte("NaN")) || bytes.Contains(body, []byte("Infinity")) {
			return
		}
		if reference := decodeReference(t, body, inputs); !bytes.Equal(bytes.Join(data, nil), bytes.Join(reference, nil)) {
			t.Fatalf("%q was read as %x, encoding/json says %x", text, data, reference)
		}
	})
}

// decodeReference reads rows with encoding/json.
func decodeReference(t *testing.T, text []byte, inputs []Input) [][]byte {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var documents []any
	for {
		var document any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%q was accepted, encoding/json says: %v", text, err)
		}
		documents = append(documents, document)
	}
	if list, ok := documents[0].([]any); ok && len(documents) == 1 {
		if len(list) == 0 {
			return make([][]byte, len(inputs))
		}
		switch list[0].(type) {
		case []any, map[string]any:
			documents = list
		}
	}
	out := make([][]byte, len(inputs))
	for _, document := range documents {
		for i, in := range inputs {
			var values []any
			switch row := document.(type) {
			case []any:
				values = row
			case map[string]any:
				values = row[in.Name].([]any)
			}
			for _, value := range values {
				var err error
				if number, ok := value.(json.Number); ok {
					_, syntax := strconv.ParseFloat(string(number), 64)
					if errors.Is(syntax, strconv.ErrSyntax) {
						t.Fatalf("%q has the number %q", text, number)
					}
					out[i], err = AppendNumber(out[i], in.DType, string(number))
				} else {
					out[i], err = AppendMissing(out[i], in.DType)
				}
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
		}
	}
	return out
}
