package main

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// mayWrite tells whether this user may write to the file, a socket for one.
func mayWrite(path string) bool { return unix.Access(path, unix.W_OK) == nil }

// exists tells whether there is such a file.
func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

// The signals of a terminal: its size has changed, Ctrl-Z, and that the process goes on after it.
var (
	resized   os.Signal = syscall.SIGWINCH
	suspended os.Signal = syscall.SIGTSTP
	continued os.Signal = syscall.SIGCONT
)

// stopSelf stops this process until somebody has it go on.
func stopSelf() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stopping until it is to go on: %w", err)
	}
	return nil
}

// terminalMode is how a terminal takes and shows what is typed.
type terminalMode = unix.Termios

// terminalState is nil for what is no terminal.
func terminalState(f *os.File) *terminalMode {
	state, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	return state
}

// takeKeys has keys come one by one without being shown.
func takeKeys(f *os.File, before *terminalMode) error {
	keys := *before
	keys.Lflag &^= unix.ICANON | unix.ECHO
	keys.Cc[unix.VMIN], keys.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &keys)
}

// giveKeys makes the terminal as it was before.
func giveKeys(f *os.File, before *terminalMode) error {
	return unix.IoctlSetTermios(int(f.Fd()), unix.TCSETSF, before)
}

// terminalSize is zero where it is not known.
func terminalSize(f *os.File) (width, height int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}
