package ensemble

import (
	"errors"
	"fmt"
)

// ErrUnsupported is answered (through errors.Is) for a file of a known format that uses something this package does not
// support, as opposed to one that is damaged: another program may run it.
var ErrUnsupported = errors.New("not supported")

// unsupportedError says in its text what is not supported.
type unsupportedError string

func (e unsupportedError) Error() string { return string(e) }

// Is makes it an ErrUnsupported.
func (unsupportedError) Is(target error) bool { return target == ErrUnsupported }

func unsupported(format string, args ...any) error {
	return unsupportedError(fmt.Sprintf(format, args...))
}
