package compile

import "os/exec"

// inGroup leaves the program as it is: it alone is killed.
func inGroup(*exec.Cmd) {}
