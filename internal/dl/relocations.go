package dl

import (
	"debug/elf"
	"encoding/binary"
	"strconv"
)

// Limits on what the loader would do to the image.
const (
	maxRelocations  = 1 << 23
	maxConstructors = 1 << 16
	relocationSize  = 24
	relocationBlock = relocationSize << 12 // bytes read at a time
)

// profilingStart is what gcrt1.o defines for gprof.
const profilingStart = "__gmon_start__"

// A relocationKind says what the loader does for a relocation.
type relocationKind struct {
	size     uint64 // bytes it writes
	relative bool   // the addend is an address in the image
	resolver bool   // the addend is code that the loader calls
	aligned  bool   // it fills an entry of the global offset table
	bare     bool   // the loader adds the addend to a symbol's address, and linkers give none
	use      symbolUse
}

// A symbolUse is what relocations want of a symbol, as a set.
type symbolUse uint8

const (
	usedAddress symbolUse = 1 << iota // an entry of the global offset table holds its address
	usedCall                          // an entry of the global offset table is called by
	usedThread                        // its place in thread-local memory
	usedOther
)

// Relocations that the loader of glibc knows and that occur in shared libraries. Copying ones do not,
// and those of x86-64 that write half an address cannot reach another library.
var relocationKinds = map[elf.Machine]map[uint32]relocationKind{
	elf.EM_X86_64: {
		uint32(elf.R_X86_64_NONE):      {},
		uint32(elf.R_X86_64_64):        {size: 8, use: usedOther},
		uint32(elf.R_X86_64_GLOB_DAT):  {size: 8, aligned: true, use: usedAddress},
		uint32(elf.R_X86_64_JMP_SLOT):  {size: 8, aligned: true, use: usedCall},
		uint32(elf.R_X86_64_RELATIVE):  {size: 8, relative: true},
		uint32(elf.R_X86_64_DTPMOD64):  {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_X86_64_DTPOFF64):  {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_X86_64_TPOFF64):   {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_X86_64_SIZE64):    {size: 8, use: usedOther},
		uint32(elf.R_X86_64_TLSDESC):   {size: 16, aligned: true, use: usedThread},
		uint32(elf.R_X86_64_IRELATIVE): {size: 8, resolver: true},
	},
	elf.EM_AARCH64: {
		uint32(elf.R_AARCH64_NONE):         {},
		uint32(elf.R_AARCH64_ABS64):        {size: 8, use: usedOther},
		uint32(elf.R_AARCH64_ABS32):        {size: 4, use: usedOther},
		uint32(elf.R_AARCH64_GLOB_DAT):     {size: 8, aligned: true, bare: true, use: usedAddress},
		uint32(elf.R_AARCH64_JUMP_SLOT):    {size: 8, aligned: true, bare: true, use: usedCall},
		uint32(elf.R_AARCH64_RELATIVE):     {size: 8, relative: true},
		uint32(elf.R_AARCH64_TLS_DTPMOD64): {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_AARCH64_TLS_DTPREL64): {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_AARCH64_TLS_TPREL64):  {size: 8, aligned: true, use: usedThread},
		uint32(elf.R_AARCH64_TLSDESC):      {size: 16, aligned: true, use: usedThread},
		uint32(elf.R_AARCH64_IRELATIVE):    {size: 8, resolver: true},
	},
}

// readRelocations checks everything the loader writes to the image before any of its code runs, and what it then calls.
func (in *inspector) readRelocations() error {
	d := &in.dynamic
	if err := in.checkConstructors(); err != nil {
		return err
	}
	for _, table := range []struct {
		what                      string
		address, size, relative   uint64
		hasAddress, hasSize       bool
		entry                     uint64
		hasEntry, entryIsOptional bool
	}{
		{what: "the relocation table", address: d.value(elf.DT_RELA), size: d.value(elf.DT_RELASZ), entry: d.value(elf.DT_RELAENT),
			hasAddress: d.has(elf.DT_RELA), hasSize: d.has(elf.DT_RELASZ), hasEntry: d.has(elf.DT_RELAENT), relative: d.value(relativeCount)},
		{what: "the table of called functions", address: d.value(elf.DT_JMPREL), size: d.value(elf.DT_PLTRELSZ),
			hasAddress: d.has(elf.DT_JMPREL), hasSize: d.has(elf.DT_PLTRELSZ), entry: relocationSize, hasEntry: d.has(elf.DT_PLTREL)},
	} {
		if table.hasAddress != table.hasSize || table.hasAddress != table.hasEntry {
			// An empty table may leave its size behind.
			if table.size == 0 && !table.hasAddress && table.relative == 0 {
				continue
			}
			return in.errorf("is damaged: its dynamic section does not say all about %s", table.what)
		}
		if !table.hasAddress {
			if table.relative != 0 {
				return in.errorf("is damaged: its dynamic section counts relocations that it does not have")
			}
			continue
		}
		if table.entry != relocationSize || table.size%relocationSize != 0 || table.address%8 != 0 {
			return in.errorf("is damaged: %s has %d bytes in entries of %d, not %d", table.what, table.size, table.entry, relocationSize)
		}
		if err := in.readTable(table.what, table.address, table.size, table.relative); err != nil {
			return err
		}
	}
	if d.has(elf.DT_PLTREL) && d.value(elf.DT_PLTREL) != uint64(elf.DT_RELA) {
		return in.errorf("is damaged: the table of called functions is of kind %d, not %d", d.value(elf.DT_PLTREL), elf.DT_RELA)
	}
	for _, tag := range []elf.DynTag{elf.DT_REL, elf.DT_RELSZ, elf.DT_RELENT} {
		if d.has(tag) {
			return in.errorf("is damaged: it has relocations without addends, which its instruction set does not know")
		}
	}
	if d.has(elf.DT_PLTGOT) && in.segmentOf(d.value(elf.DT_PLTGOT), 8) == nil {
		return in.errorf(outsideOfIt, "the global offset table", 8, d.value(elf.DT_PLTGOT))
	}
	if err := in.readPackedRelocations(); err != nil {
		return err
	}
	for _, a := range in.constructors {
		for i, called := range a.relocated {
			if !called {
				return in.errorf("is damaged: entry %d of %s is no function", i, a.what)
			}
		}
	}
	return nil
}

// A constructorTable is a list of functions that the loader calls.
type constructorTable struct {
	what      string
	address   uint64
	relocated []bool // by entry
}

func (in *inspector) checkConstructors() error {
	d := &in.dynamic
	for tag, what := range map[elf.DynTag]string{elf.DT_INIT: "its first function", elf.DT_FINI: "its last function"} {
		if d.has(tag) && d.value(tag) != 0 && !in.runnable(d.value(tag)) {
			return in.errorf("is damaged: %s (address %#x) is no code", what, d.value(tag))
		}
	}
	if d.has(elf.DT_PREINIT_ARRAY) || d.has(elf.DT_PREINIT_ARRAYSZ) {
		return in.errorf("is damaged: it has functions to run before those of a program, which only programs have")
	}
	for _, a := range []struct {
		what          string
		address, size elf.DynTag
	}{
		{"the table of constructors", elf.DT_INIT_ARRAY, elf.DT_INIT_ARRAYSZ},
		{"the table of destructors", elf.DT_FINI_ARRAY, elf.DT_FINI_ARRAYSZ},
	} {
		address, size := d.value(a.address), d.value(a.size)
		if d.has(a.address) != d.has(a.size) {
			return in.errorf("is damaged: its dynamic section does not say all about %s", a.what)
		}
		if size == 0 {
			continue
		}
		if size%8 != 0 || address%8 != 0 || size/8 > maxConstructors || in.segmentOf(address, size) == nil {
			return in.errorf(outsideOfIt, a.what, size, address)
		}
		for _, other := range in.constructors {
			if address < other.address+uint64(len(other.relocated))*8 && other.address < address+size {
				return in.errorf("is damaged: %s and %s share entries", other.what, a.what)
			}
		}
		in.constructors = append(in.constructors, constructorTable{what: a.what, address: address, relocated: make([]bool, size/8)})
	}
	return nil
}

// readTable checks a table of relocations, of which the first so many are counted as relative.
func (in *inspector) readTable(what string, address, size, relative uint64) error {
	count := size / relocationSize
	if relative > count {
		return in.errorf("is damaged: %s has %d entries, of which %d are counted as relative", what, count, relative)
	}
	if in.relocations += count; in.relocations > maxRelocations {
		return in.errorf("is damaged: it has more than %d relocations", maxRelocations)
	}
	kinds, known := relocationKinds[in.object.Machine]
	var lastCall, gaps uint64
	for done := uint64(0); done < size; {
		block, err := in.mapped(what, address+done, min(size-done, relocationBlock))
		if err != nil {
			return err
		}
		for ; len(block) > 0; block = block[relocationSize:] {
			entry := done / relocationSize
			done += relocationSize
			target, info, addend := binary.LittleEndian.Uint64(block), binary.LittleEndian.Uint64(block[8:]), binary.LittleEndian.Uint64(block[16:])
			symbol, number := info>>32, uint32(info)
			in.highestSymbol = max(in.highestSymbol, symbol)
			kind, ok := kinds[number]
			if !known {
				kind, ok = relocationKind{size: 4}, true
			}
			switch {
			case !ok:
				return in.errorf("is damaged: entry %d of %s is of type %d, which no library has", entry, what, number)
			case kind.size > 0 && !in.writable(target, kind.size), kind.aligned && target%8 != 0:
				return in.errorf("is damaged: entry %d of %s is about address %#x, which cannot be written", entry, what, target)
			case kind.aligned && kind.use != usedThread && symbol == 0:
				return in.errorf("is damaged: entry %d of %s is about no symbol", entry, what)
			case kind.bare && addend != 0:
				return in.errorf("is damaged: entry %d of %s is about %#x bytes after a symbol", entry, what, addend)
			case entry < relative && !kind.relative && known:
				return in.errorf("is damaged: entry %d of %s is counted as relative and is not", entry, what)
			case kind.relative && (symbol != 0 || !in.inImage(addend)), kind.resolver && (symbol != 0 || !in.runnable(addend)):
				return in.errorf("is damaged: entry %d of %s points to address %#x, which is not in the library", entry, what, addend)
			case kind.use == usedThread && symbol == 0 && !in.hasThreadMemory:
				return in.errorf("is damaged: entry %d of %s is about thread-local memory, which it has none of", entry, what)
			}
			if kind.use == usedCall {
				// Linkers put the entries to call by in a row, between which only those are that a resolver fills. What is missing from it is called
				// without ever having been filled.
				if lastCall != 0 && target <= lastCall {
					return in.errorf("is damaged: entry %d of %s is about address %#x, and the one before about %#x", entry, what, target, lastCall)
				}
				if lastCall != 0 {
					gaps += (target-lastCall)/8 - 1
				}
				lastCall = target
			}
			if kind.resolver {
				in.resolved++
			}
			if err := in.note(symbol, kind.use); err != nil {
				return err
			}
			if err := in.relocate(target, kind.size, !kind.relative || in.runnable(addend)); err != nil {
				return err
			}
		}
	}
	if gaps > in.resolved {
		return in.errorf("is damaged: %s leaves out %d entries to call by", what, gaps-in.resolved)
	}
	return nil
}

// note keeps what a relocation wants of a symbol, for when the symbols are known.
func (in *inspector) note(symbol uint64, use symbolUse) error {
	if symbol == 0 {
		return nil
	}
	if symbol >= maxSymbols {
		return in.errorf("is damaged: a relocation is about symbol %d, more than %d", symbol, maxSymbols)
	}
	if missing := int(symbol) + 1 - len(in.uses); missing > 0 {
		in.uses = append(in.uses, make([]symbolUse, missing)...)
	}
	if in.uses[symbol]&use == usedCall {
		return in.errorf("is damaged: two entries of its global offset table are for calls of symbol %d", symbol)
	}
	in.uses[symbol] |= use
	return nil
}

// checkUse compares what relocations want of a symbol with what it is.
func (in *inspector) checkUse(index uint64, entry []byte) error {
	if index >= uint64(len(in.uses)) || in.uses[index] == 0 {
		return nil
	}
	binding, kind, use := elf.ST_BIND(entry[4]), elf.ST_TYPE(entry[4]), in.uses[index]
	switch {
	case (kind == elf.STT_TLS) != (use&usedThread != 0):
		return in.errorf("is damaged: symbol %d is thread-local for a relocation or for itself, and not for both", index)
	case binding == elf.STB_LOCAL && use&(usedAddress|usedCall) != 0:
		return in.errorf("is damaged: a relocation looks for symbol %d, which nobody can find", index)
	case kind == elf.STT_OBJECT && use&usedCall != 0:
		return in.errorf("is damaged: symbol %d is called, and is no function", index)
	case use != usedCall || elf.SectionIndex(binary.LittleEndian.Uint16(entry[6:])) != elf.SHN_UNDEF:
		return nil
	}
	// The code of the C library that starts a library calls this function where it is there, which is nowhere but in programs that are profiled. On aarch64 it
	// asks by one entry of the global offset table and calls by another: with the first about another symbol it would call address 0.
	if name, err := in.name(uint64(binary.LittleEndian.Uint32(entry))); err != nil || name == profilingStart {
		return in.errorf("is damaged: it calls %s without looking whether it is there", profilingStart)
	}
	return nil
}

// relocate notes which entries of the tables of constructors get an address of code.
func (in *inspector) relocate(target, size uint64, code bool) error {
	if table := &in.dynamicSection; size > 0 && target < table.end() && target+size > table.address {
		return in.errorf("is damaged: it has the loader write over its dynamic section, at address %#x", target)
	}
	for i := range in.constructors {
		a := &in.constructors[i]
		into := target - a.address
		if target < a.address || into >= uint64(len(a.relocated))*8 {
			continue
		}
		if into%8 != 0 || size != 8 || !code || a.relocated[into/8] {
			return in.errorf("is damaged: entry %d of %s is no function", into/8, a.what)
		}
		a.relocated[into/8] = true
	}
	return nil
}

// readPackedRelocations checks DT_RELR: an even word is an address to relocate, an odd one a bit map of the 63 words after.
func (in *inspector) readPackedRelocations() error {
	const what = "the table of packed relocations"
	d := &in.dynamic
	if !d.has(packedTable) && !d.has(packedSize) && !d.has(packedEntry) {
		return nil
	}
	size := d.value(packedSize)
	if !d.has(packedTable) || !d.has(packedSize) || !d.has(packedEntry) || d.value(packedEntry) != 8 || size%8 != 0 || d.value(packedTable)%8 != 0 {
		return in.errorf("is damaged: its dynamic section does not say all about %s", what)
	}
	next, started := uint64(0), false
	one := func(target uint64) error {
		if in.relocations++; in.relocations > maxRelocations {
			return in.errorf("is damaged: it has more than %d relocations", maxRelocations)
		}
		if target%8 != 0 || !in.writable(target, 8) {
			return in.errorf("is damaged: %s is about address %#x, which cannot be written", what, target)
		}
		return in.relocate(target, 8, true)
	}
	for done := uint64(0); done < size; {
		block, err := in.mapped(what, d.value(packedTable)+done, min(size-done, relocationBlock))
		if err != nil {
			return err
		}
		for ; len(block) > 0; block = block[8:] {
			done += 8
			word := binary.LittleEndian.Uint64(block)
			if word&1 == 0 {
				if err := one(word); err != nil {
					return err
				}
				next, started = word+8, true
				continue
			}
			if !started {
				return in.errorf("is damaged: %s begins without an address", what)
			}
			for i, bits := uint64(0), word>>1; bits != 0; i, bits = i+1, bits>>1 {
				if bits&1 != 0 {
					if err := one(next + i*8); err != nil {
						return err
					}
				}
			}
			next += 63 * 8
		}
	}
	return nil
}

func itoa(n int) string { return strconv.Itoa(n) }
