package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// report prints what held as it is found, and how each part ended.
type report struct {
	w     io.Writer
	parts []verdict
}

// verdict is how one part ended.
type verdict struct {
	part   string
	held   int
	failed []string
	began  time.Time
	took   time.Duration
}

func (r *report) line(format string, args ...any) { fmt.Fprintf(r.w, format+"\n", args...) }

// begin ends the part before and starts another.
func (r *report) begin(part string) {
	r.end()
	r.parts = append(r.parts, verdict{part: part, began: time.Now()})
	r.line("\n-------- %s --------", part)
}

func (r *report) end() {
	if n := len(r.parts); n > 0 && r.parts[n-1].took == 0 {
		r.parts[n-1].took = time.Since(r.parts[n-1].began)
	}
}

// check prints whether a promise held, and why that is so.
func (r *report) check(held bool, promise, format string, args ...any) {
	if !held {
		r.fail(promise, fmt.Sprintf(format, args...))
		return
	}
	r.parts[len(r.parts)-1].held++
	r.line("  held    %s: %s", promise, fmt.Sprintf(format, args...))
}

// fail is for a promise that did not hold.
func (r *report) fail(promise, why string) {
	at := &r.parts[len(r.parts)-1]
	at.failed = append(at.failed, promise+": "+why)
	r.line("  FAILED  %s: %s", promise, why)
}

// tell prints a figure that is not judged.
func (r *report) tell(what, format string, args ...any) {
	r.line("  told    %s: %s", what, fmt.Sprintf(format, args...))
}

// summary prints how the parts ended, and tells whether one failed.
func (r *report) summary(took time.Duration) (failed bool) {
	r.end()
	r.line("\n-------- summary --------")
	for _, v := range r.parts {
		word := "passed"
		if len(v.failed) > 0 {
			word, failed = "FAILED", true
		}
		r.line("  %-8s %s %5.0f s  %d promises held", v.part, word, v.took.Seconds(), v.held)
		for _, f := range v.failed {
			r.line("           %s", strings.ReplaceAll(f, "\n", "\n           "))
		}
	}
	word := "everything held"
	if failed {
		word = "FAILED"
	}
	r.line("soak: %s in %.0f s", word, took.Seconds())
	return failed
}
