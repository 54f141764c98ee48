// Package report is the form in which benchmarks give their results: a table
// for people on standard error, and JSON for machines on standard output.
package report

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/picket-ml/picket/internal/hw"
)

// Report is the results of one benchmark in one run.
type Report struct {
	Host    Host `json:"host"`
	Results any  `json:"results"`
	// Figures are what the results come to: the ratios and differences that a
	// promise is made about.
	Figures []Figure `json:"figures"`
	// LeftOut is what could not be measured, and why.
	LeftOut []LeftOut `json:"left_out,omitempty"`
	// Servers are those that results name as targets, where more than picketd and an empty one were measured.
	Servers []Server `json:"servers,omitempty"`
	// Notes says of an engine how it was called, or how its answers differ.
	Notes map[string]string `json:"notes,omitempty"`
}

// LeftOut is a measurement that was not made.
type LeftOut struct {
	Model  string `json:"model"` // "all" for every one
	Engine string `json:"engine"`
	Cores  int    `json:"cores,omitempty"` // 0 is all
	Rows   int    `json:"rows,omitempty"`  // 0 is all
	Why    string `json:"why"`
}

// Host is where the benchmark ran.
type Host struct {
	Time  time.Time `json:"time"`
	Go    string    `json:"go"`
	Load  string    `json:"load_average"`
	Facts *hw.Host  `json:"facts"`
}

// Kernel is one measurement of an engine in process.
type Kernel struct {
	Model     string  `json:"model"`
	Values    string  `json:"values,omitempty"` // "5% missing" or "none missing", where both were measured
	Engine    string  `json:"engine"`
	Condition string  `json:"condition"` // "hot" or "shuffled"
	Rows      int     `json:"rows"`      // per call
	Cores     int     `json:"cores"`
	USPerRow  float64 `json:"us_per_row"` // median
}

// Server is a program that was measured.
type Server struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	StartS  float64 `json:"start_s"`   // from its start to its first answer
	Memory  float64 `json:"memory_mb"` // resident, of all its processes, when it had been measured
}

// Serving is one measurement of a server.
type Serving struct {
	Target      string  `json:"target"`
	Protocol    string  `json:"protocol"`
	Transport   string  `json:"transport,omitempty"` // where there is a choice
	Model       string  `json:"model"`
	Outstanding int     `json:"outstanding"`
	Rows        int     `json:"rows"` // per request
	P50US       float64 `json:"p50_us"`
	// P99US is of a closed loop, which leaves out waiting that callers with a
	// schedule of their own would see.
	P99US float64 `json:"p99_us"`
	// RowsPerS is what Outstanding callers get who wait for each answer.
	RowsPerS float64 `json:"rows_per_s"`
	// Quartiles are those of the rows per second of single turns, where RowsPerS and P50US are medians of such; P99US is then of
	// the calls of all turns together.
	Quartiles []float64 `json:"rows_per_s_quartiles,omitempty"`
	// Calls is how many calls these are from.
	Calls int `json:"calls,omitempty"`
	// CPUUS is the processor's time that the server took for a request, all its processes together, in the program and in the
	// kernel.
	CPUUS float64 `json:"server_cpu_us,omitempty"`
}

// Figure is a number a promise is made about.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "ratio", "us", "allocations"
	// Limit is the most the value may be, Least the least; nil where there is no such bound. A figure without either is only told.
	Limit *float64 `json:"limit,omitempty"`
	Least *float64 `json:"least,omitempty"`
	// Verdict is "met" or "missed", or empty where nothing is promised.
	Verdict string `json:"verdict,omitempty"`
}

// Met reports whether the value is within its bounds.
func (f Figure) Met() bool {
	return (f.Limit == nil || f.Value <= *f.Limit) && (f.Least == nil || f.Value >= *f.Least)
}

func (f Figure) judged() Figure {
	f.Verdict = "missed"
	if f.Met() {
		f.Verdict = "met"
	}
	return f
}

// New starts a report about this host.
func New() *Report {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	return &Report{Host: Host{
		Time: time.Now().UTC(), Go: runtime.Version(), Load: string(load[:max(0, len(load)-1)]),
		Facts: hw.Detect(context.Background(), hw.Options{NoGPU: true, NoIMDS: true}),
	}}
}

// Tell adds a figure that nothing is promised about.
func (r *Report) Tell(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit})
}

// Promise adds a figure that is to be at most limit.
func (r *Report) Promise(name string, value float64, unit string, limit float64) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit, Limit: &limit}.judged())
}

// Reach adds a ratio that is to be at least least.
func (r *Report) Reach(name string, value, least float64) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: math.Round(1000*value) / 1000, Unit: "ratio", Least: &least}.judged())
}

// Write prints the figures for people on standard error and everything as JSON
// on standard output.
func (r *Report) Write() error {
	fmt.Fprintf(os.Stderr, "\nfigures on %s (%s), load average before the run %s\n", r.Host.Facts.CPU.Model, r.Host.Facts.CPU.Level, r.Host.Load)
	w := tabwriter.NewWriter(os.Stderr, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		goal := ""
		if f.Limit != nil {
			goal = fmt.Sprintf("at most %g: %s", *f.Limit, f.Verdict)
		} else if f.Least != nil {
			goal = fmt.Sprintf("at least %g: %s", *f.Least, f.Verdict)
		}
		fmt.Fprintf(w, "  %s\t%.3g\t%s\t%s\n", f.Name, f.Value, f.Unit, goal)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return encode(os.Stdout, r)
}

func encode(w io.Writer, r *Report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("writing the results: %w", err)
	}
	return nil
}
