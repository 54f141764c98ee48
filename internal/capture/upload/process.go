package upload

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"

	"github.com/picket-ml/picket/internal/capture"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// Records become objects in a process of their own, so that its memory is collected and its
// processor's time is given by others' leave: what is made of a record are a dozen small
// things, and the collector of the process that answers predictions would go through all of
// them, on every processor, at the priority of predictions (docs/RATIONALE.md).
//
// The process knows nothing and keeps nothing: it is told the recipe, and then asks, over its
// standard input and output, for a segment, for its batches and what lies beside records, and
// gives the objects away. Only it asks, and one thing at a time, so neither side waits for
// the other in a circle. Where it ends, by whatever, another one begins with the segment
// again; the same objects have the same names.

// Process is a Preparer that has another process prepare, in which Serve runs. Its zero
// value, with Command, Version, Recipe and Log, is ready.
type Process struct {
	// Command is the process, not started yet. Its standard input and output are not set.
	Command func() *exec.Cmd
	// Version is this program's. A process of another version refuses to work.
	Version string
	Recipe  Recipe
	Log     *slog.Logger

	child *child // nil while there is none
}

// child is a process that runs.
type child struct {
	command *exec.Cmd
	wire    *wire
	stdin   io.Closer
	exited  chan struct{} // closed when it has
}

// Prepare implements Preparer.
func (p *Process) Prepare(ctx context.Context, job Job, w Work) (Prepared, error) {
	if p.child != nil {
		select {
		case <-p.child.exited: // while it had nothing to do
			_ = p.Close()
		default:
		}
	}
	if p.child == nil {
		var err error
		if p.child, err = p.start(); err != nil {
			return Prepared{}, fmt.Errorf("starting the process that prepares captured records: %w", err)
		}
	}
	c := p.child
	stop := context.AfterFunc(ctx, c.kill)
	defer stop()
	out, err := c.prepare(job, w, p.Log)
	if err == nil {
		return out, nil
	}
	_ = p.Close()
	switch lost := (*wireError)(nil); {
	case ctx.Err() != nil:
		return out, context.Cause(ctx)
	case errors.As(err, &lost):
		// The error of the pipe is none of the disk's, to which reasons would count it.
		return out, fmt.Errorf("the process that prepares captured records has ended (%s): %v", c.command.ProcessState, lost.error) //nolint:errorlint // see above
	}
	return out, err
}

// Close implements Preparer.
func (p *Process) Close() error {
	if p.child != nil {
		p.child.kill()
		<-p.child.exited
		p.child = nil
	}
	return nil
}

func (p *Process) start() (*child, error) {
	c := &child{command: p.Command(), exited: make(chan struct{})}
	in, err := c.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdin, c.wire = in, newWire(out, in)
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = c.command.Wait() // how it has ended is in ProcessState
		close(c.exited)
	}()
	if err := c.wire.send(hello{p.Version, p.Recipe}); err != nil {
		c.kill()
		<-c.exited
		return nil, fmt.Errorf("%w (%s)", err, c.command.ProcessState)
	}
	return c, nil
}

// kill ends it. It keeps nothing, and does not mind.
func (c *child) kill() {
	_ = c.command.Process.Kill() // it may have ended
	_ = c.stdin.Close()
}

// prepare answers what the process asks until the segment is done. After an error it is of no
// use any more.
func (c *child) prepare(job Job, w Work, log *slog.Logger) (out Prepared, err error) {
	if err := c.wire.send(reply{Job: &job}); err != nil {
		return out, err
	}
	for {
		var q question
		bodies, err := c.wire.receive(&q)
		if err != nil {
			return out, err
		}
		var a reply
		var body []byte
		switch q.Kind {
		case asksBatch:
			p, err := w.Next()
			if err != nil {
				return out, err
			}
			if p != nil {
				head := *p
				head.Bytes, body, a.Payload = nil, p.Bytes, &head
			}
		case asksBeside:
			if body, err = w.Beside(&q.Beside); err != nil && !errors.Is(err, spool.ErrDamaged) {
				return out, err
			} else if err != nil {
				a.Damaged = err.Error()
			}
		case hasObject:
			if len(bodies) != len(q.Object.Items) {
				return out, fmt.Errorf("the process that prepares captured records gives %d objects for %d", len(bodies), len(q.Object.Items))
			}
			for i := range bodies {
				q.Object.Items[i].Body = bodies[i]
			}
			if err := w.Object(&q.Object); err != nil {
				return out, err
			}
		case hasWords:
			q.Words.log(log)
			continue // nothing is answered
		case isDone:
			if q.Failed != "" {
				return q.Prepared, fmt.Errorf("preparing captured records: %s", q.Failed)
			}
			return q.Prepared, nil
		}
		if err := c.wire.send(a, body); err != nil {
			return out, err
		}
	}
}

// Serve is the other side of a Process: it prepares what it is asked to over in and out, until
// in ends. version is its program's; flaw, if any, is for the log.
func Serve(in io.Reader, out io.Writer, version string, flaw error) error {
	w := newWire(in, out)
	var h hello
	if _, err := w.receive(&h); err != nil {
		return err
	}
	log := slog.New(teller{w})
	r, refused := newRecipe(&h.Recipe, log)
	if h.Version != version {
		refused = fmt.Errorf("the daemon is of version %s and the program that prepares of %s: restart the daemon", h.Version, version)
	}
	for {
		var a reply
		if _, err := w.receive(&a); err != nil || a.Job == nil {
			if errors.Is(err, io.EOF) {
				return nil // nobody wants anything any more
			}
			return err
		}
		if flaw != nil {
			log.Warn("the process that prepares captured records is not all that it should be", "error", flaw)
			flaw = nil
		}
		q := question{Kind: isDone}
		err := refused
		if err == nil {
			q.Prepared, err = r.Prepare(context.Background(), *a.Job, remote{w})
		}
		if err != nil {
			q.Failed = err.Error()
		}
		if err := w.send(q); err != nil {
			return err
		}
	}
}

// remote is the Work of a Job whose other half is in another process.
type remote struct{ *wire }

// Next implements Work.
func (r remote) Next() (*spool.Payload, error) {
	a, body, err := r.ask(question{Kind: asksBatch})
	if err == nil && a.Payload != nil {
		a.Payload.Bytes = body
	}
	return a.Payload, err
}

// Beside implements Work.
func (r remote) Beside(at *capture.Beside) ([]byte, error) {
	a, body, err := r.ask(question{Kind: asksBeside, Beside: *at})
	if err == nil && a.Damaged != "" {
		err = damage(a.Damaged)
	}
	return body, err
}

// damage is a spool.ErrDamaged of the other process, in its words.
type damage string

// Error implements error.
func (d damage) Error() string { return string(d) }

// Unwrap implements the errors package's interface.
func (damage) Unwrap() error { return spool.ErrDamaged }

// Object implements Work.
func (r remote) Object(o *Object) error {
	q := question{Kind: hasObject, Object: *o}
	bodies := make([][]byte, len(o.Items))
	for i := range o.Items {
		bodies[i], o.Items[i].Body = o.Items[i].Body, nil
	}
	_, _, err := r.ask(q, bodies...)
	return err
}

// ask sends a question and returns the answer with its bytes.
func (w *wire) ask(q question, bodies ...[]byte) (a reply, body []byte, err error) {
	if err := w.send(q, bodies...); err != nil {
		return a, nil, err
	}
	all, err := w.receive(&a)
	if err == nil && len(all) > 0 {
		body = all[0]
	}
	return a, body, err
}

// hello is the first that a process is told.
type hello struct {
	Version string
	Recipe  Recipe
}

// question is what a process says.
type question struct {
	Kind     kind
	Beside   capture.Beside // asksBeside
	Object   Object         // hasObject, whose bodies follow
	Words    words          // hasWords
	Prepared Prepared       // isDone
	Failed   string         // isDone, and why not
}

type kind uint8

const (
	asksBatch kind = iota + 1
	asksBeside
	hasObject
	hasWords
	isDone
)

// reply is what it is answered, or told to do.
type reply struct {
	Job     *Job
	Payload *spool.Payload // whose bytes follow; nil after the last
	Damaged string         // why what lies beside, whose bytes follow, is not to be had
}

// wire is one end of a connection: values, each with bytes behind it, which are not copied
// once more.
type wire struct {
	in  *bufio.Reader
	out *bufio.Writer
	dec *gob.Decoder
	enc *gob.Encoder
}

// mostBytes bounds what one body has: far more than any object.
const mostBytes = 1 << 31

func newWire(in io.Reader, out io.Writer) *wire {
	w := &wire{in: bufio.NewReaderSize(in, 64<<10), out: bufio.NewWriterSize(out, 64<<10)}
	w.dec, w.enc = gob.NewDecoder(w.in), gob.NewEncoder(w.out)
	return w
}

// wireError is that of a connection.
type wireError struct{ error }

func (e *wireError) Unwrap() error { return e.error }

func (w *wire) send(v any, bodies ...[]byte) error {
	sizes := make([]int, len(bodies))
	for i, b := range bodies {
		sizes[i] = len(b)
	}
	err := w.enc.Encode(v)
	if err == nil {
		err = w.enc.Encode(sizes)
	}
	for _, b := range bodies {
		if err == nil {
			_, err = w.out.Write(b)
		}
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err != nil {
		return &wireError{err}
	}
	return nil
}

// receive reads into v, and returns the bytes behind it.
func (w *wire) receive(v any) ([][]byte, error) {
	var sizes []int
	err := w.dec.Decode(v)
	if err == nil {
		err = w.dec.Decode(&sizes)
	}
	bodies := make([][]byte, len(sizes))
	for i, n := range sizes {
		if err == nil && (n < 0 || n > mostBytes) {
			err = fmt.Errorf("%d bytes are more than an object has", n)
		}
		if err == nil {
			bodies[i] = make([]byte, n)
			_, err = io.ReadFull(w.in, bodies[i])
		}
	}
	if err != nil {
		return nil, &wireError{err}
	}
	return bodies, nil
}

// words are a line of the log.
type words struct {
	Level   slog.Level
	Message string
	Attrs   [][2]string
}

func (l *words) log(to *slog.Logger) {
	attrs := make([]slog.Attr, len(l.Attrs))
	for i, a := range l.Attrs {
		attrs[i] = slog.String(a[0], a[1])
	}
	to.LogAttrs(context.Background(), l.Level, l.Message, attrs...) //nolint:sloglint // the other process has the text
}

// teller is the log of a process that prepares: the other process writes it.
type teller struct{ *wire }

// Enabled implements slog.Handler.
func (teller) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (t teller) Handle(_ context.Context, r slog.Record) error {
	l := words{Level: r.Level, Message: r.Message}
	r.Attrs(func(a slog.Attr) bool {
		l.Attrs = append(l.Attrs, [2]string{a.Key, a.Value.String()})
		return true
	})
	return t.send(question{Kind: hasWords, Words: l})
}

// WithAttrs implements slog.Handler.
func (t teller) WithAttrs([]slog.Attr) slog.Handler { return t }

// WithGroup implements slog.Handler.
func (t teller) WithGroup(string) slog.Handler { return t }
