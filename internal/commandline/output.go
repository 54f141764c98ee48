package commandline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Output is the standard output of a program whose commands, and the library that prints their help, do not look whether each write went
// well: whoever runs them asks Failed at the end. It is written to by one goroutine.
type Output struct {
	To  io.Writer
	err error // of the first write that failed, after which nothing is written
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (n int, err error) {
	if o.err == nil {
		n, o.err = o.To.Write(p)
	}
	return n, o.err
}

// Failed is what becomes of a command that ended with err, nil for well: whoever reads the output has less than there is.
func (o *Output) Failed(err error) error {
	if o.err == nil || err != nil && !errors.Is(err, o.err) {
		return nil
	}
	cause := o.err
	if path := (*fs.PathError)(nil); errors.As(cause, &path) {
		cause = path.Err // the file is called /dev/stdout, whatever it is
	}
	return fmt.Errorf("writing the output: %w", cause)
}
