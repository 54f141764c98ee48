package score

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/parquetschema"
	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// modelFolder is a folder with a model of XGBoost, which takes features.
func modelFolder(t *testing.T) (dir string, m testkit.Model) {
	t.Helper()
	m = testkit.ModelNamed(t, "binary-3.2.0")
	dir = t.TempDir()
	data, err := os.ReadFile(testkit.Path(t, m.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(m.Files[0])), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, m
}

// options are those of a run of the fixture in dir.
func options(t *testing.T, model, input, output string) Options {
	t.Helper()
	s, err := store.New(store.Options{Unsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	list := backends.All(backends.Options{})
	t.Cleanup(func() {
		if err := backends.Close(list); err != nil {
			t.Error(err)
		}
	})
	return Options{
		Model: model, Source: s, Backends: list, Host: hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}),
		Input: input, Output: output, Threads: 3,
	}
}

// csvOf writes rows with a name before each.
func csvOf(values []float32, columns int, header bool) []byte {
	var out bytes.Buffer
	if header {
		out.WriteString("id")
		for c := range columns {
			fmt.Fprintf(&out, ",f%d", c)
		}
		out.WriteByte('\n')
	}
	for i := range len(values) / columns {
		fmt.Fprintf(&out, `"row, %d"`, i)
		for _, v := range values[i*columns : (i+1)*columns] {
			out.WriteByte(',')
			if v == v {
				out.Write(strconv.AppendFloat(nil, float64(v), 'g', -1, 32))
			}
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The scores of CSV are the trainer's, with each row's name before them, for both kinds of output.
func TestScoresAreTheTrainers(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	want := testkit.ReadF32(t, m.Prediction)
	n := len(want)
	values := testkit.Rows(n, m.Features)
	dir := t.TempDir()
	input := write(t, filepath.Join(dir, "rows.csv"), csvOf(values, m.Features, true))
	o := options(t, model, input, filepath.Join(dir, "scores.csv"))
	o.IDs = []string{"id"}
	summary, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if summary.Rows != int64(n) || summary.Resumed != 0 || !(summary.RowsPerS > 0) {
		t.Errorf("summary %+v of %d rows", summary, n)
	}
	text, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != n+1 || !strings.HasPrefix(lines[0], "id,") {
		t.Fatalf("%d lines, the first %q", len(lines), lines[0])
	}
	for i, line := range lines[1:] {
		score, found := strings.CutPrefix(line, fmt.Sprintf(`"row, %d",`, i))
		v, err := strconv.ParseFloat(score, 32)
		if !found || err != nil || float32(v) != want[i] {
			t.Fatalf("row %d is %q, want %v", i, line, want[i])
		}
	}

	o.Output = filepath.Join(dir, "scores.parquet")
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	names, scores := readScores(t, o.Output)
	for i := range want {
		if scores[i] != want[i] || names[i] != fmt.Sprintf("row, %d", i) {
			t.Fatalf("row %d is %q, %v, want %v", i, names[i], scores[i], want[i])
		}
	}
	for _, left := range []string{partialPath(o.Output), checkpointPath(o.Output)} {
		if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was left: %v", left, err)
		}
	}
}

// readScores reads a Parquet file of a name and a score.
func readScores(t *testing.T, path string) (names []string, scores []float32) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		buffer := make([]parquet.Row, 100)
		for {
			n, err := rows.ReadRows(buffer)
			for _, row := range buffer[:n] {
				names, scores = append(names, row[0].String()), append(scores, row[1].Float())
			}
			if err != nil {
				break
			}
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return names, scores
}

// parquetOf writes a Parquet file of a number for each row, and the features in another order, as float and double, with
// nulls for what is missing, in several row groups.
func parquetOf(t *testing.T, path string, values []float32, columns, group int) {
	t.Helper()
	fields := parquet.Group{"id": parquet.Required(parquet.Int(64))}
	order := []string{"id"}
	for c := range columns {
		node := parquet.Leaf(parquet.FloatType)
		if c%2 == 1 {
			node = parquet.Leaf(parquet.DoubleType)
		}
		name := fmt.Sprintf("f%d", columns-1-c)
		fields[name] = parquet.Optional(node)
		order = append(order, name)
	}
	var out bytes.Buffer
	w := parquet.NewWriter(&out, parquetschema.Ordered("rows", fields, order))
	for i := range len(values) / columns {
		row := parquet.Row{parquet.Int64Value(int64(1000+i)).Level(0, 0, 0)}
		for c := range columns {
			v := values[i*columns+columns-1-c]
			value, defined := parquet.FloatValue(v), 1
			if c%2 == 1 {
				value = parquet.DoubleValue(float64(v))
			}
			if v != v {
				value, defined = parquet.NullValue(), 0
			}
			row = append(row, value.Level(0, defined, c+1))
		}
		if _, err := w.WriteRows([]parquet.Row{row}); err != nil {
			t.Fatal(err)
		}
		if i%group == group-1 {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, path, out.Bytes())
}

// Parquet gives the scores of the same numbers as CSV, and its own kind of names.
func TestParquetInput(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	want := testkit.ReadF32(t, m.Prediction)
	const times = 30 // so that there are several chunks
	var values []float32
	for range times {
		values = append(values, testkit.Rows(len(want), m.Features)...)
	}
	dir := t.TempDir()
	o := options(t, model, filepath.Join(dir, "rows.parquet"), filepath.Join(dir, "scores.csv"))
	parquetOf(t, o.Input, values, m.Features, 7001)
	o.IDs = []string{"id"}
	for c := range m.Features {
		o.Columns = append(o.Columns, fmt.Sprintf("f%d", c))
	}
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")[1:]
	if len(lines) != times*len(want) {
		t.Fatalf("%d rows, want %d", len(lines), times*len(want))
	}
	for i, line := range lines {
		if text := fmt.Sprintf("%d,%s", 1000+i, strconv.FormatFloat(float64(want[i%len(want)]), 'f', -1, 32)); line != text && !sameNumber(line, text) {
			t.Fatalf("row %d is %q, want %q", i, line, text)
		}
	}
}

// A Parquet file with any byte changed is read, or refused with a sentence; nothing panics and nothing is waited for without end.
func TestDamagedParquet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "rows.parquet")
	parquetOf(t, path, testkit.Rows(300, 3), 3, 100)
	whole := read(t, path)
	for at := 0; at < len(whole); at += 5 {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1 << (at % 8)
		write(t, path, damaged)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := readParquet(f, int64(len(damaged))); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("byte %d: %q", at, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func readParquet(f *os.File, size int64) (err error) {
	s, err := openParquet(f, size, &Options{IDs: []string{"id"}, Threads: 2}, 3, tensor.FP32)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c := &chunk{ids: make([][]span, 0, 1)}
	for rows := 0; rows < 1000; rows += c.rows {
		if err := s.next(c); err != nil {
			return err
		}
		if err := s.decode(c); err != nil {
			return err
		}
	}
	return nil
}

// sameNumber allows for another way to write a small number.
func sameNumber(a, b string) bool {
	a1, a2, _ := strings.Cut(a, ",")
	b1, b2, _ := strings.Cut(b, ",")
	x, errX := strconv.ParseFloat(a2, 32)
	y, errY := strconv.ParseFloat(b2, 32)
	return a1 == b1 && errX == nil && errY == nil && x == y
}

// A run that is ended again and again, after any number of chunks, ends in the bytes of one that was not, for both kinds of
// input and output.
func TestEndedRunsGoOn(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	const rows = 80_000
	values := make([]float32, 0, rows*m.Features)
	for len(values) < rows*m.Features {
		values = append(values, testkit.Rows(5000, m.Features)...)
	}
	dir := t.TempDir()
	csv := write(t, filepath.Join(dir, "rows.csv"), csvOf(values, m.Features, false))
	parquetFile := filepath.Join(dir, "rows.parquet")
	parquetOf(t, parquetFile, values, m.Features, 50_001)
	for _, input := range []string{csv, parquetFile} {
		for _, ext := range []string{".csv", ".parquet"} {
			t.Run(filepath.Ext(input)+" to "+ext, func(t *testing.T) {
				whole, pieces := options(t, model, input, filepath.Join(dir, "whole"+ext)), options(t, model, input, filepath.Join(dir, "pieces"+ext))
				whole.IDs, pieces.IDs = []string{"1"}, []string{"1"}
				if _, err := Run(t.Context(), whole); err != nil {
					t.Fatal(err)
				}
				ends := 0
				for limit := 1; ; limit++ {
					ctx, cancel := context.WithCancel(t.Context())
					seen := 0
					pieces.Progress = func(int64, int64, int64) {
						if seen++; seen == limit {
							cancel()
						}
					}
					summary, err := Run(ctx, pieces)
					cancel()
					if err == nil {
						if ends == 0 || summary.Resumed == 0 || summary.Rows != rows {
							t.Errorf("ended %d times, summary %+v", ends, summary)
						}
						break
					}
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					ends++
					// What was written after the checkpoint is cut off.
					f, err := os.OpenFile(partialPath(pieces.Output), os.O_APPEND|os.O_WRONLY, 0)
					if err == nil {
						_, err = f.WriteString("left by a kill")
						err = errors.Join(err, f.Close())
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if a, b := read(t, whole.Output), read(t, pieces.Output); !bytes.Equal(a, b) {
					t.Errorf("%d bytes in one run and other %d in %d", len(a), len(b), ends+1)
				}
				if err := errors.Join(os.Remove(whole.Output), os.Remove(pieces.Output)); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A run does not go on with what another has left, nor with a damaged partial output.
func TestOtherWorkIsRefused(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	dir := t.TempDir()
	values := testkit.Rows(30_000, m.Features)
	o := options(t, model, write(t, filepath.Join(dir, "rows.csv"), csvOf(values, m.Features, false)), filepath.Join(dir, "scores.csv"))
	o.IDs = []string{"1"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = func(int64, int64, int64) { cancel() }
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("the run was to be ended: %v", err)
	}
	o.Progress = nil
	for name, change := range map[string]func(*Options){
		"other columns":   func(o *Options) { o.Columns = []string{fmt.Sprintf("2-%d", m.Features+1)} },
		"another version": func(o *Options) { o.Version = "other" },
		"another input": func(o *Options) {
			o.Input = write(t, filepath.Join(dir, "other.csv"), csvOf(values, m.Features, false))
		},
	} {
		changed := o
		change(&changed)
		if _, err := Run(t.Context(), changed); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "--restart") {
			t.Errorf("%s: %v", name, err)
		}
	}
	partial := read(t, partialPath(o.Output))
	partial[10] ^= 1
	write(t, partialPath(o.Output), partial)
	if _, err := Run(t.Context(), o); !errors.Is(err, errDamaged) {
		t.Errorf("a damaged partial output: %v", err)
	}
	o.Restart = true
	if s, err := Run(t.Context(), o); err != nil || s.Resumed != 0 || s.Rows != 30_000 {
		t.Errorf("begun anew: %+v, %v", s, err)
	}
}

// Whatever is wrong with the input is told in a sentence with its line, and nothing is left behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	good := csvOf(testkit.RowsNoMissing(9000, m.Features), m.Features, true)
	lines := bytes.SplitAfter(good, []byte("\n"))
	at := func(line int, text string) []byte {
		changed := append([][]byte{}, lines...)
		changed[line-1] = []byte(text)
		return bytes.Join(changed, nil)
	}
	short := strings.Repeat("1,", m.Features-1) + "1\n"
	for name, c := range map[string]struct {
		text []byte
		says string
	}{
		"no number":      {at(8001, "x,"+strings.Repeat("1,", m.Features-1)+"abc\n"), fmt.Sprintf(`line 8001: column "f%d": "abc" is not a number`, m.Features-1)},
		"too short":      {at(5001, short), fmt.Sprintf("line 5001: it has %d fields, and the first line %d", m.Features, m.Features+1)},
		"too long":       {at(2, "x,1,"+short), fmt.Sprintf("line 2: it has %d fields", m.Features+2)},
		"an open quote":  {at(4001, "\"x,"+short), "line 4001: a quoted field does not end on its line"},
		"too large":      {at(3, "x,1e39,"+strings.Repeat("1,", m.Features-2)+"1\n"), `line 3: column "f0": "1e39" is too large`},
		"nothing":        {nil, "it has no rows"},
		"only a header":  {lines[0], "it has no rows"},
		"blank lines":    {[]byte("\n \r\n\n"), "it has no rows"},
		"columns":        {[]byte("1,2,3\n"), "it has 3 columns and the model takes"},
		"damaged":        {[]byte("PAR1 and no more of it"), "reading"},
		"an endless one": {bytes.Repeat([]byte("1"), maxLine+2*chunkBytes), "columns and the model takes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			o := options(t, model, write(t, filepath.Join(dir, "rows.csv"), c.text), filepath.Join(dir, "scores.csv"))
			if strings.HasPrefix(string(c.text), "id,") {
				o.IDs = []string{"id"}
			}
			_, err := Run(t.Context(), o)
			if !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%v, want %q", err, c.says)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// The input is not overwritten.
func TestOutputIsNotTheInput(t *testing.T) {
	t.Parallel()
	model, m := modelFolder(t)
	path := filepath.Join(t.TempDir(), "rows.csv")
	text := csvOf(testkit.Rows(10, m.Features), m.Features, true)
	o := options(t, model, write(t, path, text), path)
	o.IDs = []string{"id"}
	if _, err := Run(t.Context(), o); !errors.Is(err, ErrInput) || !bytes.Equal(read(t, path), text) {
		t.Errorf("%v, and %d bytes are left of %d", err, len(read(t, path)), len(text))
	}
}

// Chunks are the same from any of their starts on.
func TestChunksDependOnTheirStart(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	for i := 0; text.Len() < 5*chunkBytes; i++ {
		text.WriteString(strings.Repeat("1", 1+i*7919%3000))
		text.WriteString(",2\n")
		if i == 400 { // a line that is longer than a chunk
			text.WriteString(strings.Repeat("1", chunkBytes*3/2) + ",2\n")
		}
	}
	f, err := os.Open(write(t, filepath.Join(t.TempDir(), "rows.csv"), text.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ends := func(from int64) (all []int64) {
		s, err := openCSV(f, int64(text.Len()), &Options{Header: HeaderNo}, 2, tensor.FP32)
		if err == nil {
			err = s.skip(position{Bytes: from})
		}
		if err != nil {
			t.Fatal(err)
		}
		for c := new(chunk); ; {
			if err := s.next(c); errors.Is(err, io.EOF) {
				return all
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, c.end)
		}
	}
	whole := ends(0)
	if len(whole) < 4 || whole[len(whole)-1] != int64(text.Len()) {
		t.Fatalf("chunks end at %d of %d", whole, text.Len())
	}
	for i, end := range whole {
		if rest := ends(end); !slices.Equal(rest, whole[i+1:]) {
			t.Errorf("from %d on chunks end at %d, want %d", end, rest, whole[i+1:])
		}
	}
}

// The short cuts give what strconv gives, or give up.
func TestNumbersAreStrconvs(t *testing.T) {
	t.Parallel()
	check := func(text string) {
		v, n := decimal([]byte(text))
		if n == 0 {
			return
		}
		if want, err := strconv.ParseFloat(text[:n], 64); err != nil || math.Float64bits(want) != math.Float64bits(v) {
			t.Fatalf("%q is %v, want %v (%v)", text, v, want, err)
		}
		f, ok := narrow(v)
		if want, err := strconv.ParseFloat(text[:n], 32); ok && (err != nil || math.Float32bits(float32(want)) != math.Float32bits(f)) {
			t.Fatalf("%q is %v in float32, want %v (%v)", text, f, want, err)
		}
	}
	for _, text := range []string{"0", "-0", "1", "-1.5", ".5", "5.", ".", "-", "", "1e", "1e+", "1e5x", "1.5e-3", "123456789012345678901", "1e400", "0x1p3", "1_0", "16777217", "3.4028236e38", "1e-45", "9007199254740993", "1.00000005960464477539062"} {
		check(text)
	}
	// Numbers around the half ways of float32, written with more and fewer digits.
	state := uint64(1)
	for range 200_000 {
		state = state*6364136223846793005 + 1442695040888963407
		f := math.Float32frombits(uint32(state >> 32))
		half := float64(f) + (float64(math.Nextafter32(f, 1e38))-float64(f))/2
		for _, v := range []float64{float64(f), half, math.Nextafter(half, math.Inf(1)), math.Nextafter(half, math.Inf(-1))} {
			check(strconv.FormatFloat(v, 'g', -1, 64))
			check(strconv.FormatFloat(v, 'g', int(state>>20%12)+6, 64))
			check(strconv.FormatFloat(v, 'f', int(state>>24%12)+1, 64))
		}
	}
}
