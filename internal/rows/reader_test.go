package rows

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/picket-ml/picket/tensor"
)

var (
	three = []Input{{"data", tensor.FP32, 3}}
	two   = []Input{{"a", tensor.FP32, 2}, {"b", tensor.Int64, 1}}
)

// readAll reads every row and gives the bytes per input, the number of rows, and the error that ended it, nil for the end.
func readAll(t *testing.T, in io.Reader, inputs []Input) ([][]byte, int, error) {
	t.Helper()
	r, err := NewReader(in, inputs)
	if err != nil {
		t.Fatal(err)
	}
	data := make([][]byte, len(inputs))
	for n := 0; ; n++ {
		err := r.Read(data)
		for i, d := range data {
			want := n
			if err == nil {
				want++
			}
			if len(d) != want*inputs[i].Elements*inputs[i].DType.Size() {
				t.Fatalf("input %d has %d bytes after %d rows and error %v", i, len(d), want, err)
			}
		}
		if err == nil {
			continue
		}
		if again := r.Read(data); !errors.Is(again, err) {
			t.Fatalf("after %v another Read says %v", err, again)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return data, n, err
	}
}

func float32s(data []byte) []float32 {
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

// same compares bits, but takes all NaN for one.
func same(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
			return false
		}
	}
	return true
}

func TestReadRowsOfOneInput(t *testing.T) {
	nan := float32(math.NaN())
	negativeZero := float32(math.Copysign(0, -1))
	tests := map[string]struct {
		text string
		want []float32
	}{
		"csv":                         {"1,2,3\n4.5,-6,7e3\n", []float32{1, 2, 3, 4.5, -6, 7000}},
		"csv without last newline":    {"1,2,3\n4,5,6", []float32{1, 2, 3, 4, 5, 6}},
		"csv of Windows":              {"\xef\xbb\xbf1,2,3\r\n4,5,6\r\n", []float32{1, 2, 3, 4, 5, 6}},
		"csv missing":                 {",NaN,nan\n-nan, ,NAN\n", []float32{nan, nan, nan, nan, nan, nan}},
		"csv blanks and quotes":       {"\n  1 ,\t2,\"3\"\n\n \n4,5,6\n\n", []float32{1, 2, 3, 4, 5, 6}},
		"csv infinities":              {"inf,-Inf,+infinity", []float32{float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.Inf(1))}},
		"csv negative zero":           {"-0,0,-0.0", []float32{negativeZero, 0, negativeZero}},
		"csv rounds once":             {"0.1,16777217,1e-45", []float32{0.1, 16777216, math.SmallestNonzeroFloat32}},
		"json array of arrays":        {"[[1,2,3],[4,5,6]]", []float32{1, 2, 3, 4, 5, 6}},
		"json array of arrays spaced": {" \n[ [ 1 , 2 , 3 ] ,\n [4,5,6]\n]\n", []float32{1, 2, 3, 4, 5, 6}},
		"json lines":                  {"[1,2,3]\n[4,5,6]\n", []float32{1, 2, 3, 4, 5, 6}},
		"json rows without lines":     {"[1,2,3][4,5,6]", []float32{1, 2, 3, 4, 5, 6}},
		"json one row":                {"[1,2,3]", []float32{1, 2, 3}},
		"json row starts missing":     {"[null,2,3]", []float32{nan, 2, 3}},
		"json missing":                {"[[null,1,NaN]]", []float32{nan, 1, nan}},
		"json infinities of Python":   {"[[Infinity,-Infinity,1]]", []float32{float32(math.Inf(1)), float32(math.Inf(-1)), 1}},
		"json objects":                {`{"data":[1,2,3]}` + "\n" + `{ "data" : [ 4 ,5,6 ] }`, []float32{1, 2, 3, 4, 5, 6}},
		"json array of objects":       {`[{"data":[1,2,3]},{"d\u0061ta":[4,5,6]}]`, []float32{1, 2, 3, 4, 5, 6}},
		"json objects and arrays":     {`[[1,2,3],{"data":[4,5,6]}]`, []float32{1, 2, 3, 4, 5, 6}},
		"json array of no rows":       {" [ ] ", nil},
		"nothing":                     {"", nil},
		"blanks":                      {" \r\n\t\n", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for kind, in := range map[string]io.Reader{
				"whole":      strings.NewReader(test.text),
				"in pieces":  iotest.OneByteReader(strings.NewReader(test.text)),
				"with error": iotest.DataErrReader(strings.NewReader(test.text)),
			} {
				data, _, err := readAll(t, in, three)
				if err != nil {
					t.Fatalf("%s: %v", kind, err)
				}
				if got := float32s(data[0]); !same(got, test.want) {
					t.Errorf("%s: got %v, want %v", kind, got, test.want)
				}
			}
		})
	}
}

func TestReadRowsOfSeveralInputs(t *testing.T) {
	for _, text := range []string{
		`[{"a":[1,2],"b":[-9007199254740993]},{"b":[4.0],"a":[5,null]}]`,
		`{"a":[1,2],"b":[-9007199254740993]}{"b":[4e0],"a":[5,null]}`,
	} {
		data, n, err := readAll(t, strings.NewReader(text), two)
		if err != nil || n != 2 {
			t.Fatalf("%d rows, %v", n, err)
		}
		if got := float32s(data[0]); !same(got, []float32{1, 2, 5, float32(math.NaN())}) {
			t.Errorf("a is %v", got)
		}
		want := binary.LittleEndian.AppendUint64(nil, uint64(0xffdfffffffffffff))
		want = binary.LittleEndian.AppendUint64(want, 4)
		if !bytes.Equal(data[1], want) {
			t.Errorf("b is %x, want %x", data[1], want)
		}
	}
}

func TestRowErrorsSayWhereAndWhat(t *testing.T) {
	tests := map[string]struct {
		text   string
		inputs []Input
		rows   int // good ones before
		want   []string
	}{
		"csv word":             {"1,2,3\n4,5,abc\n", three, 1, []string{"row 2, column 3", `"abc" is not a number`, "3 numbers a row"}},
		"csv header":           {"x,y,z\n1,2,3\n", three, 0, []string{"row 1, column 1", "header"}},
		"csv short":            {"1,2,3\n4,5\n", three, 1, []string{"row 2 has 2 numbers", "takes 3"}},
		"csv long":             {"1,2,3,4,5\n", three, 0, []string{"row 1 has 5 numbers", "takes 3"}},
		"csv decimal comma":    {"\"1,5\",2,3", three, 0, []string{"row 1, column 1", "is not a number"}},
		"csv sign alone":       {"1,+,3", three, 0, []string{"column 2", `"+" is not a number`}},
		"csv range":            {"1,1e39,3", three, 0, []string{"column 2", "too large for FP32"}},
		"csv huge field":       {strings.Repeat("1", 1<<20), three, 0, []string{"column 1", "is not a number"}},
		"csv several inputs":   {"1,2,3", two, 0, []string{"2 inputs (a, b)", "JSON"}},
		"csv semicolons":       {"1;2;3", three, 0, []string{`"1;2;3" is not a number`}},
		"csv other bytes":      {"\x00\xff,1,2", three, 0, []string{"column 1", "is not a number"}},
		"int missing":          {"1,,3", []Input{{"n", tensor.Int32, 3}}, 0, []string{"column 2", "an empty value", "INT32"}},
		"int nan":              {"nan", []Input{{"n", tensor.Uint8, 1}}, 0, []string{"missing value", "UINT8"}},
		"int fraction":         {"1.5", []Input{{"n", tensor.Int32, 1}}, 0, []string{"not a whole number"}},
		"int negative":         {"-1", []Input{{"n", tensor.Uint8, 1}}, 0, []string{"0 to 255"}},
		"int large":            {"32768", []Input{{"n", tensor.Int16, 1}}, 0, []string{"-32768 to 32767"}},
		"int very large":       {"9223372036854775808", []Input{{"n", tensor.Int64, 1}}, 0, []string{"64 bits"}},
		"int inexact":          {"1e17", []Input{{"n", tensor.Int64, 1}}, 0, []string{"all its digits"}},
		"half range":           {"65520", []Input{{"n", tensor.FP16, 1}}, 0, []string{"too large for FP16"}},
		"json word":            {`[[1,2,"abc"]]`, three, 0, []string{"row 1, column 3", `"abc" is not a number`}},
		"json boolean":         {`[[1,2,3],[1,true,3]]`, three, 1, []string{"row 2, column 2", `"true" is not a number`}},
		"json leading zero":    {`[[1,02,3]]`, three, 0, []string{`"02" is not a number`}},
		"json plus":            {`[[1,+2,3]]`, three, 0, []string{`"+2" is not a number`}},
		"json short":           {"[1,2,3]\n[4,5]", three, 1, []string{"row 2 has 2 numbers", "takes 3"}},
		"json long":            {"[[1,2,3,4]]", three, 0, []string{"row 1 has 4 numbers"}},
		"json empty row":       {"[[]]", three, 0, []string{"row 1 has 0 numbers"}},
		"json nested":          {"[[[1,2,3]]]", three, 0, []string{"row 1, column 1", "flat"}},
		"json trailing comma":  {"[[1,2,3,]]", three, 0, []string{"row 1", "column 4"}},
		"json no comma":        {"[[1 2 3]]", three, 0, []string{"column 1", "'2'"}},
		"json cut":             {"[[1,2,3],[4,", three, 1, []string{"row 2", "cut off"}},
		"json not closed":      {"[[1,2,3]", three, 1, []string{"row 2", "cut off"}},
		"json bracket alone":   {"[", three, 0, []string{"row 1", "cut off"}},
		"json text after":      {"[[1,2,3]] x", three, 1, []string{"after row 1"}},
		"json scalar row":      {"[[1,2,3], 4]", three, 1, []string{"row 2", "a row was expected"}},
		"json deep":            {strings.Repeat("[", 1<<20), three, 0, []string{"row 1"}},
		"json long number":     {"[[" + strings.Repeat("1", 1<<20), three, 0, []string{"is not a number"}},
		"json long text":       {`[["` + strings.Repeat("x", 1<<20), three, 0, []string{"characters"}},
		"json unknown input":   {`{"a":[1,2],"c":[3]}`, two, 0, []string{`no input "c"`, "a, b"}},
		"json input twice":     {`{"a":[1,2],"a":[1,2]}`, two, 0, []string{`"a" is given twice`}},
		"json input missing":   {`{"a":[1,2]}`, two, 0, []string{`"b" is missing`}},
		"json no inputs":       {`{}`, two, 0, []string{`"a" is missing`}},
		"json scalar input":    {`{"a":1}`, two, 0, []string{`"a"`, "[...]"}},
		"json input short":     {`{"a":[1,2],"b":[3]}{"a":[1],"b":[3]}`, two, 1, []string{"row 2", "1 number", `"a"`}},
		"json input bad":       {`{"a":[1,x],"b":[3]}`, two, 0, []string{`input "a", column 2`, `"x" is not a number`}},
		"json array of inputs": {`[[1,2,3]]`, two, 0, []string{"2 inputs", "object"}},
		"json bad name":        {`{"\q":[1,2]}`, two, 0, []string{"row 1", "valid JSON"}},
		"json closed early":    {`[[1,2,3],]`, three, 1, []string{"row 2", "a row was expected"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, n, err := readAll(t, strings.NewReader(test.text), test.inputs)
			if err == nil {
				t.Fatal("no error")
			}
			if n != test.rows {
				t.Errorf("%d rows before the error, want %d", n, test.rows)
			}
			if text := err.Error(); len(text) > 300 || strings.ContainsAny(text, "\n\x00") {
				t.Errorf("not a sentence: %q", text)
			}
			for _, part := range test.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestBrokenInputIsNoEndOfRows(t *testing.T) {
	broken := errors.New("the disk is gone")
	for _, text := range []string{"", "1,2,3\n4,", "[[1,2,3],", "[[1,2,3]]", "[1,2,3]\n", "1,2,3\n"} {
		_, _, err := readAll(t, io.MultiReader(strings.NewReader(text), iotest.ErrReader(broken)), three)
		if !errors.Is(err, broken) {
			t.Errorf("after %q: %v", text, err)
		}
	}
}

func TestNewReaderRefusesWhatHasNoText(t *testing.T) {
	for _, inputs := range [][]Input{nil, {{"x", tensor.Bytes, 1}}, {{"x", tensor.FP32, 0}}, {{"x", tensor.Invalid, 1}}} {
		if r, err := NewReader(strings.NewReader(""), inputs); err == nil || r != nil {
			t.Errorf("%v: %v, %v", inputs, r, err)
		}
	}
}
