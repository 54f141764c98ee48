package dl

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// sampleSpec uses every part the builder can make.
func sampleSpec() elfSpec {
	return elfSpec{
		machine:   elf.EM_X86_64,
		exported:  []string{"predict", "get_num_feature"},
		undefined: []string{"powf", "expf", "malloc", "unversioned"},
		needs: []specNeed{
			{library: "libm.so.6", versions: []string{"GLIBC_2.27", "GLIBC_2.29"}},
			{library: "libc.so.6", versions: []string{"GLIBC_2.2.5"}},
		},
		needed:   []string{"libm.so.6", "libc.so.6"},
		soname:   "compiled.so",
		x86Level: 3,
	}
}

func inspectBytes(file []byte) (*Object, error) {
	return inspect(bytes.NewReader(file), int64(len(file)), "compiled.so")
}

func TestInspectReadsEverything(t *testing.T) {
	for _, gnuHash := range []bool{false, true} {
		spec := sampleSpec()
		spec.gnuHash = gnuHash
		o, err := inspectBytes(spec.build())
		if err != nil {
			t.Fatal(err)
		}
		if o.Machine != elf.EM_X86_64 || o.Class != elf.ELFCLASS64 || o.Type != elf.ET_DYN || o.PIE {
			t.Errorf("identity: %+v", o)
		}
		if o.Soname != "compiled.so" || !slices.Equal(o.Needed, []string{"libm.so.6", "libc.so.6"}) {
			t.Errorf("soname %q, needed %q", o.Soname, o.Needed)
		}
		if want := []string{"get_num_feature", "predict"}; !slices.Equal(o.Exported, want) {
			t.Errorf("exported %q, want %q", o.Exported, want)
		}
		if want := []string{"expf", "malloc", "powf", "unversioned"}; !slices.Equal(o.Undefined, want) {
			t.Errorf("undefined %q, want %q", o.Undefined, want)
		}
		if o.Glibc() != "2.29" || o.X86Level != 3 {
			t.Errorf("glibc %q, level %d", o.Glibc(), o.X86Level)
		}
		if len(o.Versions) != 3 || o.Versions[1].Library != "libm.so.6" || o.Versions[1].Version != "GLIBC_2.29" ||
			!slices.Equal(o.Versions[1].Symbols, []string{"expf"}) {
			t.Errorf("versions %+v", o.Versions)
		}
	}
}

func TestCheckHostAndRequireSayWhy(t *testing.T) {
	host := Host{Machine: elf.EM_X86_64, Glibc: "2.36", X86Level: 3}
	check := func(o *Object) error { return o.CheckHost(host) }
	cases := []struct {
		name  string
		alter func(*elfSpec)
		check func(*Object) error
		want  string // empty: no error
	}{
		{"fits", func(*elfSpec) {}, check, ""},
		{"machine", func(s *elfSpec) { s.machine = elf.EM_AARCH64 }, check, "compiled.so is built for aarch64, this host is x86-64"},
		{"level", func(s *elfSpec) { s.x86Level = 4 }, check, "compiled.so needs an x86-64-v4 processor, this host has x86-64-v3"},
		{"glibc", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_2.99" }, check, "compiled.so needs glibc 2.99 (for expf), this host has 2.36"},
		{"glibc of the same release", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_2.36" }, check, ""},
		{"glibc of a patch release", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_2.36.1" }, check, "compiled.so needs glibc 2.36.1 (for expf), this host has 2.36"},
		{"two digits are a number", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_2.4" }, check, ""},
		{"weak version", func(s *elfSpec) { s.needs[0].versions[1], s.needs[0].weak = "GLIBC_2.99", true }, check, ""},
		{"not glibc's version", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBCXX_3.99" }, check, ""},
		{"private version", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_PRIVATE" }, check, ""},
		{"packed relocations", func(s *elfSpec) { s.needs[0].versions[1] = "GLIBC_ABI_DT_RELR" },
			func(o *Object) error { return o.CheckHost(Host{Machine: elf.EM_X86_64, Glibc: "2.31"}) },
			"compiled.so needs glibc 2.36 (for expf), this host has 2.31"},
		{"no glibc", func(*elfSpec) {}, func(o *Object) error { return o.CheckHost(Host{Machine: elf.EM_X86_64}) },
			"compiled.so needs glibc 2.29 (for expf), this process runs without glibc"},
		{"program", func(s *elfSpec) { s.pie = true }, check, "compiled.so is an executable program, not a shared library"},
		{"all there", func(*elfSpec) {}, func(o *Object) error { return o.Require("predict", "get_num_feature") }, ""},
		{"some missing", func(*elfSpec) {}, func(o *Object) error { return o.Require("predict", "get_num_class", "powf") },
			"compiled.so does not export get_num_class, powf"},
		{"one of two", func(*elfSpec) {}, func(o *Object) error { return o.RequireAny("predict_multiclass", "predict") }, ""},
		{"neither", func(s *elfSpec) { s.exported = nil }, func(o *Object) error { return o.RequireAny("predict", "predict_multiclass") },
			"compiled.so does not export predict or predict_multiclass"},
		{"none of three", func(s *elfSpec) { s.exported = nil }, func(o *Object) error { return o.RequireAny("a", "b", "c") },
			"compiled.so does not export a, b or c"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, gnuHash := range []bool{false, true} {
				spec := sampleSpec()
				spec.gnuHash = gnuHash
				c.alter(&spec)
				o, err := inspectBytes(spec.build())
				if err != nil {
					t.Fatal(err)
				}
				expectProblem(t, c.check(o), c.want)
			}
		})
	}
}

func expectProblem(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	var problem *ObjectError
	if !errors.As(err, &problem) {
		t.Fatalf("got %v (%T), want the ObjectError %q", err, err, want)
	}
	if problem.Error() != want {
		t.Errorf("got  %s\nwant %s", problem, want)
	}
}

func TestInspectNamesDamage(t *testing.T) {
	le := binary.LittleEndian
	good := sampleSpec().build()
	program := func(i int) int { return headerSize + i*programHeaderSize }
	cases := []struct {
		name   string
		damage func([]byte) []byte
		want   string
	}{
		{"empty", func([]byte) []byte { return nil }, "is empty"},
		{"text", func([]byte) []byte { return []byte("#!/bin/sh\necho no library at all\n") }, "is not an ELF library"},
		{"magic only", func(b []byte) []byte { return b[:4] }, "is truncated: the ELF header ends at byte 64, the file has 4 bytes"},
		{"half a header", func(b []byte) []byte { return b[:40] }, "is truncated: the ELF header ends at byte 64, the file has 40 bytes"},
		{"no program headers left", func(b []byte) []byte { return b[:100] }, "is truncated: the program header table ends at byte 232, the file has 100 bytes"},
		{"tail missing", func(b []byte) []byte { return b[:len(b)-1] }, "is truncated: segment 0 ends at byte"},
		{"section headers missing", func(b []byte) []byte { le.PutUint64(b[40:], uint64(len(b))); le.PutUint16(b[60:], 9); return b },
			"is truncated: the section header table ends at byte"},
		{"class", func(b []byte) []byte { b[elf.EI_CLASS] = 7; return b }, "is damaged: class 7 does not exist"},
		{"byte order", func(b []byte) []byte { b[elf.EI_DATA] = 7; return b }, "is damaged: byte order 7 does not exist"},
		{"no program header", func(b []byte) []byte { le.PutUint16(b[56:], 0); return b }, "is damaged: it has no program headers"},
		{"65535 program headers", func(b []byte) []byte { le.PutUint16(b[56:], 65535); return b }, "is damaged: it has 65535 program headers, more than 256"},
		{"size of a program header", func(b []byte) []byte { le.PutUint16(b[54:], 1); return b }, "is damaged: its program headers are 1 bytes each, not 56"},
		{"program headers far away", func(b []byte) []byte { le.PutUint64(b[32:], 1<<64-8); return b }, "is damaged: the program header table lies at byte"},
		{"segment overflows", func(b []byte) []byte { le.PutUint64(b[program(0)+32:], 1<<64-1); return b }, "is truncated: segment 0 ends at byte"},
		{"segment shrinks in memory", func(b []byte) []byte { le.PutUint64(b[program(0)+40:], 1); return b }, "is damaged: segment 0 is larger in the file than in memory"},
		{"segment beyond memory", func(b []byte) []byte { le.PutUint64(b[program(0)+16:], 1<<64-8); return b }, "is damaged: segment 0 reaches beyond the address space"},
		{"no dynamic section", func(b []byte) []byte { le.PutUint32(b[program(1):], uint32(elf.PT_NULL)); return b }, "is damaged: it has no dynamic section"},
		{"empty dynamic section", func(b []byte) []byte { le.PutUint64(b[program(1)+32:], 0); return b }, "is damaged: its dynamic section names no symbols"},
		{"huge dynamic section", func(b []byte) []byte { le.PutUint64(b[program(1)+32:], 1<<40); return b }, "is damaged: its dynamic section has"},
		{"huge note", func(b []byte) []byte { le.PutUint64(b[program(2)+32:], 1<<40); return b }, "is damaged: its property note has"},
		{"symbols", setDynamic(elf.DT_SYMTAB, 1<<50), "is damaged: the symbol table (address 0x4000000000000) lies outside its segments"},
		{"symbol size", setDynamic(elf.DT_SYMENT, 1), "is damaged: its symbols are 1 bytes each, not 24"},
		{"strings", setDynamic(elf.DT_STRTAB, 1<<50), "is damaged: the string table (address 0x4000000000000) lies outside its segments"},
		{"huge strings", setDynamic(elf.DT_STRSZ, 1<<50), "is damaged: its string table has 1125899906842624 bytes, more than"},
		{"no strings", setDynamic(elf.DT_STRSZ, 0), "is damaged: a name lies outside its string table"},
		{"strings beyond the segment", setDynamic(elf.DT_STRSZ, 4096), "does not fit its segment"},
		{"hash", setDynamic(elf.DT_HASH, 1<<50), "is damaged: the symbol hash table (address 0x4000000000000) lies outside its segments"},
		{"no hash", setDynamic(elf.DT_HASH, 0), "is damaged: it has no symbol hash table"},
		{"hash elsewhere", setDynamic(elf.DT_HASH, 1), "is damaged: its symbol hash table has"}, // takes bytes of the ELF header for a count
		{"versions", setDynamic(elf.DT_VERSYM, 1<<50), "is damaged: the symbol version table (address"},
		{"needs", setDynamic(elf.DT_VERNEED, 1<<50), "is damaged: the version table (address"},
		{"name", setDynamic(elf.DT_SONAME, 1<<50), "is damaged: a name lies outside its string table"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o, err := inspectBytes(c.damage(bytes.Clone(good)))
			if o != nil {
				t.Fatalf("got an object together with %v", err)
			}
			var problem *ObjectError
			if !errors.As(err, &problem) {
				t.Fatalf("got %v, want an ObjectError", err)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

// setDynamic returns a damage that overwrites the value of one entry of the dynamic section.
func setDynamic(tag elf.DynTag, value uint64) func([]byte) []byte {
	return func(b []byte) []byte {
		le := binary.LittleEndian
		at := le.Uint64(b[headerSize+programHeaderSize+8:])
		for ; ; at += dynamicEntrySize {
			switch elf.DynTag(le.Uint64(b[at:])) {
			case tag:
				le.PutUint64(b[at+8:], value)
				return b
			case elf.DT_NULL:
				panic("BUG: the sample has no " + tag.String())
			}
		}
	}
}

// Every proper prefix of a library is refused: the loader would map it and die on the first missing page.
func TestInspectRefusesEveryTruncation(t *testing.T) {
	good := sampleSpec().build()
	for n := range good {
		if o, err := inspectBytes(good[:n]); err == nil || o != nil {
			t.Fatalf("%d of %d bytes were accepted", n, len(good))
		}
	}
}

func TestInspectOtherKinds(t *testing.T) {
	host := Host{Machine: elf.EM_X86_64, Glibc: "2.36"}
	cases := []struct {
		name   string
		change func([]byte)
		want   string
	}{
		{"32 bit arm", func(b []byte) { b[elf.EI_CLASS] = 1; b[18] = byte(elf.EM_ARM) }, "compiled.so is built for arm (32 bit), this host is x86-64"},
		{"32 bit of this machine", func(b []byte) { b[elf.EI_CLASS] = 1 }, "compiled.so is a 32 bit library, this process is 64 bit"},
		{"big-endian", func(b []byte) { b[elf.EI_DATA] = 2; b[16], b[17] = b[17], b[16]; b[18], b[19] = b[19], b[18] }, "compiled.so is big-endian, this process is little-endian"},
		{"object file", func(b []byte) { b[16] = byte(elf.ET_REL) }, "compiled.so is an object file that was never linked, not a shared library"},
		{"program", func(b []byte) { b[16] = byte(elf.ET_EXEC) }, "compiled.so is an executable program, not a shared library"},
		{"core", func(b []byte) { b[16] = byte(elf.ET_CORE) }, "compiled.so is not a shared library (ELF type 4)"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := sampleSpec().build()
			c.change(file)
			o, err := inspectBytes(file)
			if err != nil {
				t.Fatal(err)
			}
			expectProblem(t, o.CheckHost(host), c.want)
		})
	}
}

func TestInspectKeepsReadErrors(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := Inspect(failingReader{broken}, 1000)
	var problem *ObjectError
	if !errors.Is(err, broken) || errors.As(err, &problem) {
		t.Errorf("got %v, want the reader's error and no verdict about the file", err)
	}
	// A file that is shorter than announced is a verdict.
	good := sampleSpec().build()
	_, err = Inspect(bytes.NewReader(good[:300]), int64(len(good)))
	if !errors.As(err, &problem) || !strings.Contains(err.Error(), "is truncated") {
		t.Errorf("got %v, want truncation", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

// A real library of the host, judged by the section headers through debug/elf and by the loader's tables through
// Inspect, gives the same answer.
func TestInspectAgreesWithDebugELF(t *testing.T) {
	path := cCompile(t, "agree", `
		#include <math.h>
		#include <stdlib.h>
		double used(double x) { return pow(x, 2) + exp(x) + *(double *)malloc(8); }
		__attribute__((visibility("hidden"))) int hidden(void) { return 1; }
		int table[4] = {1};
		extern void elsewhere(void) __attribute__((weak));
		int calls(void) { if (elsewhere) elsewhere(); return hidden(); }
	`, "-lm")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o, err := InspectFile(f, filepath.Base(path))
	if err != nil {
		t.Fatal(err)
	}
	reference, err := elf.NewFile(f)
	if err != nil {
		t.Fatal(err)
	}
	symbols, err := reference.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	var exported, undefined []string
	for _, s := range symbols {
		switch bind := elf.ST_BIND(s.Info); {
		case s.Section != elf.SHN_UNDEF && bind != elf.STB_LOCAL:
			exported = append(exported, s.Name)
		case bind == elf.STB_GLOBAL:
			undefined = append(undefined, s.Name)
		}
	}
	slices.Sort(exported)
	slices.Sort(undefined)
	needed, err := reference.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(o.Exported, exported) || !slices.Equal(o.Undefined, undefined) || !slices.Equal(o.Needed, needed) {
		t.Errorf("got  %q %q %q\nwant %q %q %q", o.Exported, o.Undefined, o.Needed, exported, undefined, needed)
	}
	if !o.Exports("used") || !o.Exports("table") || o.Exports("hidden") || o.Exports("pow") {
		t.Errorf("exported: %q", o.Exported)
	}
}

// Two million symbols that share a few long names are a file of 50 MB, and would be tens of gigabytes to read and to sort.
func TestInspectBoundsSharedNames(t *testing.T) {
	const (
		longest   = maxSymbolName - 1
		symbolsAt = 4096
		stringsAt = symbolsAt + maxSymbols*symbolSize
		hashAt    = stringsAt + maxSymbolName
		dynamicAt = hashAt + 16 + maxSymbols*4
		entries   = 5
		size      = dynamicAt + entries*dynamicEntrySize
	)
	le := binary.LittleEndian
	file := make([]byte, size)
	copy(file[stringsAt+1:], bytes.Repeat([]byte("a"), longest-1))
	for i := 1; i < maxSymbols; i++ {
		entry := file[symbolsAt+i*symbolSize:]
		le.PutUint32(entry, uint32(1+i%400))
		entry[4] = elf.ST_INFO(elf.STB_GLOBAL, elf.STT_FUNC)
		le.PutUint16(entry[6:], 1)
	}
	le.PutUint32(file[hashAt:], 1)
	le.PutUint32(file[hashAt+4:], maxSymbols)
	copy(file[dynamicAt:], encode([entries]elf.Dyn64{
		{Tag: int64(elf.DT_STRTAB), Val: stringsAt}, {Tag: int64(elf.DT_STRSZ), Val: maxSymbolName},
		{Tag: int64(elf.DT_SYMTAB), Val: symbolsAt}, {Tag: int64(elf.DT_HASH), Val: hashAt},
	}))
	header := elf.Header64{Type: uint16(elf.ET_DYN), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: headerSize, Phentsize: programHeaderSize, Phnum: 2}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB)
	copy(file, encode(header))
	copy(file[headerSize:], encode([]elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Filesz: size, Memsz: size, Align: pageSize},
		{Type: uint32(elf.PT_DYNAMIC), Off: dynamicAt, Vaddr: dynamicAt, Filesz: entries * dynamicEntrySize},
	}))
	o, err := inspectBytes(file)
	if o != nil {
		t.Error("it was accepted")
	}
	expectProblem(t, err, "compiled.so is damaged: the names of its symbols have more than 67108864 bytes")
}

func TestInspectFileRefusesDirectories(t *testing.T) {
	f, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = InspectFile(f, "compiled.so")
	expectProblem(t, err, "compiled.so is not a regular file")
}

// FuzzInspect: whatever the bytes, Inspect ends, returns an object or an error and never both, and what an object says
// comes from the file.
func FuzzInspect(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte(elf.ELFMAG))
	full := sampleSpec()
	f.Add(full.build())
	full.gnuHash = true
	f.Add(full.build())
	f.Add(elfSpec{machine: elf.EM_AARCH64, exported: []string{"predict"}}.build())
	f.Add(elfSpec{machine: elf.EM_X86_64, gnuHash: true, pie: true}.build())
	f.Add(elfSpec{machine: elf.EM_X86_64, exported: []string{"x"}}.build()[:232])
	host := Host{Machine: elf.EM_X86_64, Glibc: "2.36", X86Level: 3}
	f.Fuzz(func(t *testing.T, file []byte) {
		o, err := Inspect(bytes.NewReader(file), int64(len(file)))
		if (o == nil) == (err == nil) {
			t.Fatalf("object %v together with error %v", o, err)
		}
		if err != nil {
			var problem *ObjectError
			if !errors.As(err, &problem) {
				t.Fatalf("the reader never fails, yet the error is %v", err)
			}
			return
		}
		if !slices.IsSorted(o.Exported) || !slices.IsSorted(o.Undefined) {
			t.Fatal("names are not sorted")
		}
		if most := len(file) / symbolSize; len(o.Exported)+len(o.Undefined) > most {
			t.Fatalf("%d symbols in %d bytes", len(o.Exported)+len(o.Undefined), len(file))
		}
		for _, name := range slices.Concat(o.Exported, o.Undefined, o.Needed) {
			if !bytes.Contains(file, []byte(name)) {
				t.Fatalf("name %q is not in the file", name)
			}
			if len(name) > maxSymbolName {
				t.Fatalf("a name of %d bytes", len(name))
			}
		}
		if len(o.Exported) > 0 {
			if err := o.Require(o.Exported...); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.CheckHost(host); err == nil && o.Machine != host.Machine {
			t.Fatal("a foreign library passed")
		}
		// The same bytes give the same verdict, and one byte fewer never reads beyond the end.
		if n := len(file) - 1; n >= 0 {
			if o, err := Inspect(io.NewSectionReader(bytes.NewReader(file), 0, int64(n)), int64(n)); (o == nil) == (err == nil) {
				t.Fatalf("object %v together with error %v", o, err)
			}
		}
	})
}
