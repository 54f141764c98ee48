package hw

import (
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// maxFile bounds what is read of one file under /proc or /sys. The largest,
// /proc/cpuinfo and mountinfo of a big host, stay well below.
const maxFile = 4 << 20

// readFile reads a file of the kernel's, whose stat size says nothing.
func readFile(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("/%s is larger than %d bytes", name, maxFile)
	}
	return text, nil
}

// readLine reads a file and trims the blanks around its content.
func readLine(root fs.FS, name string) (string, error) {
	text, err := readFile(root, name)
	return strings.TrimSpace(string(text)), err
}

// readInt reads a file that holds one decimal number.
func readInt(root fs.FS, name string) (int64, error) {
	line, err := readLine(root, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/%s holds %q, which is not a number", name, line)
	}
	return n, nil
}

// exists reports whether name can be opened or at least seen.
func exists(root fs.FS, name string) bool {
	_, err := fs.Stat(root, name)
	return err == nil
}
