package dlr_test

import (
	"os"
	"testing"

	"github.com/picket-ml/picket/cdlr"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// childVariable is set in the process that TestAlignedAllocator starts: libdlr's
// allocator is the process's for good, so it is tried in one of its own.
const childVariable = "PICKET_TEST_DLR_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(m.Run())
	}
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }},
		testkit.Handles{Name: "libraries", Open: func() int64 { return int64(dl.OpenCount()) }},
		testkit.Handles{Name: "models of libdlr", Open: func() int64 { return int64(cdlr.OpenModels()) }},
		testkit.Handles{Name: "libdlrs", Open: func() int64 { return int64(cdlr.OpenLibraries()) }})
}
