// Package roofline says how near the forest's kernels come to what one core can do: how fast it reads from each of its caches
// and from memory, how many vector operations it does, both measured by loops in C (package bench/native), and how many of
// either a kernel needs for a row, counted from the model.
package roofline

import (
	"fmt"
	"time"
)

// Schema and Version name the form of the file.
const (
	Schema  = "picket.bench.roofline"
	Version = 1
)

// Report is the roofline of one core of one host.
type Report struct {
	Schema     string      `json:"schema"`
	Version    int         `json:"version"`
	Time       time.Time   `json:"time"`
	Processor  string      `json:"processor"`
	Level      string      `json:"level"`
	Bandwidth  []Bandwidth `json:"bandwidth"`
	Operations []Operation `json:"operations"`
	Kernels    []Kernel    `json:"kernels"`
	// Notes say what is estimated and what is missing, one sentence each.
	Notes []string `json:"notes"`
}

// Bandwidth is how fast one core reads an area again and again.
type Bandwidth struct {
	Level     string  `json:"level"` // "L1", "L2", "L3", "memory"
	Bytes     int64   `json:"bytes"` // of the area
	BytesPerS float64 `json:"bytes_per_s"`
}

// Operation is how many vector operations of a kind one core does a second, when all is in registers.
type Operation struct {
	Name string  `json:"name"` // "byte compares of 32 bytes (AVX2)"
	Bits int     `json:"bits"` // of a register
	PerS float64 `json:"per_s"`
}

// Kernel is one kernel with one model and one number of rows a call.
type Kernel struct {
	Kernel   string  `json:"kernel"` // "avx2 row"
	Model    string  `json:"model"`
	Rows     int     `json:"rows"`
	NSPerRow float64 `json:"ns_per_row"`
	// BytesPerRow are those of tables, rows and scratch memory that a row makes the core read, and OperationsPerRow the vector
	// operations on them; How says how that is known.
	BytesPerRow      float64 `json:"bytes_per_row"`
	OperationsPerRow float64 `json:"operations_per_row"`
	How              string  `json:"how"`
	// What the processor counted, 0 where it may not be asked.
	InstructionsPerRow float64 `json:"instructions_per_row,omitempty"`
	CyclesPerRow       float64 `json:"cycles_per_row,omitempty"`
}

// Name tells kernels apart.
func (k Kernel) Name() string { return fmt.Sprintf("%s, %s, %d rows", k.Kernel, k.Model, k.Rows) }

// Intensity is operations a byte.
func (k Kernel) Intensity() float64 {
	if k.BytesPerRow <= 0 {
		return 0
	}
	return k.OperationsPerRow / k.BytesPerRow
}

// OperationsPerS is how many operations a second the kernel did.
func (k Kernel) OperationsPerS() float64 {
	if k.NSPerRow <= 0 {
		return 0
	}
	return k.OperationsPerRow / k.NSPerRow * 1e9
}

// Peak is the highest rate of operations.
func (r *Report) Peak() float64 {
	best := 0.0
	for _, o := range r.Operations {
		best = max(best, o.PerS)
	}
	return best
}

// PeakName names that.
func (r *Report) PeakName() string {
	for _, o := range r.Operations {
		if o.PerS == r.Peak() {
			return o.Name
		}
	}
	return ""
}

// Share is how much of the roof the kernel reaches: of the peak of operations, or of what the fastest cache brings, whichever
// is less.
func (r *Report) Share(k *Kernel) float64 {
	roof := r.Peak()
	fastest := 0.0
	for _, b := range r.Bandwidth {
		fastest = max(fastest, b.BytesPerS)
	}
	roof = min(roof, fastest*k.Intensity())
	if roof <= 0 {
		return 0
	}
	return k.OperationsPerS() / roof
}
