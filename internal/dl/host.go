package dl

import (
	"debug/elf"
	"runtime"
)

// A Host is what [Object.CheckHost] compares a library with.
type Host struct {
	// Machine is the instruction set of this process.
	Machine elf.Machine
	// Glibc is the version of the C library in this process ("2.36"), or empty if there is none: the process was
	// built without cgo, or with another C library.
	Glibc string
	// X86Level is the x86-64 level of the processor (1 to 4). Zero leaves the level unchecked.
	X86Level int
}

// ThisHost describes the running process. It leaves X86Level at zero: the caller that knows the processor fills it in.
func ThisHost() Host {
	return Host{Machine: hostMachine(), Glibc: GlibcVersion()}
}

func hostMachine() elf.Machine {
	switch runtime.GOARCH {
	case "amd64":
		return elf.EM_X86_64
	case "arm64":
		return elf.EM_AARCH64
	case "riscv64":
		return elf.EM_RISCV
	case "ppc64le":
		return elf.EM_PPC64
	case "s390x":
		return elf.EM_S390
	case "loong64":
		return elf.EM_LOONGARCH
	}
	return elf.EM_NONE
}

// machineName gives the name by which operators know an instruction set.
func machineName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "x86-64"
	case elf.EM_386:
		return "x86 (32 bit)"
	case elf.EM_AARCH64:
		return "aarch64"
	case elf.EM_ARM:
		return "arm (32 bit)"
	case elf.EM_RISCV:
		return "riscv"
	case elf.EM_PPC64:
		return "ppc64"
	case elf.EM_S390:
		return "s390"
	case elf.EM_LOONGARCH:
		return "loongarch"
	case elf.EM_QDSP6:
		return "hexagon"
	case elf.EM_CUDA:
		return "cuda"
	}
	return m.String()
}
