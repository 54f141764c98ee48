package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// maxFileSize is many times any real configuration.
const maxFileSize = 1 << 20

// Load reads a configuration file over the defaults and validates the outcome.
// A name ending in .json, or a file that starts with "{" and does not end in
// .yaml or .yml, is an Edge Manager file. The error has one line per mistake.
func Load(path string) (*Config, error) {
	c, from, err := read(path)
	if err != nil {
		return nil, err
	}
	if err := c.validate(from); err != nil {
		return nil, err
	}
	return c, nil
}

// read is Load without validation.
func read(path string) (*Config, origin, error) {
	data, err := readBounded(path)
	if err != nil {
		return nil, origin{}, err
	}
	c, lines, err := parse(path, data)
	if err != nil {
		return nil, origin{}, fileError(path, err)
	}
	return c, origin{file: path, lines: lines}, nil
}

func parse(path string, data []byte) (*Config, map[string]int, error) {
	c := Default()
	// Editors on Windows put a byte order mark first.
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if isLegacy(path, data) {
		return c, nil, parseLegacy(data, c)
	}
	lines, err := parseYAML(data, c)
	return c, lines, err
}

func isLegacy(path string, data []byte) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".json":
		return true
	case ".yaml", ".yml":
		return false
	}
	return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{"))
}

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	defer file.Close()
	// One byte more than allowed shows that there is more, also where the size
	// cannot be asked beforehand, as of a pipe.
	data, err := io.ReadAll(io.LimitReader(file, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if len(data) > maxFileSize {
		return nil, fmt.Errorf("reading the configuration: %s is larger than %v, is it the right file?", path, Size(maxFileSize))
	}
	return data, nil
}

// fileError puts the file's name before each line of err.
func fileError(path string, err error) error {
	var all []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			all = append(all, fmt.Errorf("%s: %w", path, one))
		}
		return errors.Join(all...)
	}
	return fmt.Errorf("%s: %w", path, err)
}
