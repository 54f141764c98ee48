package hw

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// glibcPaths are where distributions keep the C library. When the process has
// one mapped, that one is asked instead.
var glibcPaths = []string{
	"lib/x86_64-linux-gnu/libc.so.6",
	"lib/aarch64-linux-gnu/libc.so.6",
	"lib64/libc.so.6",
	"usr/lib64/libc.so.6",
	"usr/lib/libc.so.6",
	"lib/libc.so.6",
}

// glibcBanner is the line glibc keeps in its read-only data since the 1990s.
var glibcBanner = regexp.MustCompile(`GNU C Library[^\n\x00]{0,200}release version ([0-9]+\.[0-9]+(?:\.[0-9]+)?)`)

// maxRodata bounds what is read of the library; glibc's is about 400 KB.
const maxRodata = 16 << 20

// glibcVersion finds the C library and reads its version without loading it:
// a pure Go binary has no C library to ask, and one that is linked statically
// would answer for itself and not for what artifacts meet.
func glibcVersion(root fs.FS) (version, reason string) {
	paths := glibcPaths
	if mapped := mappedGlibc(root); mapped != "" {
		paths = slices.Insert(slices.Clone(paths), 0, mapped)
	}
	for _, p := range paths {
		v, err := readGlibc(root, p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			reason = "/" + p + " is there but its version cannot be read: " + err.Error()
			continue
		}
		return v, ""
	}
	if reason == "" {
		reason = "no glibc was found: libc.so.6 is in none of the usual directories, so native artifacts cannot be opened here"
	}
	return "", reason
}

// mappedGlibc returns the path of the libc.so.6 this process runs with.
func mappedGlibc(root fs.FS) string {
	maps, err := readFile(root, "proc/self/maps")
	if err != nil {
		return ""
	}
	for sc := bufio.NewScanner(bytes.NewReader(maps)); sc.Scan(); {
		_, file, ok := strings.Cut(sc.Text(), "/")
		if ok && strings.HasSuffix("/"+file, "/libc.so.6") && fs.ValidPath(file) {
			return file
		}
	}
	return ""
}

func readGlibc(root fs.FS, name string) (string, error) {
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	at, ok := f.(io.ReaderAt)
	if !ok {
		return "", errors.New("it cannot be read at an offset")
	}
	lib, err := elf.NewFile(at)
	if err != nil {
		return "", err
	}
	section := lib.Section(".rodata")
	if section == nil {
		return "", errors.New("it has no .rodata section")
	}
	data, err := io.ReadAll(io.LimitReader(section.Open(), maxRodata))
	if err != nil {
		return "", err
	}
	m := glibcBanner.FindSubmatch(data)
	if m == nil {
		return "", errors.New("it does not say that it is the GNU C library")
	}
	return string(m[1]), nil
}
