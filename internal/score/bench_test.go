package score

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/picket-ml/picket/internal/rows"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// BenchmarkCSV reads 20,000 rows of 30 numbers as a run does, on one core, beside the reader of picket predict and
// encoding/csv with strconv.
func BenchmarkCSV(b *testing.B) {
	const columns = 30
	var text bytes.Buffer
	for i, v := range testkit.RowsNoMissing(20_000, columns) {
		if i%columns > 0 {
			text.WriteByte(',')
		}
		text.Write(strconv.AppendFloat(nil, float64(v), 'g', -1, 32))
		if i%columns == columns-1 {
			text.WriteByte('\n')
		}
	}
	path := filepath.Join(b.TempDir(), "rows.csv")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("score", func(b *testing.B) {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		b.SetBytes(int64(text.Len()))
		c := new(chunk)
		for b.Loop() {
			s, err := openCSV(f, int64(text.Len()), &Options{Header: HeaderNo}, columns, tensor.FP32)
			if err != nil {
				b.Fatal(err)
			}
			for {
				if err := s.next(c); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					b.Fatal(err)
				}
				if err := s.decode(c); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("predict", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		dst := make([][]byte, 1)
		for b.Loop() {
			r, err := rows.NewReader(bytes.NewReader(text.Bytes()), []rows.Input{{Name: "data", DType: tensor.FP32, Elements: columns}})
			if err != nil {
				b.Fatal(err)
			}
			for err == nil {
				dst[0] = dst[0][:0]
				err = r.Read(dst)
			}
		}
	})
	b.Run("encoding-csv", func(b *testing.B) {
		b.SetBytes(int64(text.Len()))
		for b.Loop() {
			r := csv.NewReader(bytes.NewReader(text.Bytes()))
			r.ReuseRecord = true
			for {
				record, err := r.Read()
				if err != nil {
					break
				}
				for _, field := range record {
					if _, err := strconv.ParseFloat(field, 32); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
}
