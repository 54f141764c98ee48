package device_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/device"
	"github.com/picket-ml/picket/internal/fleet/fleettest"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/disktrace"
)

// asDevice has the test binary be a device: the folder of the fleet, the root document,
// the device's own folder, and the version whose load ends it.
const asDevice = "PICKET_TEST_DEVICE"

// asTraced has the folder below which the test binary, traced, keeps a device's state.
const asTraced = "PICKET_TEST_DEVICE_TRACED"

func TestMain(m *testing.M) {
	if os.Getenv(asDevice) != "" {
		os.Exit(beDevice(os.Args[1], os.Args[2], os.Args[3], os.Args[4]))
	}
	if dir := os.Getenv(asTraced); dir != "" {
		if err := device.KeepStates(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	testkit.VerifyNoLeaks(m)
}

// TestStateIsOnDisk: what is tried is known after a loss of power too.
func TestStateIsOnDisk(t *testing.T) {
	dir := t.TempDir()
	disktrace.Check(t, dir, disktrace.Self(t, asTraced+"="+dir), 3)
}

// beDevice looks again and again, and says what it serves, until it is killed.
func beDevice(place, rootFile, dir, deadly string) int {
	fail := func(err error) int {
		fmt.Println("failed:", err)
		return 1
	}
	b, err := fleet.NewFolder(place)
	if err != nil {
		return fail(err)
	}
	root, err := os.ReadFile(rootFile)
	if err != nil {
		return fail(err)
	}
	loader := &fleettest.Loader{Dies: map[string]func(){deadly: func() { os.Exit(139) }}}
	a, err := device.New(device.Options{Name: "till-1", Fleet: "pos", Group: "default", Bucket: b, Root: root, Dir: dir, Loader: loader, Interval: time.Second})
	if err != nil {
		return fail(err)
	}
	a.Start(context.Background())
	for {
		fmt.Println("serving", loader.Version("fraud"))
		if err := a.Poll(context.Background()); err != nil {
			fmt.Println("problem:", err)
		}
	}
}
