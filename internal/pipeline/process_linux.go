package pipeline

import (
	"os/exec"
	"syscall"
)

// inGroup has the program, and what it starts, be a group that is asked to end together, and does not outlive this process. end ends
// whoever is left of it.
func inGroup(cmd *exec.Cmd) (end func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	return func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
