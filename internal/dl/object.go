package dl

import (
	"debug/elf"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// An Object is what [Inspect] read from an ELF file. It is immutable and owns its memory: the file may be closed.
//
// For a file of another class or byte order than 64 bit little-endian, and for one that is not a shared library, only
// Name, Class, ByteOrder, Machine and Type are filled: [Object.CheckHost] refuses it anyway.
type Object struct {
	// Name is the subject of every error about this object.
	Name      string
	Class     elf.Class
	ByteOrder elf.Data
	Machine   elf.Machine
	Type      elf.Type
	// PIE is set for a position-independent executable, which looks like a library but is refused by dlopen.
	PIE bool
	// Soname is the library's own idea of its name, often empty.
	Soname string
	// Needed lists the libraries that the loader will load with this one, in its order.
	Needed []string
	// Versions lists the symbol versions this object needs of other libraries.
	Versions []VersionNeed
	// Exported lists the names of the dynamic symbols other objects can find here, sorted, without duplicates.
	Exported []string
	// Undefined lists the names of the dynamic symbols that must come from elsewhere, sorted, without duplicates.
	// Weak ones, which may stay unresolved, are not in it.
	Undefined []string
	// X86Level is the x86-64 level (1 to 4) that the object's property note demands, or 0 if it says nothing.
	// Compilers write the note only when asked to (-mneeded), so 0 does not mean that level 1 will do.
	X86Level int

	// unsound is why loading would end the process, or nil; CheckHost tells.
	unsound *ObjectError
}

// A VersionNeed is one symbol version that an object needs of one library.
type VersionNeed struct {
	Library string // "libm.so.6"
	Version string // "GLIBC_2.29"
	// Weak is set when the loader goes on without it.
	Weak bool
	// Symbols lists the undefined symbols bound to this version, in the order of the symbol table.
	Symbols []string
}

// Exports reports whether the object itself, not one of its dependencies, exports the symbol.
func (o *Object) Exports(symbol string) bool {
	_, found := slices.BinarySearch(o.Exported, symbol)
	return found
}

// Glibc returns the highest version of glibc that the object needs ("2.29"), or an empty string if it needs none.
func (o *Object) Glibc() string {
	version, _ := o.highestGlibc()
	return version
}

// highestGlibc also returns the first symbol that needs that version, if the object tells.
func (o *Object) highestGlibc() (version, symbol string) {
	var highest []int
	for _, need := range o.Versions {
		v := glibcOf(need.Version)
		if need.Weak || v == nil || slices.Compare(v, highest) <= 0 {
			continue
		}
		highest, symbol = v, ""
		if len(need.Symbols) > 0 {
			symbol = need.Symbols[0]
		}
	}
	return formatVersion(highest), symbol
}

// CheckHost reports the first reason why the loader of host would refuse the object, or code in it would not run, as an
// *ObjectError. Nil does not promise that dlopen succeeds: the libraries in Needed may be absent, or lack a symbol.
func (o *Object) CheckHost(host Host) error {
	switch {
	case o.Machine != host.Machine:
		return o.errorf("is built for %s, this host is %s", machineName(o.Machine), machineName(host.Machine))
	case o.Class != elf.ELFCLASS64:
		return o.errorf("is a 32 bit library, this process is 64 bit")
	case o.ByteOrder != elf.ELFDATA2LSB:
		return o.errorf("is big-endian, this process is little-endian")
	case o.Type == elf.ET_REL:
		return o.errorf("is an object file that was never linked, not a shared library")
	case o.Type == elf.ET_EXEC, o.PIE:
		return o.errorf("is an executable program, not a shared library")
	case o.Type != elf.ET_DYN:
		return o.errorf("is not a shared library (ELF type %d)", uint16(o.Type))
	case o.unsound != nil:
		return o.errorf("%s", o.unsound.Problem)
	case host.X86Level > 0 && o.X86Level > host.X86Level:
		return o.errorf("needs an x86-64-v%d processor, this host has x86-64-v%d", o.X86Level, host.X86Level)
	}
	needed, symbol := o.highestGlibc()
	if needed == "" {
		return nil
	}
	if symbol != "" {
		symbol = " (for " + symbol + ")"
	}
	if host.Glibc == "" {
		return o.errorf("needs glibc %s%s, this process runs without glibc", needed, symbol)
	}
	if slices.Compare(parseVersion(needed), parseVersion(host.Glibc)) > 0 {
		return o.errorf("needs glibc %s%s, this host has %s", needed, symbol, host.Glibc)
	}
	return nil
}

// Require fails with an *ObjectError that names every one of symbols that the object does not export.
func (o *Object) Require(symbols ...string) error {
	var missing []string
	for _, s := range symbols {
		if !o.Exports(s) {
			missing = append(missing, s)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return o.errorf("does not export %s", strings.Join(missing, ", "))
}

// RequireAny fails with an *ObjectError if the object exports none of symbols. It panics without symbols.
func (o *Object) RequireAny(symbols ...string) error {
	if len(symbols) == 0 {
		panic("BUG: dl: RequireAny without symbols")
	}
	if slices.ContainsFunc(symbols, o.Exports) {
		return nil
	}
	last := len(symbols) - 1
	if last == 0 {
		return o.errorf("does not export %s", symbols[0])
	}
	return o.errorf("does not export %s or %s", strings.Join(symbols[:last], ", "), symbols[last])
}

func (o *Object) errorf(format string, args ...any) error {
	return &ObjectError{Name: o.Name, Problem: fmt.Sprintf(format, args...)}
}

// glibcOf turns the name of a symbol version into a version of glibc, or nil if it is not one of glibc's.
func glibcOf(version string) []int {
	rest, ok := strings.CutPrefix(version, "GLIBC_")
	if !ok {
		return nil
	}
	// Not a release but a feature of the loader: packed relative relocations, which arrived in 2.36.
	if rest == "ABI_DT_RELR" {
		return []int{2, 36}
	}
	return parseVersion(rest)
}

// parseVersion reads "2.36" or "2.2.5". It stops at the first part that is not a small number, so that a suffix
// ("2.36-9+deb12u14") does no harm; it returns nil if there is no number at all (GLIBC_PRIVATE).
func parseVersion(s string) []int {
	var parts []int
	for field := range strings.SplitSeq(s, ".") {
		digits := strings.IndexFunc(field, func(r rune) bool { return r < '0' || r > '9' })
		if digits < 0 {
			digits = len(field)
		}
		n, err := strconv.ParseUint(field[:digits], 10, 16)
		if err != nil {
			break
		}
		parts = append(parts, int(n))
		if digits != len(field) {
			break
		}
	}
	return parts
}

func formatVersion(parts []int) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.Itoa(p))
	}
	return b.String()
}
