//go:build cgo && linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/backends/cuda"
	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/internal/cuda/cudatest"
	"github.com/picket-ml/picket/internal/cuda/devices"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"

	driver "github.com/picket-ml/picket/internal/cuda"
)

func TestMain(m *testing.M) {
	testkit.VerifyNoLeaks(m,
		testkit.Handles{Name: "things of the CUDA driver", Open: driver.Live},
		testkit.Handles{Name: "buffers", Open: func() int64 { return tensor.MemoryUsage().Live }})
}

// TestOnFakeDriver runs what the program does on a GPU on a driver without one, so that the one short time in which there is a GPU is not spent on
// the program's own mistakes. The figures mean nothing.
func TestOnFakeDriver(t *testing.T) {
	host := hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true})
	host.GPUs = []hw.GPU{{Name: "Fake GPU"}}
	library := cudatest.Library(t)
	set := devices.New(devices.Options{Library: library})
	s := &subjects{host: host, forest: forest.New(), gpu: cuda.New(cuda.Options{Devices: set}), serial: cuda.New(cuda.Options{Devices: set, Slots: 1})}
	for _, b := range []*cuda.Backend{s.gpu, s.serial} {
		if err := b.Probe(host); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for name, of := range map[string]madeUp{"small": {20, 5, 12}, "wide": {60, 5, 3500}} {
		to, err := folder(dir, name, "", of)
		if err != nil {
			t.Fatal(err)
		}
		rows := 9001
		if of.features > 1000 {
			rows = 2100
		}
		if err := s.same(t.Context(), to, rows); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name != "small" {
			continue
		}
		k, err := s.measure(t.Context(), to, []int{64, 2100})
		if err != nil {
			t.Fatal(err)
		}
		if len(k) != 8 || k.of("cuda", 2100) <= 0 || k.of("forest", 64) <= 0 {
			t.Errorf("measured %+v", k)
		}
		var told []cuda.Chunk
		watched := cuda.New(cuda.Options{Devices: set, Timeline: func(c cuda.Chunk) { told = append(told, c) }})
		if err := watched.Probe(host); err != nil {
			t.Fatal(err)
		}
		const chunked = 300_000
		chunks, err := s.timeline(t.Context(), watched, &told, to, chunked)
		if err != nil {
			t.Fatal(err)
		}
		rows = 0
		slots := map[int]bool{}
		for n, c := range chunks {
			rows += c.Rows
			slots[c.Slot] = true
			if c.Began < 0 || c.Copied < c.Began || c.Computed < c.Copied || c.Returned < c.Computed {
				t.Errorf("chunk %d: %+v", n, c)
			}
		}
		if len(chunks) != 4 || len(slots) != 3 || rows != chunked || atOnce(chunks) <= 0 {
			t.Errorf("%d chunks of %d rows, %v at once", len(chunks), rows, atOnce(chunks))
		}
		showTimeline(chunks)
		name := filepath.Join(t.TempDir(), "timeline.json")
		if err := writeTimeline(name, chunks); err != nil {
			t.Fatal(err)
		}
		var written struct{ TraceEvents []traceEvent }
		if data, err := os.ReadFile(name); err != nil || json.Unmarshal(data, &written) != nil || len(written.TraceEvents) != 12 || written.TraceEvents[1].Name != "kernel" {
			t.Errorf("the file has %+v, %v", written, err)
		}
	}
	if r, err := bandwidth(library, 1); err != nil || r.in <= 0 || r.out <= 0 {
		t.Errorf("the bus gives %+v, %v", r, err)
	}
}
