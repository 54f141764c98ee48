//go:build cgo && linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// inNamespace says to TestFullDisk that it is the one in a namespace of its own.
const inNamespace = "PICKET_TEST_IN_NAMESPACE"

// smallDisk is a file system of so many bytes, or nil where the test has run in a namespace of its own in which it may make one.
func smallDisk(t *testing.T, size string) (dir string, here bool) {
	t.Helper()
	dir = t.TempDir()
	err := unix.Mount("picket-test", dir, "tmpfs", 0, "mode=0700,size="+size)
	if err == nil {
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("unmounting the small disk: %v", err)
			}
		})
		return dir, true
	}
	if !errors.Is(err, unix.EPERM) || os.Getenv(inNamespace) != "" {
		t.Fatalf("mounting a small disk: %v", err)
	}
	c := exec.Command("unshare", "--user", "--map-root-user", "--mount", os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	c.Env = append(os.Environ(), inNamespace+"=1")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("in a namespace of its own, since this user may not mount: %v\n%s", err, out)
	}
	return "", false
}

// The disk of the spool, a real one, becomes full while everything is captured: predictions do not notice, each record is accepted or
// counted as refused, by the policy, and once there is room the daemon captures again by itself.
func TestFullDisk(t *testing.T) {
	disk, here := smallDisk(t, "4m")
	if !here {
		return
	}
	for _, policy := range []string{"drop_newest", "drop_oldest"} {
		at := filepath.Join(disk, policy)
		c := startCaptured(t, "{rate: 1}", ", dir: "+at+", max_bytes: 1GiB, segment_bytes: 256KiB, beside_bytes: 256KiB, segment_age: 200ms, when_full: "+policy)
		asked := 0
		// Small batches and large ones, which go to the disk in another way.
		ask := func() {
			for _, rows := range []int{1, 1500} {
				in := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, rows*30*4)}}
				out, err := c.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}})
				if err != nil || len(out.GetTensors()) != 1 {
					t.Fatalf("%s: a prediction: %v", policy, err)
				}
				asked++
				time.Sleep(5 * time.Millisecond)
			}
		}
		refused := func() int {
			n := 0
			for _, reason := range []string{"full", "busy", "disk"} {
				n += c.metric(t, `refused_records_total{reason="`+reason+`"}`)
			}
			return n
		}
		ask()
		wait(t, func() bool { return c.metric(t, "accepted_records_total") > 0 })
		// Told and not judged: it depends on the machine.
		slowest := func() time.Duration {
			const n = 500
			in := &agentapi.Tensor{Data: &agentapi.Tensor_ByteData{ByteData: make([]byte, 30*4)}}
			took := make([]time.Duration, n)
			for i := range took {
				begun := time.Now()
				if _, err := c.Predict(t.Context(), &agentapi.PredictRequest{Name: "fraud", Tensors: []*agentapi.Tensor{in}}); err != nil {
					t.Fatalf("%s: a prediction: %v", policy, err)
				}
				took[i] = time.Since(begun)
				asked++
			}
			slices.Sort(took)
			return took[n*99/100]
		}
		usual := slowest()
		// What waits to be written would find no room, and then there is nothing that could give way.
		wait(t, func() bool { return c.metric(t, "accepted_records_total") == asked })

		filler := filepath.Join(disk, "filler")
		file, err := os.Create(filler)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = file.Write(make([]byte, 4096))
		}
		if closeErr := file.Close(); !errors.Is(err, syscall.ENOSPC) || closeErr != nil {
			t.Fatalf("filling the disk: %v, %v", err, closeErr)
		}
		if policy == "drop_newest" {
			wait(t, func() bool { ask(); return c.metric(t, `refused_records_total{reason="full"}`) > 3 })
			if n := c.metric(t, `dropped_records_total{reason="quota"}`); n != 0 {
				t.Errorf("%s: %d records that were accepted were dropped", policy, n)
			}
		} else {
			wait(t, func() bool { ask(); return c.metric(t, `dropped_records_total{reason="quota"}`) > 3 })
		}
		full := slowest()
		t.Logf("%s: the p99 of predictions is %v with room on the disk and %v without, %.2f times", policy, usual, full, float64(full)/float64(usual))
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		before := c.metric(t, "accepted_records_total")
		wait(t, func() bool { ask(); return c.metric(t, "accepted_records_total") > before+3 })
		wait(t, func() bool { return c.metric(t, "accepted_records_total")+refused() == asked })
		c.stop(t)

		s, err := spool.Open(spool.Options{Dir: at})
		if err != nil {
			t.Fatal(err)
		}
		st, found := s.Stats(), 0
		for _, g := range s.Segments() {
			for b, err := range s.Batches(g) {
				if err != nil { // what there was room for of a batch that was refused is no damage
					t.Fatalf("%s: %v", policy, err)
				}
				found += len(b.Records)
			}
		}
		if st.Accepted != st.OnDisk+st.Dropped.Total() || st.Quarantined != 0 || st.DamagedRanges != 0 || int64(found) != st.OnDisk {
			t.Errorf("%s: %d records found; %+v", policy, found, st)
		}
		if err := errors.Join(s.Close(), os.RemoveAll(at)); err != nil {
			t.Fatal(err)
		}
	}
}
