package compile

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// target is a machine an artifact can be made for.
type target struct {
	name    string
	arch    string // as runtime.GOARCH names it
	flags   []string
	machine elf.Machine
}

func targets() []target {
	return []target{
		{"x86-64", "amd64", []string{"-march=x86-64"}, elf.EM_X86_64},
		{"x86-64-v2", "amd64", []string{"-march=x86-64-v2"}, elf.EM_X86_64},
		{"x86-64-v3", "amd64", []string{"-march=x86-64-v3"}, elf.EM_X86_64},
		{"x86-64-v4", "amd64", []string{"-march=x86-64-v4"}, elf.EM_X86_64},
		{"aarch64", "arm64", []string{"-march=armv8-a"}, elf.EM_AARCH64},
	}
}

// Targets names what Options.Target may be.
func Targets() []string {
	var names []string
	for _, t := range targets() {
		names = append(names, t.name)
	}
	return names
}

// findTarget gives the target called name; "" is the first of architecture arch.
func findTarget(name, arch string) (target, error) {
	for _, t := range targets() {
		if name == t.name || name == "" && t.arch == arch {
			return t, nil
		}
	}
	if name == "" {
		return target{}, fmt.Errorf("no target is known for this machine's architecture, %s; name one of %s", arch, strings.Join(Targets(), ", "))
	}
	return target{}, fmt.Errorf("target %q is not known; it may be %s", name, strings.Join(Targets(), ", "))
}

// findCompiler gives the command that compiles for t on a machine of architecture arch: what the caller asked for, else
// $CC or cc where no other architecture is asked for, else the distribution's cross compiler.
func findCompiler(t target, asked, arch string) ([]string, error) {
	command := strings.Fields(asked)
	advice := "install it, or name another compiler"
	switch {
	case len(command) > 0:
	case t.arch == arch:
		command = strings.Fields(os.Getenv("CC"))
		if len(command) == 0 {
			command = []string{"cc"}
		}
		advice = "install the packages gcc and libc6-dev (Debian, Ubuntu) or gcc and glibc-devel (Amazon Linux), or set CC"
	case t.arch == "arm64":
		command = []string{"aarch64-linux-gnu-gcc"}
		advice = "install the package gcc-aarch64-linux-gnu with libc6-dev-arm64-cross (Debian, Ubuntu), or name a compiler for aarch64"
	default:
		command = []string{"x86_64-linux-gnu-gcc"}
		advice = "install the package gcc-x86-64-linux-gnu with libc6-dev-amd64-cross (Debian, Ubuntu), or name a compiler for x86-64"
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return nil, fmt.Errorf("there is no C compiler %s for target %s: %s", command[0], t.name, advice)
	}
	return append([]string{path}, command[1:]...), nil
}

// check makes sure that the compiler made a library for t and not for the machine it ran on.
func (t target) check(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("reading what the compiler made: %w", err)
	}
	defer f.Close()
	if f.Machine != t.machine || f.Class != elf.ELFCLASS64 || f.Type != elf.ET_DYN {
		return fmt.Errorf("the compiler makes %v %v %v, which is no library for target %s; name a compiler for it", f.Machine, f.Class, f.Type, t.name)
	}
	return nil
}
