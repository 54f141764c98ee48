package pipeline

import "os/exec"

// inGroup leaves the program as it is: it alone is ended.
func inGroup(*exec.Cmd) (end func()) { return func() {} }
