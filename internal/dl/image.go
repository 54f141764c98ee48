package dl

import (
	"bytes"
	"debug/elf"
	"slices"
)

// Limits on the image. The loader reserves its whole span at once, holes included.
const (
	pageSize        = 4096 // the smallest page of any host; what overlaps there overlaps everywhere
	maxImage        = 4 << 30
	maxAlignment    = 1 << 30
	maxThreadMemory = 16 << 20
	maxInterpreter  = 4096
)

// The range of program header types that systems and processors may add to.
const (
	lowestOSType = 0x60000000 // PT_LOOS
	highestType  = 0x7fffffff // PT_HIPROC
)

// Sentences.
const (
	bssIsTheRest  = "is damaged: segment %d has memory without contents, which can only be written, and is not writable"
	sharesAPage   = "is damaged: segments %d and %d lie in the same page, or in the wrong order"
	gapTooWide    = "is damaged: nothing fills the %d bytes between its segments at addresses %#x and %#x"
	outsideOfIt   = "is damaged: %s (%d bytes at address %#x) lies outside its segments"
	misplacedPart = "is damaged: %s is at byte %d of the file, but its address %#x means byte %d"
)

// A segment is a part of the file that the loader maps.
type segment struct {
	address, offset, size uint64 // size in the file
	memory                uint64 // size in memory
	align                 uint64
	flags                 elf.ProgFlag
}

func (s *segment) end() uint64 { return s.address + s.memory }

// checkSegment checks and keeps one segment on its own; index is its program header.
func (in *inspector) checkSegment(index int, p *elf.Prog64) error {
	end, ok := add(p.Off, p.Filesz)
	if !ok || end > in.size {
		return in.truncated("segment "+itoa(index), p.Off, p.Filesz)
	}
	if p.Filesz > p.Memsz {
		return in.errorf("is damaged: segment %d is larger in the file than in memory", index)
	}
	if end, ok := add(p.Vaddr, p.Memsz); !ok || end > 1<<62 {
		return in.errorf("is damaged: segment %d reaches beyond the address space", index)
	}
	if p.Align < pageSize || p.Align > maxAlignment || p.Align&(p.Align-1) != 0 {
		return in.errorf("is damaged: segment %d is aligned to %d bytes", index, p.Align)
	}
	if (p.Vaddr-p.Off)&(p.Align-1) != 0 {
		return in.errorf("is damaged: segment %d cannot be mapped from byte %d of the file to address %#x", index, p.Off, p.Vaddr)
	}
	s := segment{address: p.Vaddr, offset: p.Off, size: p.Filesz, memory: p.Memsz, align: p.Align, flags: elf.ProgFlag(p.Flags)}
	// Code that can be run and not read exists on aarch64.
	if s.flags&elf.PF_R == 0 && (s.flags&elf.PF_X == 0 || in.object.Machine == elf.EM_X86_64) {
		return in.errorf("is damaged: segment %d cannot be read", index)
	}
	if s.memory > s.size && s.flags&elf.PF_W == 0 {
		return in.errorf(bssIsTheRest, index)
	}
	if n := len(in.segments); n > 0 {
		last := &in.segments[n-1]
		if roundUp(last.end(), pageSize) > s.address&^(pageSize-1) {
			return in.errorf(sharesAPage, index-1, index)
		}
		if s.size > 0 && last.size > 0 && s.offset < last.offset+last.size {
			return in.errorf("is damaged: segments %d and %d share bytes of the file", index-1, index)
		}
		// Linkers leave one unit of alignment at most, and one more to end the part protected after relocation on a page.
		// A wider gap is a segment whose header was lost, unless the section headers, which tell better, say otherwise.
		if gap := s.address - last.end(); in.header.Shnum == 0 && gap >= 2*max(s.align, last.align)+pageSize {
			return in.errorf(gapTooWide, gap, last.end(), s.address)
		}
	}
	in.segments = append(in.segments, s)
	if s.end()-in.segments[0].address > maxImage {
		return in.errorf("is damaged: it takes %d bytes of address space, more than %d", s.end()-in.segments[0].address, uint64(maxImage))
	}
	return nil
}

// checkHeaders looks at the program headers that say something about the segments. They must be known by now.
func (in *inspector) checkHeaders(headers []elf.Prog64, table uint64) error {
	seen := make(map[elf.ProgType]bool)
	for i := range headers {
		p := &headers[i]
		kind := elf.ProgType(p.Type)
		switch kind {
		case elf.PT_DYNAMIC, elf.PT_TLS, elf.PT_GNU_RELRO, elf.PT_PHDR, elf.PT_GNU_PROPERTY:
			if seen[kind] {
				return in.errorf("is damaged: it has two program headers of type %d", p.Type)
			}
			seen[kind] = true
		}
		switch {
		case kind == elf.PT_LOAD:
		case kind == elf.PT_NULL:
			// A spare one is all zeros.
			if p.Memsz != 0 {
				return in.errorf("is damaged: program header %d has contents but no type", i)
			}
		case kind == elf.PT_INTERP:
			path, err := in.bytes("the name of its loader", p.Off, min(p.Filesz, maxInterpreter))
			if err != nil {
				return err
			}
			if len(path) < 2 || path[0] != '/' || bytes.IndexByte(path, 0) != int(p.Filesz)-1 {
				return in.errorf("is damaged: program header %d does not hold the name of a loader", i)
			}
		case kind == elf.PT_DYNAMIC:
			if err := in.checkPart("the dynamic section", p, in.flagsFor(p)); err != nil {
				return err
			}
			if p.Vaddr%8 != 0 {
				return in.errorf("is damaged: its dynamic section is at the odd address %#x", p.Vaddr)
			}
		case kind == elf.PT_GNU_EH_FRAME, kind == elf.PT_NOTE, kind == elf.PT_GNU_PROPERTY:
			// The loader reads as much as they say there is in memory.
			if err := in.checkPart("the contents of program header "+itoa(i), p, elf.PF_R); err != nil {
				return err
			}
		case kind == elf.PT_PHDR:
			if err := in.checkPart("the program header table", p, elf.PF_R); err != nil {
				return err
			}
			if p.Off != table || p.Filesz != uint64(len(headers))*programHeaderSize {
				return in.errorf("is damaged: its program headers are not where they say they are")
			}
		case kind == elf.PT_GNU_RELRO:
			if err := in.checkProtected(p); err != nil {
				return err
			}
		case kind == elf.PT_TLS:
			if err := in.checkThreadMemory(p); err != nil {
				return err
			}
		case p.Type == uint32(elf.PT_SHLIB), p.Type < lowestOSType, p.Type > highestType:
			return in.errorf("is damaged: program header %d is of type %#x, which does not exist", i, p.Type)
		}
	}
	return nil
}

// flagsFor tells how the segment of the dynamic section must be mapped: the loader writes to it, unless its own
// header says that it cannot be written (lld -z rodynamic).
func (in *inspector) flagsFor(p *elf.Prog64) elf.ProgFlag {
	return elf.ProgFlag(p.Flags)&elf.PF_W | elf.PF_R
}

// checkPart checks that a program header's bytes are those that its address means, in a segment with flags.
func (in *inspector) checkPart(what string, p *elf.Prog64, flags elf.ProgFlag) error {
	if p.Filesz == 0 && p.Memsz == 0 {
		return nil
	}
	length := max(p.Filesz, p.Memsz)
	s := in.segmentOf(p.Vaddr, length)
	if s == nil || p.Vaddr-s.address+length > s.size {
		return in.errorf(outsideOfIt, what, length, p.Vaddr)
	}
	if at := s.offset + (p.Vaddr - s.address); at != p.Off {
		return in.errorf(misplacedPart, what, p.Off, p.Vaddr, at)
	}
	if s.flags&flags != flags {
		return in.errorf("is damaged: %s cannot be written", what)
	}
	return nil
}

// checkProtected checks the part that the loader makes read-only once it has written to it.
func (in *inspector) checkProtected(p *elf.Prog64) error {
	const what = "the part protected after relocation"
	if p.Memsz == 0 {
		return nil
	}
	s := in.segmentOf(p.Vaddr, 1)
	end, ok := add(p.Vaddr, p.Memsz)
	// Some linkers round it up to a page, beyond the segment.
	if s == nil || !ok || p.Filesz > p.Memsz || end > roundUp(s.end(), max(s.align, pageSize)) {
		return in.errorf(outsideOfIt, what, p.Memsz, p.Vaddr)
	}
	if at := s.offset + (p.Vaddr - s.address); at != p.Off {
		return in.errorf(misplacedPart, what, p.Off, p.Vaddr, at)
	}
	if s.flags&elf.PF_W == 0 {
		return in.errorf("is damaged: %s lies in a segment that cannot be written", what)
	}
	// Variables without contents lie last. A linker protects them with the whole segment or not at all.
	if last := end &^ (pageSize - 1); last > roundUp(s.address+s.size, pageSize) && end < s.end() {
		return in.errorf("is damaged: %s reaches into its variables", what)
	}
	in.protected = segment{address: p.Vaddr &^ (pageSize - 1), memory: end&^(pageSize-1) - p.Vaddr&^(pageSize-1)}
	return nil
}

// checkThreadMemory checks the initial contents of thread-local variables.
func (in *inspector) checkThreadMemory(p *elf.Prog64) error {
	const what = "the thread-local memory"
	switch {
	case p.Filesz > p.Memsz:
		return in.errorf("is damaged: %s is larger in the file than in memory", what)
	case p.Memsz > maxThreadMemory:
		return in.errorf("is damaged: %s has %d bytes, more than %d", what, p.Memsz, maxThreadMemory)
	case p.Align > 1<<16 || p.Align&(p.Align-1) != 0:
		return in.errorf("is damaged: %s is aligned to %d bytes", what, p.Align)
	}
	in.threadMemory, in.hasThreadMemory = p.Memsz, true
	if p.Filesz == 0 {
		return nil
	}
	initial := *p
	initial.Memsz = p.Filesz
	return in.checkPart(what, &initial, elf.PF_R)
}

// segmentOf returns the segment that holds length bytes of memory from address, or nil.
func (in *inspector) segmentOf(address, length uint64) *segment {
	at, found := slices.BinarySearchFunc(in.segments, address, func(s segment, address uint64) int {
		switch {
		case s.address > address:
			return 1
		case s.address == address:
			return 0
		}
		return -1
	})
	if !found {
		at--
	}
	if at < 0 {
		return nil
	}
	s := &in.segments[at]
	if into := address - s.address; into > s.memory || length > s.memory-into {
		return nil
	}
	return s
}

// runnable reports whether address can be code.
func (in *inspector) runnable(address uint64) bool {
	s := in.segmentOf(address, 1)
	return s != nil && s.flags&elf.PF_X != 0
}

// writable reports whether the loader can write length bytes to address.
func (in *inspector) writable(address, length uint64) bool {
	s := in.segmentOf(address, length)
	return s != nil && (s.flags&elf.PF_W != 0 || in.dynamic.textRelocations())
}

// inImage reports whether address lies in the image, one past its end included.
func (in *inspector) inImage(address uint64) bool {
	return address >= in.segments[0].address&^(pageSize-1) && address <= roundUp(in.segments[len(in.segments)-1].end(), pageSize)
}

// roundUp rounds n, which is far below the end of the address space, up to a multiple of a power of two.
func roundUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }
