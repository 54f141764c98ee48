package dl

import "io"

// A Check reads a library before it is loaded and returns the reason not to load it; see [OpenFile].
type Check func(library io.ReaderAt, size int64) error

// MaxFileSize is the size in bytes above which OpenFile refuses a file: its copy lives in memory.
const MaxFileSize = 1 << 30

// ForHost returns a check that inspects the library, names it in errors, and demands that it suits the host and exports
// all of symbols.
func ForHost(name string, host Host, symbols ...string) Check {
	return func(library io.ReaderAt, size int64) error {
		object, err := inspect(library, size, name)
		if err != nil {
			return err
		}
		if err := object.CheckHost(host); err != nil {
			return err
		}
		return object.Require(symbols...)
	}
}
