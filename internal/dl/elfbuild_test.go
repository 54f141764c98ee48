package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// An elfSpec describes a tiny shared library, as data: enough for Inspect and for the loader's first look, without code.
type elfSpec struct {
	machine   elf.Machine
	exported  []string
	undefined []string
	// needs maps a library to the versions needed of it; the i-th undefined symbol is bound to the i-th of all versions.
	needs    []specNeed
	needed   []string
	soname   string
	x86Level int
	pie      bool
	gnuHash  bool
}

type specNeed struct {
	library  string
	versions []string
	weak     bool
}

// build lays the parts out in one segment of code and data that starts at address 0 and file offset 0, so that addresses
// are file offsets.
func (s elfSpec) build() []byte {
	le := binary.LittleEndian
	strings := []byte{0}
	intern := func(name string) uint32 {
		at := len(strings)
		strings = append(append(strings, name...), 0)
		return uint32(at)
	}

	symbols := make([]byte, symbolSize)
	symbol := func(name string, section uint16) {
		entry := make([]byte, symbolSize)
		le.PutUint32(entry, intern(name))
		entry[4] = elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)
		le.PutUint16(entry[6:], section)
		symbols = append(symbols, entry...)
	}
	versionOf := []byte{0, 0}
	versionTotal := 0
	for _, n := range s.needs {
		versionTotal += len(n.versions)
	}
	for i, name := range s.undefined {
		symbol(name, 0)
		version := uint16(1)
		if i < versionTotal {
			version = uint16(firstVersionNumber + i)
		}
		versionOf = le.AppendUint16(versionOf, version)
	}
	firstDefined := len(symbols) / symbolSize
	for _, name := range s.exported {
		symbol(name, 1)
		versionOf = le.AppendUint16(versionOf, 1)
	}
	count := len(symbols) / symbolSize

	var hash []byte
	if s.gnuHash {
		// One bucket with all defined symbols, one empty Bloom filter word (nobody looks symbols up).
		for _, v := range []uint32{1, uint32(firstDefined), 1, 0} {
			hash = le.AppendUint32(hash, v)
		}
		hash = le.AppendUint64(hash, 0)
		first := uint32(firstDefined)
		if len(s.exported) == 0 {
			first = 0
		}
		hash = le.AppendUint32(hash, first)
		for i := range s.exported {
			end := uint32(0)
			if i == len(s.exported)-1 {
				end = 1
			}
			hash = le.AppendUint32(hash, end)
		}
	} else {
		for _, v := range []uint32{1, uint32(count), 0} {
			hash = le.AppendUint32(hash, v)
		}
		hash = append(hash, make([]byte, 4*count)...)
	}

	var needs []byte
	index := uint16(firstVersionNumber)
	for i, n := range s.needs {
		length := versionNeedSize * (1 + len(n.versions))
		next := uint32(length)
		if i == len(s.needs)-1 {
			next = 0
		}
		needs = append(needs, encode(verneed{Version: 1, Count: uint16(len(n.versions)), File: intern(n.library), Aux: versionNeedSize, Next: next})...)
		for j, v := range n.versions {
			next := uint32(versionNeedSize)
			if j == len(n.versions)-1 {
				next = 0
			}
			flags := uint16(0)
			if n.weak {
				flags = versionNeedIsWeak
			}
			needs = append(needs, encode(vernaux{Flags: flags, Other: index, Name: intern(v), Next: next})...)
			index++
		}
	}

	var property []byte
	if s.x86Level > 0 {
		for _, v := range []uint32{4, 16, typeGNUProperty} {
			property = le.AppendUint32(property, v)
		}
		property = append(property, "GNU\x00"...)
		for _, v := range []uint32{propertyX86Needed, 4, 1<<s.x86Level - 1, 0} {
			property = le.AppendUint32(property, v)
		}
	}

	var dynamic []byte
	entry := func(tag elf.DynTag, value uint64) {
		dynamic = le.AppendUint64(le.AppendUint64(dynamic, uint64(tag)), value)
	}
	for _, n := range s.needed {
		entry(elf.DT_NEEDED, uint64(intern(n)))
	}
	if s.soname != "" {
		entry(elf.DT_SONAME, uint64(intern(s.soname)))
	}
	if s.pie {
		entry(elf.DT_FLAGS_1, flags1PIE)
	}

	const headers = 3
	at := uint64(headerSize + headers*programHeaderSize)
	place := func(part []byte) uint64 {
		here := at
		at += uint64(len(part)+7) &^ 7
		return here
	}
	symbolsAt, versionsAt, hashAt, needsAt, propertyAt, stringsAt := place(symbols), place(versionOf), place(hash), place(needs), place(property), place(strings)
	entry(elf.DT_SYMTAB, symbolsAt)
	entry(elf.DT_SYMENT, symbolSize)
	entry(elf.DT_STRTAB, stringsAt)
	entry(elf.DT_STRSZ, uint64(len(strings)))
	if s.gnuHash {
		entry(elf.DT_GNU_HASH, hashAt)
	} else {
		entry(elf.DT_HASH, hashAt)
	}
	if len(s.needs) > 0 {
		entry(elf.DT_VERSYM, versionsAt)
		entry(elf.DT_VERNEED, needsAt)
		entry(elf.DT_VERNEEDNUM, uint64(len(s.needs)))
	}
	entry(elf.DT_NULL, 0)
	dynamicAt := place(dynamic)

	file := make([]byte, at)
	copy(file[symbolsAt:], symbols)
	copy(file[versionsAt:], versionOf)
	copy(file[hashAt:], hash)
	copy(file[needsAt:], needs)
	copy(file[propertyAt:], property)
	copy(file[stringsAt:], strings)
	copy(file[dynamicAt:], dynamic)

	header := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(s.machine), Version: 1, Phoff: headerSize,
		Ehsize: headerSize, Phentsize: programHeaderSize, Phnum: headers}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	copy(file, encode(header))
	programs := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Filesz: at, Memsz: at, Align: 4096},
		{Type: uint32(elf.PT_DYNAMIC), Flags: uint32(elf.PF_R), Off: dynamicAt, Vaddr: dynamicAt, Filesz: uint64(len(dynamic)), Memsz: uint64(len(dynamic)), Align: 8},
		{Type: uint32(elf.PT_GNU_PROPERTY), Flags: uint32(elf.PF_R), Off: propertyAt, Vaddr: propertyAt, Filesz: uint64(len(property)), Memsz: uint64(len(property)), Align: 8},
	}
	copy(file[headerSize:], encode(programs))
	return file
}

func encode(value any) []byte {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, value); err != nil {
		panic("BUG: " + err.Error())
	}
	return b.Bytes()
}
