package testkit

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Handles counts one kind of thing a package must give back: Buffers, opened
// libraries, shared-memory segments.
type Handles struct {
	// Name is what the failure calls them, in the plural: "buffers".
	Name string
	// Open returns how many are open now. It may be called from any goroutine.
	Open func() int64
}

// leakPatience is how long VerifyNoLeaks waits for handles that another
// goroutine, or a cleanup run by the collector, is about to close.
const leakPatience = 2 * time.Second

// VerifyNoLeaks runs a package's tests and exits the process. When the tests pass
// but goroutines still run or handles are still open, it says which and exits 1.
// It is all a TestMain needs:
//
//	func TestMain(m *testing.M) {
//		testkit.VerifyNoLeaks(m, testkit.Handles{Name: "buffers", Open: tensor.OpenBuffers})
//	}
func VerifyNoLeaks(m *testing.M, handles ...Handles) {
	code := m.Run()
	if code == 0 {
		if err := findLeaks(leakPatience, handles); err != nil {
			fmt.Fprintf(os.Stderr, "testkit: leaks after passing tests: %v\n", err)
			code = 1
		}
	}
	os.Exit(code)
}

// findLeaks looks at goroutines first, because one that still runs explains a
// handle that is still open.
func findLeaks(patience time.Duration, handles []Handles) error {
	if err := goleak.Find(
		// A toxiproxy that cuts a connection leaves the goroutines that fed it. They are the test's tool, not what is tested.
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).write"),
		goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
	); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for _, h := range handles {
		for h.Open() != 0 {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d %s still open", h.Open(), h.Name)
			}
			runtime.GC()
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}
