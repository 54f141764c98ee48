//go:build cgo && linux

package treelite

// #include "predict.h"
import "C"

import (
	"fmt"
	"unsafe"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// maxTypeName bounds what is read of a text that a library points to.
const maxTypeName = 64

// queries calls the functions by which a library describes itself. After the
// first symbol that is missing, err is set and nothing is called any more.
type queries struct {
	library *dl.Library
	err     error
}

// symbol is the address of a query function, or nil with err set.
func (q *queries) symbol(name string) unsafe.Pointer {
	if q.err != nil {
		return nil
	}
	address, err := q.library.Symbol(name)
	if err != nil {
		q.err = fmt.Errorf("%w: %w", engine.ErrArtifact, err)
		return nil
	}
	return address
}

// size calls size_t name(void).
func (q *queries) size(name string) uint64 {
	if f := q.symbol(name); f != nil {
		return uint64(C.picket_trees_size(f))
	}
	return 0
}

// count calls int32_t name(void). A negative count is as good as none.
func (q *queries) count(name string) uint64 {
	if f := q.symbol(name); f != nil {
		return uint64(max(0, C.picket_trees_int(f)))
	}
	return 0
}

// largest calls void name(int32_t result[n]) and gives the largest result.
func (q *queries) largest(name string, n int) uint64 {
	f := q.symbol(name)
	if f == nil {
		return 0
	}
	results := make([]C.int32_t, n)
	C.picket_trees_ints(f, unsafe.SliceData(results))
	largest := C.int32_t(0)
	for _, r := range results {
		largest = max(largest, r)
	}
	return uint64(largest)
}

// text calls const char *name(void) and copies what it points to.
func (q *queries) text(name string) string {
	f := q.symbol(name)
	if f == nil {
		return ""
	}
	var length C.size_t
	text := C.picket_trees_text(f, &length, maxTypeName)
	return C.GoStringN(text, C.int(length))
}
