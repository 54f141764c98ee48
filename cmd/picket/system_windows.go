package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// mayWrite tells whether there is such a file: who may write to it is found out by doing so.
func mayWrite(path string) bool { return exists(path) }

// exists tells whether there is such a file.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// signalNone is for signals that do not exist here; it never comes.
type signalNone string

func (signalNone) Signal()          {}
func (s signalNone) String() string { return string(s) }

// The signals of a terminal, of which there are none.
var (
	resized   os.Signal = signalNone("resized")
	suspended os.Signal = signalNone("suspended")
	continued os.Signal = signalNone("continued")
)

func stopSelf() error { return nil }

// terminalMode is how a console takes and shows what is typed.
type terminalMode uint32

// terminalState is nil for what is no console.
func terminalState(f *os.File) *terminalMode {
	var mode uint32
	if err := windows.GetConsoleMode(windows.Handle(f.Fd()), &mode); err != nil {
		return nil
	}
	state := terminalMode(mode)
	return &state
}

// takeKeys has keys come one by one without being shown.
func takeKeys(f *os.File, before *terminalMode) error {
	return windows.SetConsoleMode(windows.Handle(f.Fd()), uint32(*before)&^(windows.ENABLE_LINE_INPUT|windows.ENABLE_ECHO_INPUT))
}

// giveKeys makes the console as it was before.
func giveKeys(f *os.File, before *terminalMode) error {
	return windows.SetConsoleMode(windows.Handle(f.Fd()), uint32(*before))
}

// terminalSize is zero where it is not known.
func terminalSize(f *os.File) (width, height int) {
	var info windows.ConsoleScreenBufferInfo
	if err := windows.GetConsoleScreenBufferInfo(windows.Handle(f.Fd()), &info); err != nil {
		return 0, 0
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1
}
