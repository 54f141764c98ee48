//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// format tells the kernel which files are programs for arm64: ELF of 64 bits, little-endian, executable or position independent, for machine 183. Flag F has
// it open qemu now, so that programs below another root are run too; P has it pass the name on that the program was called by.
const format = `:qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:` +
	`\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:%s:PF`

// mappedIDs is how many users and groups there are inside, those of the outside. With all that there are, container runtimes would take themselves to be
// outside, and make devices.
const mappedIDs = 1 << 20

// emulate runs a command, and all that it starts, where the kernel runs programs for arm64 by qemu. Nobody else on the machine sees a change: since Linux 6.7
// a user namespace has formats of its own. All processes that are left end with the command. It returns what the command ended with.
func emulate(command []string) (int, error) {
	argv := command
	attr := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if runtime.GOARCH != "arm64" {
		if os.Geteuid() != 0 {
			return 0, errors.New("emulating arm64 needs root, for users and mounts of its own")
		}
		qemu, err := lookPath("qemu-user-static", "qemu-aarch64-static", "qemu-aarch64")
		if err != nil {
			return 0, err
		}
		argv = append([]string{"/proc/self/exe", "inside", qemu}, command...)
		ids := []syscall.SysProcIDMap{{Size: mappedIDs}}
		// Segments of shared memory of its own, because root may read those of others only where it owns the namespace.
		attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC
		attr.UidMappings, attr.GidMappings, attr.GidMappingsEnableSetgroups = ids, ids, true
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = attr
	err := c.Run()
	if c.ProcessState == nil {
		return 0, err
	}
	return status(c.ProcessState.Sys().(syscall.WaitStatus)), nil
}

// inside is the first process of the namespaces: it has qemu registered, starts the command, and waits for whatever its processes leave behind.
func inside(qemu string, command []string) (int, error) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("making mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return 0, fmt.Errorf("mounting /proc: %w", err)
	}
	const formats = "/proc/sys/fs/binfmt_misc"
	if err := syscall.Mount("binfmt_misc", formats, "binfmt_misc", 0, ""); err != nil {
		return 0, fmt.Errorf("mounting %s, which a user namespace has of its own since Linux 6.7: %w", formats, err)
	}
	if err := os.WriteFile(formats+"/register", fmt.Appendf(nil, format, qemu), 0); err != nil {
		return 0, fmt.Errorf("registering %s: %w", qemu, err)
	}
	if err := offerLibraries(); err != nil {
		return 0, err
	}
	if err := describeProcessor(); err != nil {
		return 0, err
	}
	c := exec.Command(command[0], command[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return 0, err
	}
	for {
		var ended syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ended, 0, nil)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return 0, fmt.Errorf("waiting for %s: %w", command[0], err)
		}
		if pid == c.Process.Pid {
			return status(ended), nil
		}
	}
}

// offerLibraries puts the C library of Debian's cross-compiler to where it is on an arm64 machine. An environment variable could tell qemu, too, but there are
// programs that are started with an environment of their own.
func offerLibraries() error {
	const (
		loader    = "ld-linux-aarch64.so.1"
		triplet   = "aarch64-linux-gnu"
		libraries = "/usr/" + triplet + "/lib"
	)
	system, err := filepath.EvalSymlinks("/lib")
	if err != nil {
		return err
	}
	exists := func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	}
	if exists(filepath.Join(system, loader)) || !exists(libraries) {
		return nil // the machine has its own, or there is nothing to offer
	}
	layer, err := os.MkdirTemp("", "picket-arm64-lib-")
	if err != nil {
		return err
	}
	// In memory, and gone with the namespace.
	if err := syscall.Mount("tmpfs", layer, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting memory on %s: %w", layer, err)
	}
	for name, target := range map[string]string{loader: filepath.Join(libraries, loader), triplet: libraries} {
		if err := os.Symlink(target, filepath.Join(layer, name)); err != nil {
			return err
		}
	}
	if err := syscall.Mount("overlay", system, "overlay", 0, "lowerdir="+layer+":"+system); err != nil {
		return fmt.Errorf("laying the libraries for arm64 over %s: %w", system, err)
	}
	if err := syscall.Unmount(layer, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", layer, err)
	}
	return os.Remove(layer)
}

// describeProcessor puts the processors that qemu emulates into /proc/cpuinfo. Debian 12's qemu would show those of the machine, in whose description ONNX
// Runtime does not find what every arm64 one has, and crashes.
func describeProcessor() error {
	file, err := os.CreateTemp("", "picket-arm64-cpuinfo-")
	if err != nil {
		return err
	}
	for n := range runtime.NumCPU() {
		fmt.Fprintf(file, "processor\t: %d\nBogoMIPS\t: 100.00\nFeatures\t: %s\nCPU implementer\t: 0x00\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x051\nCPU revision\t: 0\n\n",
			n, "fp asimd aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 asimddp sha512 sve asimdfhm")
	}
	if err := errors.Join(file.Chmod(0o444), file.Close()); err != nil {
		return err
	}
	if err := syscall.Mount(file.Name(), "/proc/cpuinfo", "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("putting %s to where /proc/cpuinfo is: %w", file.Name(), err)
	}
	return os.Remove(file.Name()) // the mount keeps it
}

// adopts tells tests of restarts that they are told how orphans of theirs end, and need not ask for it.
const adopts = "PICKET_TEST_ADOPTS_ORPHANS=1"

// adopting becomes a program that is the parent of all orphans that its children leave. The kernel keeps that over the exec; to ask for it, qemu 7.2 does not let a program.
func adopting(program string, argv []string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("adopting orphans: %w", err)
	}
	return syscall.Exec(program, argv, append(os.Environ(), adopts))
}

// status is what a shell has in $? for it.
func status(s syscall.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
