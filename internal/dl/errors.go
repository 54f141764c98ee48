package dl

import "errors"

// ErrUnavailable is wrapped by every loading function in a build that cannot load libraries; see [Probe].
var ErrUnavailable = errors.New("native libraries cannot be loaded")

// ErrClosed is wrapped by the methods of a Library that has been closed.
var ErrClosed = errors.New("library is closed")

// An ObjectError says why a file cannot be used as a library on this host. It is about the file, not about the
// reading of it: an I/O error while reading is never an ObjectError.
type ObjectError struct {
	// Name is the file's name as the caller gave it, and the subject of the sentence.
	Name string
	// Problem is the rest of the sentence: "is built for aarch64, this host is x86-64".
	Problem string
}

func (e *ObjectError) Error() string { return e.Name + " " + e.Problem }
