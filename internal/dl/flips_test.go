//go:build cgo && linux

package dl

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// flipChild, set to the path of a library, turns the test binary into a process that loads what its standard input
// asks for: lines of byte and bit to flip, each answered by a line when the library has been loaded and unloaded.
const flipChild = "PICKET_DL_FLIP_CHILD"

func runFlipChild(path string) {
	good, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	victim, err := os.Create(path + "." + strconv.Itoa(os.Getpid()))
	if err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var at, bit int
		if _, err := fmt.Sscan(lines.Text(), &at, &bit); err != nil {
			panic(err)
		}
		damaged := bytes.Clone(good)
		damaged[at] ^= 1 << bit
		if _, err := victim.WriteAt(damaged, 0); err != nil {
			panic(err)
		}
		if l, err := OpenFile(victim, "x.so"); err == nil {
			for _, symbol := range []string{"predict", "get_num_feature", "absent"} {
				l.Lookup(symbol)
			}
			l.Close()
		}
		fmt.Println("survived")
	}
	if err := os.Remove(victim.Name()); err != nil {
		panic(err)
	}
	os.Exit(0)
}

// Every single flipped bit in what the loader goes by is either refused or does no harm in the loader.
func TestFlippedBitsAreRefusedOrHarmless(t *testing.T) {
	const source = `
		#include <math.h>
		#include <stdlib.h>
		static double table[2000] = {1, 2, 3};
		static double scratch[3000];
		static const char *const names[] = {"one", "two", "three"};
		static int started;
		__attribute__((constructor)) static void start(void) { started = 1; scratch[2999] = table[1999]; }
		__attribute__((destructor)) static void stop(void) { started = 0; table[0] = scratch[0]; }
		double predict(const double *x) { return exp(x[0]) + table[started] + scratch[1] + *(double *)malloc(8); }
		const char *get_num_feature(int i) { return names[i % 3]; }
	`
	host := ThisHost()
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"gnu", []string{"-lm"}},
		{"both", []string{"-lm", "-Wl,--hash-style=both", "-Wl,-z,now", "-s"}},
		{"sysv", []string{"-lm", "-Wl,--hash-style=sysv", "-Wl,-z,norelro", "-Wl,-z,noseparate-code"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := cCompile(t, c.name, source, c.flags...)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			check := func(file []byte) error {
				return ForHost("x.so", host, "predict")(bytes.NewReader(file), int64(len(file)))
			}
			if err := check(good); err != nil {
				t.Fatal(err)
			}
			var accepted []flip
			refused := 0
			for _, f := range flipsOf(t, good) {
				good[f.at] ^= 1 << f.bit
				if check(good) == nil {
					accepted = append(accepted, f)
				} else {
					refused++
				}
				good[f.at] ^= 1 << f.bit
			}
			if refused == 0 || len(accepted) == 0 {
				t.Fatalf("%d flips refused, %d accepted", refused, len(accepted))
			}
			deaths := surviveFlips(t, path, accepted)
			for _, f := range deaths {
				t.Errorf("a library with bit %d of byte %#x (%s) flipped passes and ends the process", f.bit, f.at, f.part)
			}
			t.Logf("%d flips refused, %d loaded, %d deaths", refused, len(accepted), len(deaths))
		})
	}
}

type flip struct {
	at, bit int
	part    string
}

// flipsOf lists every bit of the headers and the dynamic section, and a sample of the tables that it names. It leaves
// out what decides which code runs, which is the addends of relocations in the tables of constructors: no check can tell
// one place in the code from another, there or in the code itself.
func flipsOf(t *testing.T, file []byte) (flips []flip) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	take := func(part string, from, size, step int) {
		for bit := 0; bit < size*8; bit += step {
			flips = append(flips, flip{from + bit/8, bit % 8, part})
		}
	}
	take("ELF header", 0, headerSize, 1)
	take("program headers", headerSize, len(f.Progs)*programHeaderSize, 1)
	constructors := func(address uint64) bool {
		for _, name := range []string{".init_array", ".fini_array"} {
			if s := f.Section(name); s != nil && address >= s.Addr && address < s.Addr+s.Size {
				return true
			}
		}
		return false
	}
	for _, s := range f.Sections {
		if s.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		switch s.Type {
		case elf.SHT_DYNAMIC:
			take(s.Name, int(s.Offset), int(s.Size), 1)
		case elf.SHT_DYNSYM, elf.SHT_HASH, elf.SHT_GNU_HASH, elf.SHT_GNU_VERSYM, elf.SHT_GNU_VERNEED, elf.SHT_STRTAB:
			take(s.Name, int(s.Offset), int(s.Size), 3)
		case elf.SHT_RELA:
			for at := s.Offset; at < s.Offset+s.Size; at += relocationSize {
				size := relocationSize
				if constructors(binary.LittleEndian.Uint64(file[at:])) {
					size = 16
				}
				take(s.Name, int(at), size, 1)
			}
		}
	}
	return flips
}

// surviveFlips loads the library once per flip in processes of their own and returns the flips that ended one.
func surviveFlips(t *testing.T, path string, flips []flip) (deaths []flip) {
	t.Helper()
	for len(flips) > 0 && len(deaths) < 50 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), flipChild+"="+path, "GOTRACEBACK=none")
		var orders strings.Builder
		for _, f := range flips {
			fmt.Fprintln(&orders, f.at, f.bit)
		}
		child.Stdin, child.Stderr = strings.NewReader(orders.String()), io.Discard
		out, err := child.Output()
		survived := bytes.Count(out, []byte("survived"))
		if err == nil && survived == len(flips) {
			return deaths
		}
		if survived >= len(flips) {
			t.Fatalf("%s: the process failed at its end: %v", filepath.Base(path), err)
		}
		deaths = append(deaths, flips[survived])
		flips = flips[survived+1:]
	}
	return deaths
}
