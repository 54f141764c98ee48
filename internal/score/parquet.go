package score

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/parquet-go/parquet-go"

	"github.com/picket-ml/picket/tensor"
)

// chunkRows is how many rows of a Parquet file are one chunk.
const chunkRows = 16384

// parquetSource reads plain columns of a Parquet file. Files of others have no index of their pages as a rule, so a column is
// read from its start to its end, by one reader; several of those share the columns and work ahead of the chunks.
type parquetSource struct {
	rows    int64
	at      int64 // of the next chunk
	layout  *layout
	leaves  []leaf
	dtype   tensor.DType
	readers []*columnReader
	end     sync.WaitGroup
}

// leaf is a column that is read.
type leaf struct {
	column  int
	name    string
	kind    idKind
	feature bool
}

// openParquet finds the columns and starts the readers.
func openParquet(f *os.File, size int64, o *Options, want int, dtype tensor.DType) (_ *parquetSource, err error) {
	defer caught(&err)
	switch dtype {
	case tensor.FP32, tensor.FP64, tensor.Int32, tensor.Int64:
	default:
		return nil, fmt.Errorf("the model takes %v, into which columns of Parquet are not turned; give CSV", dtype)
	}
	file, err := parquet.OpenFile(f, size)
	if err != nil {
		return nil, badInput("%v", err)
	}
	s := &parquetSource{rows: file.NumRows(), dtype: dtype}
	schema := file.Schema()
	var names []string
	var kinds []idKind
	for _, path := range schema.Columns() {
		column, ok := schema.Lookup(path...)
		if !ok {
			return nil, badInput("it has no column %q that it should have", strings.Join(path, "."))
		}
		kind := idKind{node: parquet.Leaf(column.Node.Type()), kind: column.Node.Type().Kind(), optional: column.MaxDefinitionLevel > 0}
		if column.MaxRepetitionLevel > 0 {
			kind.list = true
		}
		names, kinds = append(names, strings.Join(path, ".")), append(kinds, kind)
	}
	if s.layout, err = newLayout(names, len(names), o.Columns, o.IDs, want); err != nil {
		return nil, err
	}
	for _, c := range s.layout.features {
		switch kinds[c].kind {
		case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Float, parquet.Double:
		default:
			return nil, badInput("column %q holds %v, and no numbers", names[c], kinds[c].node.Type())
		}
		s.leaves = append(s.leaves, leaf{c, names[c], kinds[c], true})
	}
	for _, c := range s.layout.ids {
		if kinds[c].kind == parquet.Int96 {
			return nil, badInput("column %q holds INT96, which is not passed through", names[c])
		}
		s.leaves = append(s.leaves, leaf{c, names[c], kinds[c], false})
	}
	for _, l := range s.leaves {
		if l.kind.list {
			return nil, badInput("column %q is a list; write one column for each of its values", l.name)
		}
	}
	s.start(file, o.Threads)
	return s, nil
}

// start makes the readers, each with columns of its own.
func (s *parquetSource) start(file *parquet.File, threads int) {
	threads = max(1, min(threads, len(s.leaves)))
	for t := range threads {
		from, to := t*len(s.leaves)/threads, (t+1)*len(s.leaves)/threads
		r := &columnReader{source: s, work: make(chan assignment, 64)}
		for i := from; i < to; i++ {
			r.cursors = append(r.cursors, &cursor{leaf: s.leaves[i], index: i, groups: file.RowGroups()})
		}
		s.readers = append(s.readers, r)
		s.end.Go(r.run)
	}
}

// assignment is a chunk whose columns a reader is to fill.
type assignment struct {
	chunk *chunk
	from  int64
	rows  int
}

// columnReader fills some columns of each chunk, in order.
type columnReader struct {
	source  *parquetSource
	work    chan assignment
	cursors []*cursor
}

func (r *columnReader) run() {
	for a := range r.work {
		err := r.fill(a)
		if err != nil {
			a.chunk.failed.Store(&err)
		}
		a.chunk.loaded <- struct{}{}
	}
	var ignored error // of a file that was only read
	defer caught(&ignored)
	for _, c := range r.cursors {
		c.close()
	}
}

func (r *columnReader) fill(a assignment) (err error) {
	defer caught(&err)
	for _, c := range r.cursors {
		dst := &a.chunk.columns[c.index]
		*dst = (*dst)[:0]
		if err := c.fill(dst, a, r.source.dtype); err != nil {
			return badInput("column %q: %v", c.leaf.name, err)
		}
	}
	return nil
}

// cursor is how far a column was read.
type cursor struct {
	leaf   leaf
	index  int // among the leaves
	groups []parquet.RowGroup
	before int64 // rows of the groups before the current
	next   int   // group
	at     int64 // row, in the file
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buffer []parquet.Value
	floats []float32
}

// fill appends the values of the assignment's rows: numbers as the model takes them, or the bytes of those that are passed
// through, each after its length plus one, 0 for a null.
func (c *cursor) fill(dst *[]byte, a assignment, dtype tensor.DType) error {
	if c.at != a.from {
		if err := c.seek(a.from); err != nil {
			return err
		}
	}
	for need := a.rows; need > 0; {
		if c.values == nil {
			if err := c.turn(); err != nil {
				return err
			}
			continue
		}
		n, err := c.read(dst, need, dtype)
		need -= n
		c.at += int64(n)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) {
			return err
		}
		c.drop()
	}
	return nil
}

// seek goes to a row of the file.
func (c *cursor) seek(row int64) error {
	c.close()
	c.before, c.next = 0, 0
	for c.next < len(c.groups) && c.before+c.groups[c.next].NumRows() <= row {
		c.before += c.groups[c.next].NumRows()
		c.next++
	}
	if c.next == len(c.groups) {
		return errors.New("the file has fewer rows than it says")
	}
	c.pages = c.groups[c.next].ColumnChunks()[c.leaf.column].Pages()
	c.next++
	c.at = row
	return c.pages.SeekToRow(row - c.before)
}

// turn goes to the next page.
func (c *cursor) turn() error {
	if c.pages == nil {
		if c.next == len(c.groups) {
			return errors.New("the file has fewer rows than it says")
		}
		c.pages = c.groups[c.next].ColumnChunks()[c.leaf.column].Pages()
		c.next++
	}
	page, err := c.pages.ReadPage()
	if errors.Is(err, io.EOF) {
		err := c.pages.Close()
		c.pages = nil
		return err
	}
	if err != nil {
		return err
	}
	c.page, c.values = page, page.Values()
	return nil
}

func (c *cursor) drop() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	c.page, c.values = nil, nil
}

func (c *cursor) close() {
	c.drop()
	if c.pages != nil {
		_ = c.pages.Close() // it was only read
		c.pages = nil
	}
}

// read appends up to n values of the page.
func (c *cursor) read(dst *[]byte, n int, dtype tensor.DType) (int, error) {
	const most = 1024
	n = min(n, most)
	if floats, ok := c.values.(parquet.FloatReader); ok && c.leaf.feature && dtype == tensor.FP32 {
		c.floats = slices.Grow(c.floats[:0], n)[:n]
		got, err := floats.ReadFloats(c.floats)
		*dst = append(*dst, tensor.AsBytes(c.floats[:got])...)
		return got, err
	}
	c.buffer = slices.Grow(c.buffer[:0], n)[:n]
	got, err := c.values.ReadValues(c.buffer)
	for i, v := range c.buffer[:got] {
		if !c.leaf.feature {
			*dst = appendID(*dst, v)
			continue
		}
		var failed error
		if *dst, failed = appendFeature(*dst, v, dtype); failed != nil {
			return i, fmt.Errorf("row %d: %w", c.at+int64(i)+1, failed)
		}
	}
	return got, err
}

// appendFeature appends a number as the model takes it.
func appendFeature(dst []byte, v parquet.Value, dtype tensor.DType) ([]byte, error) {
	switch dtype {
	case tensor.FP32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(singleOf(v))), nil
	case tensor.FP64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(doubleOf(v))), nil
	}
	whole := int64(0)
	switch f := doubleOf(v); {
	case v.IsNull():
		return dst, fmt.Errorf("a value is missing, for which %v has no room", dtype)
	case v.Kind() == parquet.Int64:
		whole = v.Int64()
	case f != math.Trunc(f) || math.Abs(f) > 1<<53:
		return dst, fmt.Errorf("%v is not a whole number", f)
	default:
		whole = int64(f)
	}
	if dtype == tensor.Int64 {
		return binary.LittleEndian.AppendUint64(dst, uint64(whole)), nil
	}
	if whole != int64(int32(whole)) {
		return dst, fmt.Errorf("%d does not fit %v", whole, dtype)
	}
	return binary.LittleEndian.AppendUint32(dst, uint32(whole)), nil
}

func singleOf(v parquet.Value) float32 {
	if !v.IsNull() {
		switch v.Kind() {
		case parquet.Float:
			return v.Float()
		case parquet.Int32:
			return float32(v.Int32())
		case parquet.Int64: // rounded once
			return float32(v.Int64())
		}
	}
	return float32(doubleOf(v))
}

func doubleOf(v parquet.Value) float64 {
	if v.IsNull() {
		return math.NaN()
	}
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return 1
		}
		return 0
	case parquet.Int32:
		return float64(v.Int32())
	case parquet.Int64:
		return float64(v.Int64())
	case parquet.Float:
		return float64(v.Float())
	}
	return v.Double()
}

// caught makes an error of a panic in the library, to which a damaged file may lead.
func caught(err *error) {
	if cause := recover(); cause != nil {
		*err = badInput("the file is damaged: %v", cause)
	}
}

func (s *parquetSource) skip(p position) error {
	if p.Rows > s.rows {
		return badInput("it has fewer rows than it had")
	}
	s.at = p.Rows
	return nil
}

// next hands a chunk to the readers.
func (s *parquetSource) next(c *chunk) error {
	if s.at >= s.rows {
		return io.EOF
	}
	a := assignment{c, s.at, int(min(chunkRows, s.rows-s.at))}
	s.at += int64(a.rows)
	c.end, c.rows, c.lines = s.at, a.rows, 0
	c.columns = slices.Grow(c.columns[:0], len(s.leaves))[:len(s.leaves)]
	c.failed.Store(nil)
	if c.loaded == nil {
		c.loaded = make(chan struct{}, len(s.readers))
	}
	c.waits = len(s.readers)
	for _, r := range s.readers {
		r.work <- a
	}
	return nil
}

// decode waits for the columns and turns them into rows.
func (s *parquetSource) decode(c *chunk) error {
	for ; c.waits > 0; c.waits-- {
		<-c.loaded
	}
	if err := c.failed.Load(); err != nil {
		return *err
	}
	width, size := len(s.layout.features), s.dtype.Size()
	c.data = slices.Grow(c.data[:0], c.rows*width*size)[:c.rows*width*size]
	if size == 4 {
		turn4(c.data, c.columns[:width], c.rows)
	} else {
		turn8(c.data, c.columns[:width], c.rows)
	}
	c.ids, c.bytes = c.ids[:len(s.layout.ids)], c.bytes[:0]
	for i := range c.ids {
		c.ids[i] = c.ids[i][:0]
		for column := c.columns[width+i]; len(column) > 0; {
			length, n := binary.Uvarint(column)
			if length == 0 {
				c.ids[i] = append(c.ids[i], span{-1, -1})
				column = column[n:]
				continue
			}
			end := n + int(length) - 1
			c.ids[i] = append(c.ids[i], span{len(c.bytes), len(c.bytes) + end - n})
			c.bytes = append(c.bytes, column[n:end]...)
			column = column[end:]
		}
	}
	return nil
}

// turn4 makes rows of columns of 4 bytes a value, some rows at a time, so that what is written stays in the cache.
func turn4(dst []byte, columns [][]byte, n int) {
	const block = 64
	width := 4 * len(columns)
	for from := 0; from < n; from += block {
		to := min(from+block, n)
		for c, column := range columns {
			for row := from; row < to; row++ {
				copy(dst[row*width+4*c:][:4], column[4*row:])
			}
		}
	}
}

func turn8(dst []byte, columns [][]byte, n int) {
	const block = 64
	width := 8 * len(columns)
	for from := 0; from < n; from += block {
		to := min(from+block, n)
		for c, column := range columns {
			for row := from; row < to; row++ {
				copy(dst[row*width+8*c:][:8], column[8*row:])
			}
		}
	}
}

func (s *parquetSource) columns() *layout { return s.layout }

func (s *parquetSource) total() int64 { return s.rows }

func (s *parquetSource) kinds() []idKind {
	var kinds []idKind
	for _, l := range s.leaves {
		if !l.feature {
			kinds = append(kinds, l.kind)
		}
	}
	return kinds
}

// close ends the readers.
func (s *parquetSource) close() error {
	for _, r := range s.readers {
		close(r.work)
	}
	s.end.Wait()
	return nil
}
