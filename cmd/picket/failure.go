package main

import "fmt"

// Exit codes, which scripts rely on.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitPolicy      = 4
	exitViolations  = 5
)

// failure is an error with the exit code it ends the program with. Its text is one sentence: what was being done, what
// is wrong, what to do.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is a command that was written wrongly.
func usage(format string, args ...any) *failure {
	return &failure{exitUsage, fmt.Errorf(format, args...)}
}
