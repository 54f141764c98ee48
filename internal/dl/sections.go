package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"math/bits"
)

// checkSections compares the section headers, where there are any, with what the loader goes by. They say the same
// thing a second time, so that a contradiction is damage that nothing else could tell.
func (in *inspector) checkSections() error {
	h := &in.header
	if h.Shoff == 0 || h.Shnum == 0 {
		return nil
	}
	sections := make([]elf.Section64, h.Shnum)
	if err := in.decode("the section header table", h.Shoff, uint64(h.Shnum)*sectionHeaderSize, sections); err != nil {
		return err
	}
	names, err := in.sectionNames(sections)
	if err != nil {
		return err
	}
	for i := range sections {
		s := &sections[i]
		if s.Flags&uint64(elf.SHF_ALLOC) == 0 || s.Size == 0 || s.Addr == 0 {
			continue
		}
		if err := in.checkSection(i, s, nameAt(names, s.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (in *inspector) checkSection(index int, s *elf.Section64, name string) error {
	d := &in.dynamic
	kind := elf.SectionType(s.Type)
	if kind == elf.SHT_NOBITS && s.Flags&uint64(elf.SHF_TLS) != 0 {
		return nil // takes no room
	}
	disagree := func() error {
		return in.errorf("is damaged: section %d (%d bytes at address %#x) contradicts what the loader is told", index, s.Size, s.Addr)
	}
	segment := in.segmentOf(s.Addr, s.Size)
	if segment == nil {
		return disagree()
	}
	if kind != elf.SHT_NOBITS && (s.Addr-segment.address+s.Size > segment.size || segment.offset+(s.Addr-segment.address) != s.Off) {
		return disagree()
	}
	if s.Flags&uint64(elf.SHF_EXECINSTR) != 0 && segment.flags&elf.PF_X == 0 {
		return disagree()
	}
	if s.Flags&uint64(elf.SHF_WRITE) != 0 && segment.flags&elf.PF_W == 0 && kind != elf.SHT_DYNAMIC {
		return disagree()
	}
	end := in.protected.end()
	if (name == ".data" || name == ".bss") && s.Addr < end && s.Addr+s.Size > in.protected.address {
		return disagree()
	}
	within := func(table, size elf.DynTag) bool {
		at := d.value(table)
		return d.has(table) && s.Addr >= at && s.Addr+s.Size <= at+d.value(size)
	}
	agrees := true
	switch kind {
	case elf.SHT_RELA:
		agrees = within(elf.DT_RELA, elf.DT_RELASZ) || within(elf.DT_JMPREL, elf.DT_PLTRELSZ)
	case elf.SHT_INIT_ARRAY:
		agrees = s.Addr == d.value(elf.DT_INIT_ARRAY) && s.Size == d.value(elf.DT_INIT_ARRAYSZ)
	case elf.SHT_FINI_ARRAY:
		agrees = s.Addr == d.value(elf.DT_FINI_ARRAY) && s.Size == d.value(elf.DT_FINI_ARRAYSZ)
	case elf.SHT_DYNSYM:
		agrees = s.Addr == d.value(elf.DT_SYMTAB)
	case elf.SHT_HASH:
		agrees = s.Addr == d.value(elf.DT_HASH)
	case elf.SHT_GNU_HASH:
		agrees = s.Addr == d.value(elf.DT_GNU_HASH)
	case elf.SHT_GNU_VERSYM:
		agrees = s.Addr == d.value(elf.DT_VERSYM)
	case elf.SHT_GNU_VERNEED:
		agrees = s.Addr == d.value(elf.DT_VERNEED)
	}
	// A library may name another first or last function (ld -init), but no place in the middle of the usual one. One
	// that is a single bit away from it is damage far more likely than choice.
	for section, tag := range map[string]elf.DynTag{".init": elf.DT_INIT, ".fini": elf.DT_FINI} {
		at := d.value(tag)
		if name != section || !d.has(tag) || at == s.Addr || in.functions[at] {
			continue
		}
		if at-s.Addr < s.Size || bits.OnesCount64(at^s.Addr) == 1 {
			agrees = false
		}
	}
	if !agrees {
		return disagree()
	}
	return nil
}

func (in *inspector) sectionNames(sections []elf.Section64) ([]byte, error) {
	if int(in.header.Shstrndx) >= len(sections) {
		return nil, nil
	}
	s := &sections[in.header.Shstrndx]
	return in.bytes("the names of its sections", s.Off, min(s.Size, maxNotes))
}

func nameAt(table []byte, at uint32) string {
	if uint64(at) >= uint64(len(table)) {
		return ""
	}
	name, _, _ := bytes.Cut(table[at:], []byte{0})
	return string(name)
}

// functionKind reports whether a dynamic symbol's type is that of code.
func functionKind(kind elf.SymType) bool { return kind == elf.STT_FUNC || kind == elf.STT_GNU_IFUNC }

// checkSymbol checks what the loader makes of one entry of the dynamic symbol table.
func (in *inspector) checkSymbol(index uint64, entry []byte) error {
	kind, section := elf.ST_TYPE(entry[4]), elf.SectionIndex(binary.LittleEndian.Uint16(entry[6:]))
	value := binary.LittleEndian.Uint64(entry[8:])
	if section == elf.SHN_UNDEF {
		// The loader takes one with a value as defined here, which only programs make use of.
		if value != 0 {
			return in.errorf("is damaged: symbol %d is undefined, and at address %#x", index, value)
		}
		return nil
	}
	if section == elf.SHN_ABS {
		return nil
	}
	switch {
	case kind == elf.STT_TLS:
		if !in.hasThreadMemory || value > in.threadMemory {
			return in.errorf("is damaged: symbol %d is a thread-local variable outside its thread-local memory", index)
		}
	case functionKind(kind) && !in.runnable(value):
		return in.errorf("is damaged: symbol %d is a function at address %#x, which is no code", index, value)
	case !in.inImage(value):
		return in.errorf("is damaged: symbol %d is at address %#x, which is not in the library", index, value)
	// The loader calls these to learn their address. Linkers mark files that have them.
	case kind == elf.STT_GNU_IFUNC && in.header.Ident[elf.EI_OSABI] != byte(elf.ELFOSABI_LINUX):
		return in.errorf("is damaged: symbol %d is chosen at load time, and the library is not marked as having such", index)
	}
	if functionKind(kind) {
		in.functions[value] = true
	}
	return nil
}
