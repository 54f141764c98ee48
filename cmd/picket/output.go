package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/durable"
)

// fileOf is the file behind w, if there is one.
func fileOf(w io.Writer) (*os.File, bool) {
	if o, ok := w.(*commandline.Output); ok {
		w = o.To
	}
	f, ok := w.(*os.File)
	return f, ok
}

// jsonFlag adds --json, which every command that reports has.
func jsonFlag(c *cobra.Command) *bool {
	return c.Flags().Bool("json", false, "print JSON")
}

// writeJSON writes one indented document.
func writeJSON(w io.Writer, document any) error {
	text, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s\n", text); err != nil {
		return fmt.Errorf("writing the output: %w", err)
	}
	return nil
}

// writeWhole writes the file that --output names, or leaves what was there. What is there and is no file, such as a pipe or a terminal, is
// written to.
func writeWhole(path string, write func(io.Writer) error) error {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return writeTo(path, write)
	}
	return durable.Replace(path, 0o644, func(f *os.File) error { return write(f) })
}

// writeTo writes to something that is there.
func writeTo(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	return write(f)
}
