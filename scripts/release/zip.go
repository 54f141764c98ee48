package main

import (
	"archive/zip"
	"compress/flate"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// zipFolder puts a folder into a zip file under its own name, in the order of names,
// each file as of the time given: the same folder gives the same bytes.
func zipFolder(dir, target string, at time.Time) (err error) {
	f, err := os.Create(target)
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("writing %s: %w", target, closeErr)
		}
	}()
	w := zip.NewWriter(f)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) { return flate.NewWriter(out, flate.BestCompression) })
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(filepath.Dir(dir), path)
		if err != nil {
			return err
		}
		member, err := w.CreateHeader(&zip.FileHeader{Name: filepath.ToSlash(name), Method: zip.Deflate, Modified: at.UTC()})
		if err != nil {
			return err
		}
		from, err := os.Open(path)
		if err != nil {
			return err
		}
		defer from.Close()
		_, err = io.Copy(member, from)
		return err
	})
	if err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("writing %s: %w", target, err)
	}
	return nil
}
