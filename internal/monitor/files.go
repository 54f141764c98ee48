package monitor

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	// MaxFiles is how many files of data are read at a time.
	MaxFiles = 1_000_000
	// maxParquet is the largest Parquet file that is taken from elsewhere than this
	// machine's disk, because it is held in memory.
	maxParquet = 1 << 30
)

// File is one file of data, wherever it lies. The caller of Open closes what it
// returns. Where that has ReadAt and Stat, as an *os.File does, Parquet is read from
// it directly.
type File struct {
	Name string
	Open func(context.Context) (io.ReadCloser, error)
}

// LocalFiles are the files of data at path: itself, or those below it in the order
// of their names, which for captured data is the order of time.
func LocalFiles(path string) ([]File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("looking for data: %w", err)
	}
	local := func(path string) File {
		return File{path, func(context.Context) (io.ReadCloser, error) { return os.Open(path) }}
	}
	if !info.IsDir() {
		return []File{local(path)}, nil
	}
	var files []File
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() && IsData(p) {
			files = append(files, local(p))
		}
		if len(files) > MaxFiles {
			return fmt.Errorf("there are more than %d files; name a folder of fewer", MaxFiles)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for data below %s: %w", path, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("below %s there is no file of data: none ends in %s", path, strings.Join(endings, ", "))
	}
	return files, nil
}

// endings are those of data. Each may be followed by that of a compression.
var endings = []string{".jsonl", ".csv", ".parquet"}

// IsData tells by the name whether a file is one of data.
func IsData(name string) bool { return slices.Contains(endings, ending(name)) }

func ending(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), ".gz"), ".zst")
	return filepath.Ext(name)
}

// TableOptions say how files are to be read.
type TableOptions struct {
	// NoHeader is for CSV whose first line is data.
	NoHeader bool
	// Baseline is what records of captured data are matched with; nil refuses them.
	Baseline *Statistics
}

// Table reads files as one table. All must have the same columns. The caller closes
// it.
type Table struct {
	ctx     context.Context
	files   []File
	o       TableOptions
	current Rows
	name    string
	close   []io.Closer
	// ByReference counts records that were left out of what they hold, because their
	// tensors lie in files of their own.
	ByReference uint64
	// Narrow counts rows of records that have no names, and fewer values than the
	// baseline has features: they are taken for the first ones, and are others where
	// columns were taken out before the records left their host.
	Narrow uint64
}

// OpenTable opens the first of the files.
func OpenTable(ctx context.Context, files []File, o TableOptions) (*Table, error) {
	t := &Table{ctx: ctx, files: files, o: o}
	if err := t.next(); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("there are no files to read")
		}
		return nil, err
	}
	return t, nil
}

// Columns implements Rows.
func (t *Table) Columns() []string { return t.current.Columns() }

// Next implements Rows.
func (t *Table) Next() ([]Value, error) {
	for {
		row, err := t.current.Next()
		if err == nil {
			return row, nil
		}
		if !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		if err := t.next(); err != nil {
			return nil, err
		}
	}
}

// Close implements io.Closer.
func (t *Table) Close() error {
	var errs []error
	for _, c := range slices.Backward(t.close) {
		errs = append(errs, c.Close())
	}
	t.close = nil
	return errors.Join(errs...)
}

// next opens the next file.
func (t *Table) next() error {
	if c, ok := t.current.(*captureRows); ok {
		t.ByReference += c.byReference
		t.Narrow += c.narrow
		c.byReference, c.narrow = 0, 0
	}
	if len(t.files) == 0 {
		return io.EOF
	}
	before := t.columnsOnce()
	if err := t.Close(); err != nil {
		return fmt.Errorf("%s: %w", t.name, err)
	}
	file := t.files[0]
	t.files = t.files[1:]
	t.name = file.Name
	rows, err := t.open(file)
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", file.Name, err), t.Close())
	}
	if c, ok := rows.(*captureRows); ok && before != nil {
		c.columns = before // those that records brought have their places
	} else if before != nil && !slices.Equal(before, rows.Columns()) {
		return errors.Join(fmt.Errorf("%s has other columns than the file before it", file.Name), t.Close())
	}
	t.current = rows
	return nil
}

func (t *Table) columnsOnce() []string {
	if t.current == nil {
		return nil
	}
	return t.current.Columns()
}

func (t *Table) open(file File) (Rows, error) {
	raw, err := file.Open(t.ctx)
	if err != nil {
		return nil, err
	}
	t.close = append(t.close, raw)
	r := io.Reader(raw)
	switch name := strings.ToLower(file.Name); {
	case strings.HasSuffix(name, ".gz"):
		g, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		t.close, r = append(t.close, g), g
	case strings.HasSuffix(name, ".zst"):
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return nil, err
		}
		t.close, r = append(t.close, z.IOReadCloser()), z
	}
	switch ending(file.Name) {
	case ".csv":
		return NewCSV(r, !t.o.NoHeader)
	case ".parquet":
		return t.parquet(r)
	case ".jsonl":
		if t.o.Baseline == nil {
			return nil, errors.New("it is captured data, of which no baseline is made: take the training set, as CSV or Parquet")
		}
		return NewCapture(r, t.o.Baseline), nil
	}
	return nil, fmt.Errorf("what it holds cannot be told by its name, which ends in none of %s", strings.Join(endings, ", "))
}

func (t *Table) parquet(r io.Reader) (Rows, error) {
	at, size := io.ReaderAt(nil), int64(0)
	if f, ok := r.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		at, size = f, info.Size()
	} else {
		data, err := io.ReadAll(io.LimitReader(r, maxParquet+1))
		if err != nil {
			return nil, err
		}
		if len(data) > maxParquet {
			return nil, fmt.Errorf("it is larger than %d bytes; copy it to this machine first", maxParquet)
		}
		at, size = bytes.NewReader(data), int64(len(data))
	}
	p, err := NewParquet(at, size)
	if err != nil {
		return nil, err
	}
	t.close = append(t.close, p)
	if t.o.Baseline != nil && isCaptured(p.columns) {
		return newCaptured(p, t.o.Baseline), nil
	}
	return p, nil
}
