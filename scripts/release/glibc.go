package main

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// glibc prints the oldest GNU C library that has all that the programs ask of one, such
// as 2.34: what a package of them must depend on.
func glibc(stdout io.Writer, programs []string) error {
	var newest [2]int
	for _, program := range programs {
		f, err := elf.Open(program)
		if err != nil {
			return fmt.Errorf("reading %s: %w", program, err)
		}
		symbols, err := f.ImportedSymbols()
		_ = f.Close() // nothing was written
		if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
			return fmt.Errorf("reading the symbols of %s: %w", program, err)
		}
		for _, symbol := range symbols {
			text, is := strings.CutPrefix(symbol.Version, "GLIBC_")
			if !is {
				continue
			}
			major, minor, _ := strings.Cut(text, ".")
			minor, _, _ = strings.Cut(minor, ".") // 2.2.5
			var v [2]int
			if v[0], err = strconv.Atoi(major); err == nil {
				v[1], err = strconv.Atoi(minor)
			}
			if err != nil {
				return fmt.Errorf("%s wants version %s of a symbol, which is no version of the C library that can be compared", program, symbol.Version)
			}
			if v[0] > newest[0] || v[0] == newest[0] && v[1] > newest[1] {
				newest = v
			}
		}
	}
	if newest[0] == 0 {
		return fmt.Errorf("%s ask nothing of a GNU C library", strings.Join(programs, " and "))
	}
	_, err := fmt.Fprintf(stdout, "%d.%d\n", newest[0], newest[1])
	return err
}
