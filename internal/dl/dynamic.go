package dl

import (
	"debug/elf"
	"encoding/binary"
)

// Tags that debug/elf does not name.
const (
	packedSize    = elf.DynTag(35)         // DT_RELRSZ
	packedTable   = elf.DynTag(36)         // DT_RELR
	packedEntry   = elf.DynTag(37)         // DT_RELRENT
	relativeCount = elf.DynTag(0x6ffffff9) // DT_RELACOUNT

	versionDefinitionSize = 20
)

// A dynamicTable holds the entries of the dynamic section.
type dynamicTable struct {
	values map[elf.DynTag]uint64
	needed []uint64
}

func (d *dynamicTable) has(tag elf.DynTag) bool     { _, ok := d.values[tag]; return ok }
func (d *dynamicTable) value(tag elf.DynTag) uint64 { return d.values[tag] }

// textRelocations reports whether the loader makes the whole image writable while it relocates.
func (d *dynamicTable) textRelocations() bool {
	return d.has(elf.DT_TEXTREL) || d.value(elf.DT_FLAGS)&uint64(elf.DF_TEXTREL) != 0
}

func (in *inspector) readDynamic(p *elf.Prog64) error {
	if p.Filesz/dynamicEntrySize > maxDynamicEntries {
		return in.errorf("is damaged: its dynamic section has %d entries, more than %d", p.Filesz/dynamicEntrySize, maxDynamicEntries)
	}
	raw, err := in.bytes("the dynamic section", p.Off, p.Filesz)
	if err != nil {
		return err
	}
	d := &in.dynamic
	d.values = make(map[elf.DynTag]uint64)
	ended := false
	for ; len(raw) >= dynamicEntrySize; raw = raw[dynamicEntrySize:] {
		tag, value := elf.DynTag(binary.LittleEndian.Uint64(raw)), binary.LittleEndian.Uint64(raw[8:])
		switch {
		case tag == elf.DT_NULL:
			ended = true
		case ended:
			return in.errorf("is damaged: its dynamic section goes on after its end")
		case tag == elf.DT_NEEDED:
			d.needed = append(d.needed, value)
		case d.has(tag) && tag != elf.DT_AUXILIARY && tag != elf.DT_FILTER:
			return in.errorf("is damaged: its dynamic section has two entries of type %#x", uint64(tag))
		default:
			d.values[tag] = value
		}
	}
	in.object.PIE = d.value(elf.DT_FLAGS_1)&flags1PIE != 0
	if !d.has(elf.DT_STRTAB) || !d.has(elf.DT_SYMTAB) {
		return in.errorf("is damaged: its dynamic section names no symbols")
	}
	if !ended {
		return in.errorf("is damaged: its dynamic section has no end")
	}
	if size := d.value(elf.DT_STRSZ); size > maxStringTable {
		return in.errorf("is damaged: its string table has %d bytes, more than %d", size, maxStringTable)
	}
	table, err := in.mapped("the string table", d.value(elf.DT_STRTAB), d.value(elf.DT_STRSZ))
	if err != nil {
		return err
	}
	in.stringTable = string(table)
	for _, tag := range []elf.DynTag{elf.DT_SONAME, elf.DT_RPATH, elf.DT_RUNPATH, elf.DT_AUXILIARY, elf.DT_FILTER, elf.DT_AUDIT, elf.DT_DEPAUDIT, elf.DT_CONFIG} {
		if !d.has(tag) {
			continue
		}
		name, err := in.name(d.value(tag))
		if err != nil {
			return err
		}
		if tag == elf.DT_SONAME {
			in.object.Soname = name
		}
	}
	for _, at := range d.needed {
		library, err := in.name(at)
		if err != nil {
			return err
		}
		in.object.Needed = append(in.object.Needed, library)
	}
	return nil
}

// readVersionDefinitions checks the versions that the library defines, and returns the highest index of one.
func (in *inspector) readVersionDefinitions() (highest uint16, err error) {
	const what = "the table of defined versions"
	d := &in.dynamic
	if d.has(elf.DT_VERDEF) != d.has(elf.DT_VERDEFNUM) {
		return 0, in.errorf("is damaged: its dynamic section does not say all about its symbol versions")
	}
	highest = 1
	if !d.has(elf.DT_VERDEF) {
		return highest, nil
	}
	at := d.value(elf.DT_VERDEF)
	for left := d.value(elf.DT_VERDEFNUM); ; left-- {
		raw, err := in.mapped(what, at, versionDefinitionSize)
		if err != nil {
			return 0, err
		}
		index, aux, next := binary.LittleEndian.Uint16(raw[4:])&versionIndexMask, binary.LittleEndian.Uint32(raw[12:]), binary.LittleEndian.Uint32(raw[16:])
		if binary.LittleEndian.Uint16(raw) != 1 || left == 0 || left > maxVersionNeeds {
			return 0, in.errorf("is damaged: the versions it defines do not fit their number")
		}
		highest = max(highest, index)
		nameAt, err := in.mapped(what, at+uint64(aux), 8)
		if err != nil {
			return 0, err
		}
		if _, err := in.name(uint64(binary.LittleEndian.Uint32(nameAt))); err != nil {
			return 0, err
		}
		if next == 0 {
			return highest, nil
		}
		at += uint64(next)
	}
}
