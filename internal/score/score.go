package score

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// Header says whether the first line of CSV names the columns.
type Header string

// With HeaderAuto it does if no field of it is a number or empty.
const (
	HeaderAuto Header = "auto"
	HeaderYes  Header = "yes"
	HeaderNo   Header = "no"
)

// Options is what is to be scored.
type Options struct {
	Model         string // a folder or a package, for Source
	Source        engine.Source
	Backends      []engine.Backend
	Backend       string // that is to run it; empty for the fastest
	Host          *hw.Host
	Version       string // of the program
	Input, Output string // files; Output is Parquet if its name ends in .parquet
	Header        Header
	// Columns are those that the model takes, in its order, and IDs those that are passed through: names, or numbers from 1 as 3
	// or 3-32. Without Columns they are all but those of IDs.
	Columns, IDs []string
	// Threads is how many cores are used; 0 for all that there are.
	Threads int
	// Every is how often progress is forced to disk; 0 after every chunk.
	Every time.Duration
	// Restart forgets how far another run was.
	Restart bool
	// Progress is told how much of the input is done, in bytes or rows, and how many rows that were in this run. Nil for
	// nobody.
	Progress func(done, total, rows int64)
}

// Summary is what was done.
type Summary struct {
	Model   string `json:"model"`
	Backend string `json:"backend"`
	Variant string `json:"variant"`
	Input   string `json:"input"`
	Output  string `json:"output"`
	Rows    int64  `json:"rows"`         // of the output
	Resumed int64  `json:"resumed_rows"` // of them, by earlier runs
	// Seconds is from the first byte that was read to the output, RowsPerS of the rows of this run.
	Seconds  float64 `json:"seconds"`
	RowsPerS float64 `json:"rows_per_s"`
}

// source is an input. decode is for many goroutines, the rest for one.
type source interface {
	columns() *layout
	kinds() []idKind
	// skip goes on behind a position.
	skip(p position) error
	// next gives the next chunk to decode, io.EOF after the last.
	next(c *chunk) error
	// decode reads its rows.
	decode(c *chunk) error
	// total is how far the end is, in what chunk.end counts.
	total() int64
	close() error
}

// Run scores the input. After an error, or when ctx has ended, the next Run with the same options goes on; unless the error
// is ErrInput, when nothing is left behind.
func Run(ctx context.Context, o Options) (_ Summary, err error) {
	summary := Summary{Model: o.Model, Input: o.Input, Output: o.Output}
	if o.Threads == 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Header == "" {
		o.Header = HeaderAuto
	}
	f, size, w, err := openInput(&o)
	if err != nil {
		return summary, err
	}
	defer f.Close()
	if o.Restart {
		if err := discard(o.Output); err != nil {
			return summary, err
		}
	}
	left, err := readCheckpoint(o.Output)
	if err != nil {
		return summary, err
	}
	backend := ""
	if left != nil && o.Backend == "" { // another may be the fastest now, and would give other bits
		backend = left.Work.Backend
	}
	m, err := openModel(ctx, &o, backend)
	if err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	w.Model, w.Backend = m.digest, m.backend
	summary.Backend, summary.Variant = m.backend, m.variant
	if left != nil {
		if what := left.Work.differs(&w); what != "" {
			return summary, fmt.Errorf("scoring into %s: %s is of %s; begin anew with --restart", o.Output, checkpointPath(o.Output), what)
		}
	}

	began := time.Now()
	src, err := openSource(f, size, &o, m)
	if err != nil {
		return summary, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	j := &job{options: &o, model: m, source: src, work: w}
	defer func() {
		if j.partial == nil {
			return
		}
		err = errors.Join(err, j.partial.close())
		if errors.Is(err, ErrInput) {
			err = errors.Join(err, discard(o.Output))
		}
	}()
	if err := j.open(left); err != nil {
		return summary, err
	}
	summary.Resumed = j.at.Rows
	if err := j.run(ctx); err != nil {
		return summary, err
	}
	if err := j.partial.finish(j.writer); err != nil {
		return summary, err
	}
	summary.Rows = j.at.Rows
	summary.Seconds = time.Since(began).Seconds()
	summary.RowsPerS = float64(summary.Rows-summary.Resumed) / summary.Seconds
	return summary, nil
}

// openInput opens the input and begins to say what work it is.
func openInput(o *Options) (*os.File, int64, work, error) {
	w := work{Picket: o.Version, Columns: o.Columns, IDs: o.IDs, Header: o.Header}
	var err error
	if w.Input, err = filepath.Abs(o.Input); err != nil {
		return nil, 0, w, fmt.Errorf("finding the input: %w", err)
	}
	f, err := os.Open(o.Input)
	if err != nil {
		return nil, 0, w, fmt.Errorf("opening the input: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = badInput("%s is a folder; name one file, or score one after the other", o.Input)
	case !info.Mode().IsRegular():
		err = badInput("%s is no file; write what comes through a pipe to one first", o.Input)
	}
	if err != nil {
		return nil, 0, w, errors.Join(err, f.Close())
	}
	if out, statErr := os.Stat(o.Output); statErr == nil && os.SameFile(info, out) {
		return nil, 0, w, errors.Join(badInput("%s is the input and cannot be the output too", o.Output), f.Close())
	}
	w.Size, w.Modified = info.Size(), info.ModTime().UTC()
	return f, info.Size(), w, nil
}

// openSource sees from the first bytes what the input is.
func openSource(f *os.File, size int64, o *Options, m *model) (source, error) {
	var magic [4]byte
	if _, err := f.ReadAt(magic[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the input: %w", err)
	}
	var s source
	var err error
	if bytes.Equal(magic[:], []byte("PAR1")) {
		s, err = openParquet(f, size, o, m.features, m.input)
	} else {
		s, err = openCSV(f, size, o, m.features, m.input)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", o.Input, err)
	}
	return s, nil
}

// job is one run on its way.
type job struct {
	options *Options
	model   *model
	source  source
	writer  writer
	partial *partial
	work    work
	at      position
	kept    time.Time // when progress was last forced to disk
}

// open goes on where a checkpoint says, or begins.
func (j *job) open(left *checkpoint) (err error) {
	l := j.source.columns()
	_, fromCSV := j.source.(*csvSource)
	t, err := newTable(l.idNames(), j.source.kinds(), j.model.outputs, l.names != nil, fromCSV)
	if err != nil {
		return err
	}
	j.writer = &csvWriter{t}
	if strings.EqualFold(filepath.Ext(j.options.Output), ".parquet") {
		j.writer = &parquetWriter{t}
	}
	if j.partial, err = openPartial(j.options.Output, left); err != nil {
		return err
	}
	if left == nil {
		return j.partial.append(j.writer.start())
	}
	j.at = left.Input
	return j.source.skip(left.Input)
}

// chunks is how many are under way for each worker.
const chunks = 4

// run reads, scores and writes the rest.
func (j *job) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel(nil)
	order, free := j.begin(ctx, &all)
	j.kept = time.Now()
	start := j.at.Rows
	for c := range order {
		<-c.ended
		if c.err != nil {
			if err := context.Cause(ctx); err != nil { // keep what there is
				return errors.Join(err, j.partial.keep(j.work, j.at))
			}
			return j.explain(c.err)
		}
		if err := j.partial.append(c.out); err != nil {
			return err
		}
		j.at.Bytes, j.at.Lines, j.at.Rows = c.end, j.at.Lines+int64(c.lines), j.at.Rows+int64(c.rows)
		if since := time.Since(j.kept); since >= j.options.Every {
			if err := j.partial.keep(j.work, j.at); err != nil {
				return err
			}
			j.kept = time.Now()
		}
		if j.options.Progress != nil {
			j.options.Progress(c.end, j.source.total(), j.at.Rows-start)
		}
		free <- c
	}
	if err := context.Cause(ctx); err != nil {
		return errors.Join(err, j.partial.keep(j.work, j.at))
	}
	if j.at.Rows == 0 {
		return badInput("reading %s: it has no rows", j.options.Input)
	}
	return j.partial.keep(j.work, j.at)
}

// begin has the input read and scored, by goroutines that all counts and that end with ctx. Chunks come in order as they were read, which
// is not yet scored: c.ended says when. They go back to free, or no more come.
func (j *job) begin(ctx context.Context, all *sync.WaitGroup) (order <-chan *chunk, free chan<- *chunk) {
	most := chunks * j.options.Threads
	var (
		unused = make(chan *chunk, most) // to be filled
		begun  = make(chan *chunk, most) // to be scored
		read   = make(chan *chunk, most) // to be written, in the order of the input
	)
	for range most {
		unused <- &chunk{
			ended: make(chan struct{}, 1), ids: make([][]span, 0, len(j.source.columns().ids)), scored: make([][]byte, len(j.model.outputs)),
		}
	}
	all.Go(func() {
		defer close(read)
		defer close(begun)
		for {
			var c *chunk
			select {
			case c = <-unused:
			case <-ctx.Done():
				return
			}
			if err := j.source.next(c); err != nil {
				if !errors.Is(err, io.EOF) {
					c.err = err
					c.ended <- struct{}{}
					read <- c
				}
				return
			}
			read <- c // neither is full: there are no more chunks than they hold
			begun <- c
		}
	})
	for range j.options.Threads {
		all.Go(func() {
			for c := range begun {
				c.err = j.score(ctx, c)
				c.ended <- struct{}{}
			}
		})
	}
	return read, unused
}

// score is a worker's part.
func (j *job) score(ctx context.Context, c *chunk) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := j.source.decode(c); err != nil {
		return err
	}
	if err := j.model.run(ctx, c); err != nil {
		return err
	}
	return j.writer.part(c)
}

// explain says in which line of the input the trouble is.
func (j *job) explain(err error) error {
	var line *lineError
	if errors.As(err, &line) {
		return badInput("reading %s: line %d: %v", j.options.Input, j.at.Lines+int64(line.line), line.err)
	}
	if errors.Is(err, ErrInput) {
		return badInput("reading %s: %v", j.options.Input, err)
	}
	return err
}
