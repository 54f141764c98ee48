package dlr

import (
	"fmt"
	"os"
	"sync/atomic"
)

// paths counts the calls of uniquePath, in the whole process because the loader
// it is about is the process's.
var paths atomic.Uint64

// uniquePath names what f refers to, for as long as f is open, in words that no
// other call uses. The loader looks for a library by its path among those
// that are mapped before it looks at the file, and libdlr does not promise to
// unmap a model's library: with the bare number of the descriptor, the next file
// to get that number could be answered with the library of an earlier one. So
// the number of the call is put in, in binary, as steps that lead nowhere.
func uniquePath(f *os.File) string {
	steps := ""
	for call := paths.Add(1); call > 0; call >>= 1 {
		if call&1 == 1 {
			steps += "./"
		} else {
			steps += "/"
		}
	}
	return fmt.Sprintf("/proc/self/%sfd/%d", steps, f.Fd())
}
