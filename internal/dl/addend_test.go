package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// entriesOf reads a library for aarch64 and returns the places of its entries that fill the global offset table, by their kind, and what says whether it
// passes.
func entriesOf(t *testing.T) (library []byte, entries map[elf.R_AARCH64][]uint64, check func() error) {
	t.Helper()
	library, err := os.ReadFile("../testkit/testdata/tvm/mlp_b1-a64/compiled.so")
	if err != nil {
		t.Fatal(err)
	}
	check = func() error {
		return ForHost("compiled.so", Host{Machine: elf.EM_AARCH64, Glibc: "2.36"})(bytes.NewReader(library), int64(len(library)))
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(library))
	if err != nil {
		t.Fatal(err)
	}
	entries = map[elf.R_AARCH64][]uint64{}
	for _, name := range []string{".rela.dyn", ".rela.plt"} {
		section := file.Section(name)
		for at := section.Offset; at < section.Offset+section.Size; at += relocationSize {
			kind := elf.R_AARCH64(binary.LittleEndian.Uint32(library[at+8:]))
			entries[kind] = append(entries[kind], at)
		}
	}
	if len(entries[elf.R_AARCH64_GLOB_DAT]) == 0 || len(entries[elf.R_AARCH64_JUMP_SLOT]) == 0 {
		t.Fatalf("the library has %v", entries)
	}
	return library, entries, check
}

// On aarch64 the loader adds the addend to what it puts into the global offset table. Linkers leave none, and one that is there
// leads calls astray: the code that starts a library would take a function for present that is not.
func TestEntriesBesideASymbolAreRefused(t *testing.T) {
	good, entries, check := entriesOf(t)
	for _, kind := range []elf.R_AARCH64{elf.R_AARCH64_GLOB_DAT, elf.R_AARCH64_JUMP_SLOT} {
		for _, at := range entries[kind] {
			good[at+16] ^= 8
			if err := check(); err == nil || !strings.Contains(err.Error(), "bytes after a symbol") {
				t.Errorf("%v at %#x with an addend: %v", kind, at, err)
			}
			good[at+16] ^= 8
		}
	}
}

// On aarch64 the code that starts and ends a library calls by the global offset table, so that one flipped bit in how the loader fills it ends the process.
func TestDamagedCallsAreRefused(t *testing.T) {
	good, entries, check := entriesOf(t)
	refused := func(what string, at uint64, bit int) {
		t.Helper()
		good[at+uint64(bit/8)] ^= 1 << (bit % 8)
		if check() == nil {
			t.Errorf("%s at %#x with bit %d flipped passes", what, at, bit)
		}
		good[at+uint64(bit/8)] ^= 1 << (bit % 8)
	}
	file, err := elf.NewFile(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	about := func(at uint64) string { return symbols[binary.LittleEndian.Uint32(good[at+12:])-1].Name }
	tried := 0
	for _, at := range entries[elf.R_AARCH64_JUMP_SLOT] {
		for bit := range 64 {
			refused("the address of an entry to call by", at, bit)
		}
		for bit := range 32 {
			refused("the type of an entry to call by", at+8, bit)
			if about(at) == "__cxa_finalize" {
				refused("the function called at the end", at+12, bit)
				tried++
			}
		}
	}
	for _, at := range entries[elf.R_AARCH64_GLOB_DAT] {
		if about(at) == profilingStart {
			for bit := range 32 {
				refused("the entry that tells whether "+profilingStart+" is there", at+12, bit)
				tried++
			}
		}
	}
	if tried != 2*32 {
		t.Errorf("%d bits of symbols were tried, want those of two", tried)
	}
}
