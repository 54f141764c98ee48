//go:build linux

// Arm64 has this machine run programs for arm64, by qemu's user mode, and with it the tests of Picket.
//
//	go run ./scripts/arm64 exec COMMAND...       where programs for arm64 start like others do
//	go run ./scripts/arm64 suite [PACKAGE...]    the tests of all packages, compiled for arm64; exceptions.txt says which cannot pass there, and why
//
// Both need root, and Debian's qemu-user or qemu-user-static; suite Debian's gcc-aarch64-linux-gnu, too. On an arm64 machine nothing is emulated.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "arm64:", err)
		os.Exit(1)
	}
	os.Exit(status)
}

// run returns what the process ends with.
func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("say what is to be done: exec or suite")
	}
	switch args[0] {
	case "exec":
		if len(args) == 1 {
			return 0, errors.New("exec takes a command and its arguments")
		}
		return emulate(args[1:])
	case "suite":
		self, err := os.Executable()
		if err != nil {
			return 0, err
		}
		return emulate(append([]string{self, "tests"}, args[1:]...))
	case "tests": // suite, where it is emulated
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return runSuite(ctx, os.Stdout, args[1:])
	case "adopting": // one package's tests, in suite
		return 0, adopting(args[1], args[1:])
	case "inside": // exec, in namespaces of its own
		return inside(args[1], args[2:])
	}
	return 0, fmt.Errorf("there is no command %q: exec and suite are", args[0])
}

// lookPath returns the first of some programs that is installed, and else tells what to install.
func lookPath(debian string, names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s: install Debian's %s", names[0], debian)
}
