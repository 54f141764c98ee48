package roofline

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// maxSize bounds what is read.
const maxSize = 4 << 20

// Read reads a file that Write wrote.
func Read(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading a roofline: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading a roofline: %w", err)
	}
	r, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return r, nil
}

// Parse reads the bytes of a file.
func Parse(data []byte) (*Report, error) {
	if len(data) > maxSize {
		return nil, fmt.Errorf("it has more than %d bytes, which no roofline has", maxSize)
	}
	r := new(Report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("it is no roofline of picket bench roofline: %w", err)
	}
	if r.Schema != Schema || r.Version < 1 || r.Version > Version {
		return nil, fmt.Errorf("it is no roofline of picket bench roofline that this picket reads: schema %.64q, version %d", r.Schema, r.Version)
	}
	return r, nil
}

// Write writes the file.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("writing the roofline: %w", err)
	}
	return nil
}
