package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Limits on what Inspect reads. They are far above any library met in practice (libtorch has some 200,000 dynamic
// symbols) and keep the memory and time that a hostile file can cost within tens of megabytes and about a second.
const (
	maxProgramHeaders = 256
	maxDynamicEntries = 1 << 13
	maxSymbols        = 1 << 21
	maxStringTable    = 64 << 20
	maxSymbolName     = 16 << 10
	maxSymbolNames    = maxStringTable // all names of symbols together: entries may share a name, and each is sorted
	maxVersionNeeds   = 1 << 12
	maxNotes          = 64 << 10
)

// Sizes of the 64 bit structures, from the System V ABI and the GNU extensions to it.
const (
	headerSize        = 64
	programHeaderSize = 56
	sectionHeaderSize = 64
	dynamicEntrySize  = 16
	symbolSize        = 24
	versionNeedSize   = 16
)

// Constants that debug/elf does not name.
const (
	typeGNUProperty    = 5          // NT_GNU_PROPERTY_TYPE_0
	propertyX86Needed  = 0xc0008002 // GNU_PROPERTY_X86_ISA_1_NEEDED
	versionNeedIsWeak  = 0x2        // VER_FLG_WEAK
	versionIndexMask   = 0x7fff     // the top bit of a DT_VERSYM entry says "hidden"
	bindingGNUUnique   = 10         // STB_GNU_UNIQUE
	flags1PIE          = uint64(elf.DF_1_PIE)
	firstVersionNumber = 2 // 0 is local, 1 is global without a version
)

// Inspect reads an ELF file of size bytes from r without loading it. It follows the program headers and the dynamic
// section, which is what the loader sees, and ignores section headers, which can be stripped or lie; debug/elf does
// it the other way round, and trusts counts more than an unsigned file deserves.
//
// Nothing in the file is trusted: every range is checked against size before it is read, every count against a limit
// before memory is taken. A file that is not a complete, coherent ELF file gives an *ObjectError ("… is truncated: …");
// a complete one for another machine gives an Object that [Object.CheckHost] refuses. r is not retained.
func Inspect(r io.ReaderAt, size int64) (*Object, error) {
	return inspect(r, size, "the library")
}

// InspectFile is Inspect of a whole file, with name as the subject of its errors. It leaves f's offset alone.
func InspectFile(f *os.File, name string) (*Object, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("inspecting %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &ObjectError{Name: name, Problem: "is not a regular file"}
	}
	return inspect(f, info.Size(), name)
}

func inspect(r io.ReaderAt, size int64, name string) (*Object, error) {
	in := &inspector{r: r, size: uint64(max(size, 0)), object: &Object{Name: name}}
	if err := in.read(); err != nil {
		return nil, err
	}
	return in.object, nil
}

// An inspector holds the state of one Inspect.
type inspector struct {
	r      io.ReaderAt
	size   uint64
	object *Object

	header      elf.Header64
	segments    []segment // ascending
	stringTable string    // the dynamic string table
	dynamic     dynamicTable

	dynamicSection  segment
	protected       segment // whole pages that cannot be written after relocation
	threadMemory    uint64  // bytes of thread-local variables per thread
	hasThreadMemory bool
	constructors    []constructorTable
	relocations     uint64      // seen so far
	resolved        uint64      // of them, those for which the loader calls code
	highestSymbol   uint64      // that a relocation refers to
	uses            []symbolUse // by symbol, as far as relocations refer to them
	functions       map[uint64]bool
}

func (in *inspector) read() error {
	headers, table, err := in.readHeader()
	if err != nil || headers == nil {
		return err
	}
	var dynamic, property *elf.Prog64
	for i := range headers {
		p := &headers[i]
		switch elf.ProgType(p.Type) {
		case elf.PT_LOAD:
			if err := in.checkSegment(i, p); err != nil {
				return err
			}
		case elf.PT_DYNAMIC:
			dynamic = p
		case elf.PT_GNU_PROPERTY:
			property = p
		}
	}
	if property != nil {
		if err := in.readProperties(property); err != nil {
			return err
		}
	}
	if dynamic == nil {
		return in.errorf("is damaged: it has no dynamic section")
	}
	if len(in.segments) == 0 {
		return in.errorf("is damaged: it has no segments")
	}
	if err := in.readDynamic(dynamic); err != nil {
		return err
	}
	if err := in.checkHeaders(headers, table); err != nil {
		return err
	}
	in.dynamicSection = segment{address: dynamic.Vaddr, memory: dynamic.Filesz}
	if err := in.doubt(in.readRelocations()); err != nil {
		return err
	}
	if err := in.readSymbols(); err != nil {
		return err
	}
	return in.doubt(in.checkSections())
}

// doubt keeps what CheckHost has to say of a library that is for this host. What it is about looks wrong in a program,
// and in a library for another machine than its header says; those have better reasons to be refused.
func (in *inspector) doubt(err error) error {
	var problem *ObjectError
	if !errors.As(err, &problem) {
		return err
	}
	if in.object.unsound == nil {
		in.object.unsound = problem
	}
	return nil
}

// readHeader fills the fields every ELF file has and returns the program headers and where they lie, or nil if the
// object is one that is not looked into.
func (in *inspector) readHeader() (headers []elf.Prog64, table uint64, err error) {
	var ident [elf.EI_NIDENT]byte
	head, err := in.bytes("the ELF header", 0, min(in.size, uint64(len(ident))))
	if err != nil {
		return nil, 0, err
	}
	copy(ident[:], head)
	if !bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		if in.size == 0 {
			return nil, 0, in.errorf("is empty")
		}
		return nil, 0, in.errorf("is not an ELF library")
	}
	if in.size < uint64(len(ident)) {
		return nil, 0, in.truncated("the ELF header", 0, headerSize)
	}
	o := in.object
	o.Class, o.ByteOrder = elf.Class(ident[elf.EI_CLASS]), elf.Data(ident[elf.EI_DATA])
	var order binary.ByteOrder
	switch o.ByteOrder {
	case elf.ELFDATA2LSB:
		order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		order = binary.BigEndian
	default:
		return nil, 0, in.errorf("is damaged: byte order %d does not exist", ident[elf.EI_DATA])
	}
	if o.Class != elf.ELFCLASS32 && o.Class != elf.ELFCLASS64 {
		return nil, 0, in.errorf("is damaged: class %d does not exist", ident[elf.EI_CLASS])
	}
	// Type and machine sit at the same place in both classes.
	kind, err := in.bytes("the ELF header", elf.EI_NIDENT, 4)
	if err != nil {
		return nil, 0, err
	}
	o.Type, o.Machine = elf.Type(order.Uint16(kind)), elf.Machine(order.Uint16(kind[2:]))
	if o.Class != elf.ELFCLASS64 || o.ByteOrder != elf.ELFDATA2LSB || o.Type != elf.ET_DYN {
		return nil, 0, nil
	}

	var h elf.Header64
	if err := in.decode("the ELF header", 0, headerSize, &h); err != nil {
		return nil, 0, err
	}
	// The loader does not need section headers, but they come last in the files linkers write: where they are
	// missing, the end of the file is.
	if h.Shoff != 0 {
		length := uint64(h.Shnum) * sectionHeaderSize
		if end, ok := add(h.Shoff, length); !ok || end > in.size {
			return nil, 0, in.truncated("the section header table", h.Shoff, length)
		}
		if h.Shnum > 0 && h.Shentsize != sectionHeaderSize {
			return nil, 0, in.errorf("is damaged: its section headers are %d bytes each, not %d", h.Shentsize, sectionHeaderSize)
		}
	}
	switch {
	case h.Phnum == 0:
		return nil, 0, in.errorf("is damaged: it has no program headers")
	case h.Phentsize != programHeaderSize:
		return nil, 0, in.errorf("is damaged: its program headers are %d bytes each, not %d", h.Phentsize, programHeaderSize)
	case h.Phnum > maxProgramHeaders:
		return nil, 0, in.errorf("is damaged: it has %d program headers, more than %d", h.Phnum, maxProgramHeaders)
	}
	in.header = h
	headers = make([]elf.Prog64, h.Phnum)
	return headers, h.Phoff, in.decode("the program header table", h.Phoff, uint64(h.Phnum)*programHeaderSize, headers)
}

// readProperties looks for the x86 instruction set level in the GNU property note. Its absence is no error.
func (in *inspector) readProperties(p *elf.Prog64) error {
	if in.object.Machine != elf.EM_X86_64 {
		return nil
	}
	if p.Filesz > maxNotes {
		return in.errorf("is damaged: its property note has %d bytes, more than %d", p.Filesz, maxNotes)
	}
	note, err := in.bytes("the property note", p.Off, p.Filesz)
	if err != nil {
		return err
	}
	// A note is three lengths and types, the name, and the description, each padded to 8 bytes in this segment.
	for len(note) >= 12 {
		nameSize, descSize := uint64(binary.LittleEndian.Uint32(note)), uint64(binary.LittleEndian.Uint32(note[4:]))
		kind := binary.LittleEndian.Uint32(note[8:])
		descAt := 12 + (nameSize+3)&^3
		next := (descAt + descSize + 7) &^ 7
		if descAt+descSize > uint64(len(note)) {
			return in.errorf("is damaged: its property note does not fit its segment")
		}
		if kind == typeGNUProperty && bytes.Equal(note[12:12+nameSize], []byte("GNU\x00")) {
			in.readX86Level(note[descAt : descAt+descSize])
		}
		note = note[min(next, uint64(len(note))):]
	}
	return nil
}

func (in *inspector) readX86Level(properties []byte) {
	for len(properties) >= 8 {
		kind := binary.LittleEndian.Uint32(properties)
		size := uint64(binary.LittleEndian.Uint32(properties[4:]))
		properties = properties[8:]
		if size > uint64(len(properties)) {
			return
		}
		if kind == propertyX86Needed && size == 4 {
			// One bit per level, baseline first.
			for level, bits := 1, binary.LittleEndian.Uint32(properties); level <= 4; level++ {
				if bits&(1<<(level-1)) != 0 {
					in.object.X86Level = max(in.object.X86Level, level)
				}
			}
		}
		properties = properties[min((size+7)&^7, uint64(len(properties))):]
	}
}

func (in *inspector) readSymbols() error {
	d, o := &in.dynamic, in.object
	if size := d.value(elf.DT_SYMENT); d.has(elf.DT_SYMENT) && size != symbolSize {
		return in.errorf("is damaged: its symbols are %d bytes each, not %d", size, symbolSize)
	}
	count, err := in.countSymbols()
	if err != nil {
		return err
	}
	if count > maxSymbols {
		return in.errorf("is damaged: it has %d dynamic symbols, more than %d", count, maxSymbols)
	}
	if in.highestSymbol >= max(count, 1) {
		if err := in.doubt(in.errorf("is damaged: a relocation is about symbol %d of %d", in.highestSymbol, count)); err != nil {
			return err
		}
	}
	table, err := in.mapped("the symbol table", d.value(elf.DT_SYMTAB), count*symbolSize)
	if err != nil {
		return err
	}
	needs, err := in.readVersionNeeds()
	if err != nil {
		return err
	}
	var versions []byte
	// The loader takes either as a promise of the other.
	if d.has(elf.DT_VERSYM) != (d.has(elf.DT_VERNEED) || d.has(elf.DT_VERDEF)) {
		return in.errorf("is damaged: its dynamic section does not say all about its symbol versions")
	}
	if d.has(elf.DT_VERSYM) {
		if versions, err = in.mapped("the symbol version table", d.value(elf.DT_VERSYM), count*2); err != nil {
			return err
		}
		highest, err := in.readVersionDefinitions()
		if err != nil {
			return err
		}
		for index := range needs {
			highest = max(highest, index)
		}
		for i := range count {
			if version := binary.LittleEndian.Uint16(versions[i*2:]) & versionIndexMask; version > highest {
				return in.errorf("is damaged: symbol %d is of version %d of %d", i, version, highest)
			}
		}
	}
	in.functions = make(map[uint64]bool)
	nameBytes := 0
	// Entry 0 is the null symbol.
	for i := uint64(1); i < count; i++ {
		entry := table[i*symbolSize:]
		binding, kind := elf.ST_BIND(entry[4]), elf.ST_TYPE(entry[4])
		if err := in.doubt(in.checkSymbol(i, entry)); err != nil {
			return err
		}
		if err := in.doubt(in.checkUse(i, entry)); err != nil {
			return err
		}
		if binding != elf.STB_GLOBAL && binding != elf.STB_WEAK && binding != bindingGNUUnique {
			continue
		}
		name, err := in.name(uint64(binary.LittleEndian.Uint32(entry)))
		if err != nil {
			return err
		}
		if nameBytes += len(name); nameBytes > maxSymbolNames {
			return in.errorf("is damaged: the names of its symbols have more than %d bytes", maxSymbolNames)
		}
		defined := elf.SectionIndex(binary.LittleEndian.Uint16(entry[6:])) != elf.SHN_UNDEF
		if !defined {
			if binding != elf.STB_WEAK {
				o.Undefined = append(o.Undefined, name)
			}
			if versions != nil {
				version := binary.LittleEndian.Uint16(versions[i*2:]) & versionIndexMask
				if at, ok := needs[version]; ok {
					o.Versions[at].Symbols = append(o.Versions[at].Symbols, name)
				}
			}
			continue
		}
		visibility := elf.ST_VISIBILITY(entry[5])
		visible := visibility == elf.STV_DEFAULT || visibility == elf.STV_PROTECTED
		if visible && kind != elf.STT_SECTION && kind != elf.STT_FILE {
			o.Exported = append(o.Exported, name)
		}
	}
	slices.Sort(o.Exported)
	o.Exported = slices.Compact(o.Exported)
	slices.Sort(o.Undefined)
	o.Undefined = slices.Compact(o.Undefined)
	return nil
}

// readVersionNeeds fills Versions and returns where the need with a given version index stands in it.
func (in *inspector) readVersionNeeds() (map[uint16]int, error) {
	d, o := &in.dynamic, in.object
	if d.has(elf.DT_VERNEED) != d.has(elf.DT_VERNEEDNUM) {
		return nil, in.errorf("is damaged: its dynamic section does not say all about its symbol versions")
	}
	if !d.has(elf.DT_VERNEED) {
		return nil, nil
	}
	const what = "the version table"
	places := make(map[uint16]int)
	total := 0
	for at, left := d.value(elf.DT_VERNEED), d.value(elf.DT_VERNEEDNUM); ; left-- {
		var need verneed
		if err := in.decodeMapped(what, at, &need); err != nil {
			return nil, err
		}
		library, err := in.name(uint64(need.File))
		if err != nil {
			return nil, err
		}
		// The loader goes by the links and trusts that the library has been loaded.
		if need.Version != 1 || left == 0 || need.Count == 0 || !slices.Contains(o.Needed, library) {
			return nil, in.errorf("is damaged: it needs versions of %q, which it does not need", library)
		}
		auxAt := at
		step := need.Aux
		for remaining := need.Count; ; remaining-- {
			if remaining == 0 {
				return nil, in.errorf("is damaged: it needs more versions of %s than it says", library)
			}
			if total++; total > maxVersionNeeds {
				return nil, in.errorf("is damaged: it needs more than %d symbol versions", maxVersionNeeds)
			}
			var ok bool
			if auxAt, ok = add(auxAt, uint64(step)); !ok {
				return nil, in.errorf("is damaged: its version table lies outside its segments")
			}
			var aux vernaux
			if err := in.decodeMapped(what, auxAt, &aux); err != nil {
				return nil, err
			}
			version, err := in.name(uint64(aux.Name))
			if err != nil {
				return nil, err
			}
			if index := aux.Other & versionIndexMask; index >= firstVersionNumber {
				places[index] = len(o.Versions)
			}
			o.Versions = append(o.Versions, VersionNeed{Library: library, Version: version, Weak: aux.Flags&versionNeedIsWeak != 0})
			if step = aux.Next; step == 0 {
				break
			}
		}
		if need.Next == 0 {
			break
		}
		// A library without versions costs a turn of this loop too, so it counts against the limit.
		if total++; total > maxVersionNeeds {
			return nil, in.errorf("is damaged: it needs more than %d symbol versions", maxVersionNeeds)
		}
		var ok bool
		if at, ok = add(at, uint64(need.Next)); !ok {
			return nil, in.errorf("is damaged: its version table lies outside its segments")
		}
	}
	return places, nil
}

// name returns the string at offset at of the dynamic string table.
func (in *inspector) name(at uint64) (string, error) {
	if at >= uint64(len(in.stringTable)) {
		return "", in.errorf("is damaged: a name lies outside its string table")
	}
	tail := in.stringTable[at:]
	tail = tail[:min(len(tail), maxSymbolName+1)]
	if end := strings.IndexByte(tail, 0); end >= 0 {
		return tail[:end], nil
	}
	return "", in.errorf("is damaged: a name in its string table has no end, or is longer than %d bytes", maxSymbolName)
}

// mapped reads length bytes at a virtual address; they must lie within one segment.
func (in *inspector) mapped(what string, address, length uint64) ([]byte, error) {
	at, room, err := in.locate(what, address)
	if err != nil {
		return nil, err
	}
	if length > room {
		return nil, in.errorf("is damaged: %s (%d bytes at address %#x) does not fit its segment", what, length, address)
	}
	return in.bytes(what, at, length)
}

// mappedUpTo reads up to length bytes at a virtual address, fewer if the segment ends before; at least 4.
func (in *inspector) mappedUpTo(what string, address, length uint64) ([]byte, error) {
	at, room, err := in.locate(what, address)
	if err != nil {
		return nil, err
	}
	if room < 4 {
		return nil, in.errorf("is damaged: %s reaches beyond its segment", what)
	}
	return in.bytes(what, at, min(length, room))
}

// locate turns a virtual address into an offset in the file and the number of bytes from there to its segment's end.
func (in *inspector) locate(what string, address uint64) (offset, room uint64, err error) {
	for _, s := range in.segments {
		if address >= s.address && address-s.address < s.size {
			into := address - s.address
			return s.offset + into, s.size - into, nil
		}
	}
	return 0, 0, in.errorf("is damaged: %s (address %#x) lies outside its segments", what, address)
}

func (in *inspector) decodeMapped(what string, address uint64, value any) error {
	raw, err := in.mapped(what, address, versionNeedSize)
	if err != nil {
		return err
	}
	_, err = binary.Decode(raw, binary.LittleEndian, value)
	return err
}

func (in *inspector) decode(what string, offset, length uint64, value any) error {
	raw, err := in.bytes(what, offset, length)
	if err != nil {
		return err
	}
	_, err = binary.Decode(raw, binary.LittleEndian, value)
	return err
}

// bytes reads length bytes of the file. Every caller has bounded length, or bytes bounds it by the file's size.
func (in *inspector) bytes(what string, offset, length uint64) ([]byte, error) {
	end, ok := add(offset, length)
	if !ok || end > in.size {
		return nil, in.truncated(what, offset, length)
	}
	raw := make([]byte, length)
	n, err := in.r.ReadAt(raw, int64(offset))
	switch {
	case uint64(n) == length:
		return raw, nil
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// The file is shorter than size: it shrank since it was measured.
		return nil, in.errorf("is truncated: it ends within %s", what)
	}
	return nil, fmt.Errorf("reading %s of %s: %w", what, in.object.Name, err)
}

func (in *inspector) truncated(what string, offset, length uint64) error {
	if end, ok := add(offset, length); ok {
		return in.errorf("is truncated: %s ends at byte %d, the file has %d bytes", what, end, in.size)
	}
	return in.errorf("is damaged: %s lies at byte %d, beyond any file", what, offset)
}

func (in *inspector) errorf(format string, args ...any) error {
	return in.object.errorf(format, args...)
}

// add reports false if the sum does not fit.
func add(a, b uint64) (uint64, bool) {
	sum := a + b
	return sum, sum >= a
}

// A verneed is one library in the list of needed symbol versions (Elf64_Verneed).
type verneed struct {
	Version, Count  uint16
	File, Aux, Next uint32
}

// A vernaux is one version that is needed of that library (Elf64_Vernaux).
type vernaux struct {
	Hash         uint32
	Flags, Other uint16
	Name, Next   uint32
}
