package score

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/tensor"
)

// readAll reads CSV as a run does, chunk by chunk.
func readAll(path string, o *Options, want int) (data []byte, n int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	s, err := openCSV(f, info.Size(), o, want, tensor.FP32)
	if err != nil {
		return nil, 0, err
	}
	c := &chunk{ids: make([][]span, 0, len(s.layout.ids))}
	for {
		err := s.next(c)
		if errors.Is(err, io.EOF) {
			return data, n, nil
		}
		if err == nil {
			err = s.decode(c)
		}
		if err != nil {
			return nil, 0, err
		}
		if len(c.data) != 4*want*c.rows {
			return nil, 0, errors.New("BUG: the rows are not whole")
		}
		for _, column := range c.ids {
			for _, at := range column {
				_ = c.text[at.from:at.to]
			}
		}
		data, n = append(data, c.data...), n+c.rows
	}
}

// Whatever the text, it is read as picket predict reads it, or refused where that does; and with a column that is passed
// through nothing reaches beyond the text.
func FuzzCSV(f *testing.F) {
	for _, text := range []string{
		"1,2,3\n4,,nan\n", "\xef\xbb\xbf\"1\", 2 ,3\r\n", "x,y,z\n1,2,3\n", "1;2", "1,2\n", "1,2,3,4\n", " \n\n1e5,-0,+1\n\t\n", "\"\"\"a\"\"\",\"b,c\",3\n", "1,2,\"3",
		"16777217,0.1,3.4028236e38\n", "1,2,3\n\n4,5,6", "inf,-Infinity,NaN\n", "0x1p3,1_0,1\n", ",,\n",
	} {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "rows.csv")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, n, err := readAll(path, &Options{Header: HeaderNo}, 3)
		_, _, _ = readAll(path, &Options{Header: HeaderAuto, IDs: []string{"2"}}, 2)
		reader, newErr := rows.NewReader(bytes.NewReader(text), []rows.Input{{Name: "data", DType: tensor.FP32, Elements: 3}})
		if newErr != nil {
			t.Fatal(newErr)
		}
		var want [1][]byte
		var wantErr error
		wantRows := 0
		for ; wantErr == nil; wantRows++ {
			wantErr = reader.Read(want[:])
		}
		wantRows--
		if solid := bytes.TrimLeft(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), " \t\r\n"); len(solid) > 0 && (solid[0] == '[' || solid[0] == '{') {
			return // JSON, which is not read here
		}
		if ended := errors.Is(wantErr, io.EOF) && wantRows > 0; ended != (err == nil && n > 0) {
			t.Fatalf("%q: %d rows, %v; picket predict reads %d rows, %v", text, n, err, wantRows, wantErr)
		}
		if err == nil && (n != wantRows || !bytes.Equal(got, want[0])) {
			t.Fatalf("%q is read as %x, picket predict reads %x", text, got, want[0])
		}
	})
}
