package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"strings"
	"testing"
)

// On aarch64 the loader adds the addend to what it puts into the global offset table. Linkers leave none, and one that is there
// leads calls astray: the code that starts a library would take a function for present that is not.
func TestEntriesBesideASymbolAreRefused(t *testing.T) {
	good, err := os.ReadFile("../testkit/testdata/tvm/mlp_b1-a64/compiled.so")
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		return ForHost("compiled.so", Host{Machine: elf.EM_AARCH64, Glibc: "2.36"})(bytes.NewReader(good), int64(len(good)))
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	file, err := elf.NewFile(bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	tried := map[elf.R_AARCH64]int{}
	for _, name := range []string{".rela.dyn", ".rela.plt"} {
		section := file.Section(name)
		for at := section.Offset; at < section.Offset+section.Size; at += relocationSize {
			kind := elf.R_AARCH64(binary.LittleEndian.Uint32(good[at+8:]))
			if kind != elf.R_AARCH64_GLOB_DAT && kind != elf.R_AARCH64_JUMP_SLOT {
				continue
			}
			good[at+16] ^= 8
			if err := check(); err == nil || !strings.Contains(err.Error(), "bytes after a symbol") {
				t.Errorf("%v at %#x with an addend: %v", kind, at, err)
			}
			good[at+16] ^= 8
			tried[kind]++
		}
	}
	if tried[elf.R_AARCH64_GLOB_DAT] == 0 || tried[elf.R_AARCH64_JUMP_SLOT] == 0 {
		t.Errorf("the library has %v", tried)
	}
}
