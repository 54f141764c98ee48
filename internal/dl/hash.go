package dl

import (
	"debug/elf"
	"encoding/binary"
)

// countSymbols finds the length of the dynamic symbol table, which is written nowhere: the old hash table has one
// chain entry per symbol, the GNU one covers a tail of the table whose last symbol ends the highest chain. Both are
// checked here, because the loader follows them to wherever they lead.
func (in *inspector) countSymbols() (uint64, error) {
	d := &in.dynamic
	count, known := uint64(0), false
	if at := d.value(elf.DT_HASH); at != 0 {
		var err error
		if count, err = in.readHash(at); err != nil {
			return 0, err
		}
		known = true
	}
	at := d.value(elf.DT_GNU_HASH)
	if at == 0 {
		if !known {
			return 0, in.errorf("is damaged: it has no symbol hash table")
		}
		return count, nil
	}
	hashed, defined, err := in.readGNUHash(at)
	switch {
	case err != nil:
		return 0, err
	case !known && !defined:
		// Nothing is defined, and the table is as long as its users make it.
		return max(hashed, in.highestSymbol+1), nil
	case known && defined && hashed > count:
		return 0, in.errorf("is damaged: its two symbol hash tables are for %d and %d symbols", count, hashed)
	case known:
		return count, nil
	}
	return hashed, nil
}

// readHash checks the table of DT_HASH and returns the number of symbols.
func (in *inspector) readHash(at uint64) (uint64, error) {
	const what = "the symbol hash table"
	head, err := in.mapped(what, at, 8)
	if err != nil {
		return 0, err
	}
	buckets, count := uint64(binary.LittleEndian.Uint32(head)), uint64(binary.LittleEndian.Uint32(head[4:]))
	if count > maxSymbols {
		return 0, in.errorf("is damaged: it has %d dynamic symbols, more than %d", count, maxSymbols)
	}
	if buckets == 0 || buckets > maxSymbols || at%4 != 0 {
		return 0, in.errorf("is damaged: its symbol hash table has %d buckets", buckets)
	}
	raw, err := in.mapped(what, at, 8+(buckets+count)*4)
	if err != nil {
		return 0, err
	}
	raw = raw[8:]
	chains := raw[buckets*4:]
	// Every symbol is in one chain at most: one that is met twice closes a circle, or is a place where two chains meet.
	met := make([]bool, count)
	for i := range buckets {
		for symbol := uint64(binary.LittleEndian.Uint32(raw[i*4:])); symbol != 0; symbol = uint64(binary.LittleEndian.Uint32(chains[symbol*4:])) {
			if symbol >= count || met[symbol] {
				return 0, in.errorf("is damaged: its symbol hash table leads to symbol %d of %d, or there twice", symbol, count)
			}
			met[symbol] = true
		}
	}
	return count, nil
}

// readGNUHash checks the table of DT_GNU_HASH. It returns the number of symbols, and whether it has any to look up.
func (in *inspector) readGNUHash(address uint64) (count uint64, defined bool, err error) {
	const what = "the symbol hash table"
	head, err := in.mapped(what, address, 16)
	if err != nil {
		return 0, false, err
	}
	buckets, first := uint64(binary.LittleEndian.Uint32(head)), uint64(binary.LittleEndian.Uint32(head[4:]))
	filters, shift := uint64(binary.LittleEndian.Uint32(head[8:])), binary.LittleEndian.Uint32(head[12:])
	if buckets == 0 || buckets > maxSymbols || filters == 0 || filters > maxSymbols || filters&(filters-1) != 0 || first > maxSymbols || shift > 31 || address%8 != 0 {
		return 0, false, in.errorf("is damaged: its symbol hash table has %d buckets for symbols from %d, and a filter of %d words and %d bits", buckets, first, filters, shift)
	}
	at, ok := add(address, 16+filters*8)
	if !ok {
		return 0, false, in.errorf("is damaged: its symbol hash table lies outside its segments")
	}
	raw, err := in.mapped(what, at, buckets*4)
	if err != nil {
		return 0, false, err
	}
	last := uint64(0)
	for ; len(raw) >= 4; raw = raw[4:] {
		start := uint64(binary.LittleEndian.Uint32(raw))
		if start == 0 {
			continue
		}
		if start < first || start >= maxSymbols {
			return 0, false, in.errorf("is damaged: its symbol hash table leads to symbol %d, and begins at %d", start, first)
		}
		last = max(last, start)
	}
	if last == 0 {
		return first, false, nil
	}
	// Every chain ends where the lowest bit of an entry says so; the highest is the last to. Blocks, because the end is unknown.
	for chain := at + buckets*4 + (last-first)*4; last < maxSymbols; {
		block, err := in.mappedUpTo(what, chain, 4096)
		if err != nil {
			return 0, false, err
		}
		for ; len(block) >= 4; block = block[4:] {
			last++
			chain += 4
			if block[0]&1 != 0 {
				return last, true, nil
			}
		}
	}
	return 0, false, in.errorf("is damaged: it has more than %d dynamic symbols", maxSymbols)
}
