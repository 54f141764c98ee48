package packaging

import (
	"errors"
	"fmt"
)

// The kinds of failure that a caller can act on; every other is one of the file system.
var (
	// ErrFormat: the file is not a package as docs/formats/package.md has it, or a damaged one.
	ErrFormat = errors.New("not a sound package")
	// ErrForeign: the file does not begin as a package does. It may be one of the old service.
	ErrForeign = errors.New("not a package of Picket")
	// ErrNewer: the package is of a format that this program does not know.
	ErrNewer = errors.New("a package of a newer format")
)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrFormat, fmt.Errorf(format, args...))
}
