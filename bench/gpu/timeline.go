//go:build cgo && linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/picket-ml/picket/tensor"

	backend "github.com/picket-ml/picket/backends/cuda"
)

// timelineRows is a batch of several chunks.
const timelineRows = 1 << 19

// timeline runs one large batch from pinned memory with the backend, which tells of its chunks to *told, and gives those of the last of a few runs.
func (s *subjects) timeline(ctx context.Context, b *backend.Backend, told *[]backend.Chunk, dir string, rows int) ([]backend.Chunk, error) {
	o, err := s.open(ctx, b, dir)
	if err != nil {
		return nil, err
	}
	defer o.close()
	in, err := o.room(rows, o.in, true)
	if err != nil {
		return nil, err
	}
	defer in.Buffer.Release()
	if err := fill(in); err != nil {
		return nil, err
	}
	out, err := o.room(rows, o.out, true)
	if err != nil {
		return nil, err
	}
	defer out.Buffer.Release()
	for range 3 {
		*told = nil
		if err := o.instance.Run([]tensor.Tensor{in}, []tensor.Tensor{out}, rows); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(*told, func(a, b backend.Chunk) int { return cmp.Compare(a.Began, b.Began) }) // not as they were waited for
	return *told, nil
}

// atOnce is how many chunks were on the device at once, on average: 1 where nothing overlaps.
func atOnce(chunks []backend.Chunk) float64 {
	if len(chunks) == 0 {
		return 0
	}
	var sum, end time.Duration
	first := chunks[0].Began
	for _, c := range chunks {
		sum += c.Returned - c.Began
		first, end = min(first, c.Began), max(end, c.Returned)
	}
	return float64(sum) / float64(max(1, end-first))
}

// showTimeline prints the first chunks, in microseconds.
func showTimeline(chunks []backend.Chunk) {
	fmt.Fprintf(os.Stderr, "\n%-6s %9s %24s %24s %24s\n", "slot", "rows", "copied in, us", "computed, us", "copied out, us")
	us := func(from, to time.Duration) string {
		return fmt.Sprintf("%.1f to %.1f", float64(from)/1e3, float64(to)/1e3)
	}
	for _, c := range chunks[:min(len(chunks), 12)] {
		fmt.Fprintf(os.Stderr, "%-6d %9d %24s %24s %24s\n", c.Slot, c.Rows, us(c.Began, c.Copied), us(c.Copied, c.Computed), us(c.Computed, c.Returned))
	}
}

// traceEvent is one bar of the format that chrome://tracing and Perfetto show.
type traceEvent struct {
	Name  string  `json:"name"`
	Phase string  `json:"ph"`
	Start float64 `json:"ts"` // microseconds
	Takes float64 `json:"dur"`
	PID   int     `json:"pid"`
	TID   int     `json:"tid"`
}

// writeTimeline writes the chunks for people to look at.
func writeTimeline(name string, chunks []backend.Chunk) error {
	var events []traceEvent
	for _, c := range chunks {
		for _, part := range []struct {
			name     string
			from, to time.Duration
		}{{"copy in", c.Began, c.Copied}, {"kernel", c.Copied, c.Computed}, {"copy out", c.Computed, c.Returned}} {
			events = append(events, traceEvent{part.name, "X", float64(part.from) / 1e3, float64(part.to-part.from) / 1e3, 1, c.Slot})
		}
	}
	data, err := json.Marshal(map[string]any{"traceEvents": events, "displayTimeUnit": "ns"})
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o600)
}
