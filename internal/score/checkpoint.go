package score

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/picket-ml/picket/internal/durable"
)

// checkpointVersion is that of the form of the file.
const checkpointVersion = 1

// checkpoint says how far a run was.
type checkpoint struct {
	Version int  `json:"version"`
	Work    work `json:"work"`
	// Input is how far it was read, Output how long the partial file is, and CRC its CRC-32C.
	Input  position `json:"input"`
	Output int64    `json:"output"`
	CRC    uint32   `json:"crc32c"`
}

// work is what a run does: only one that does the same may go on.
type work struct {
	Input    string    `json:"input"` // absolute
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Model    string    `json:"model"`   // its digest
	Backend  string    `json:"backend"` // which gives the same bits with all of its kernels
	Picket   string    `json:"picket"`  // its version
	Columns  []string  `json:"columns"`
	IDs      []string  `json:"ids"`
	Header   Header    `json:"header"`
}

// differs names what is not the same, empty where all is.
func (w *work) differs(o *work) string {
	same := func(a, b []string) bool {
		x, errX := json.Marshal(a)
		y, errY := json.Marshal(b)
		return errX == nil && errY == nil && (string(x) == string(y) || len(a)+len(b) == 0)
	}
	switch {
	case w.Input != o.Input || w.Size != o.Size || !w.Modified.Equal(o.Modified):
		return "another input, or one that has changed since"
	case w.Model != o.Model:
		return "another model"
	case w.Backend != o.Backend:
		return "another backend"
	case w.Picket != o.Picket:
		return "another version of picket"
	case !same(w.Columns, o.Columns) || !same(w.IDs, o.IDs) || w.Header != o.Header:
		return "other columns"
	}
	return ""
}

// partial is the output while it is made.
type partial struct {
	path string // of the output
	file *os.File
	size int64
	crc  uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func partialPath(output string) string    { return output + ".partial" }
func checkpointPath(output string) string { return output + ".checkpoint" }

// readCheckpoint is nil where there is none.
func readCheckpoint(output string) (*checkpoint, error) {
	const most = 1 << 20
	f, err := os.Open(checkpointPath(output))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	c := new(checkpoint)
	if err := json.Unmarshal(text, c); err != nil || c.Version != checkpointVersion || c.Output < 0 || c.Input.Bytes < 0 || c.Input.Rows < 0 || c.Input.Lines < 0 {
		return nil, fmt.Errorf("%s is no checkpoint that this picket reads; begin anew with --restart", checkpointPath(output))
	}
	return c, nil
}

// openPartial opens the partial output to go on after c, or anew without one.
func openPartial(output string, c *checkpoint) (_ *partial, err error) {
	flags := os.O_RDWR | os.O_CREATE
	if c == nil {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(partialPath(output), flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("writing the scores: %w", err)
	}
	p := &partial{path: output, file: f}
	if c == nil {
		return p, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	sum := crc32.New(castagnoli)
	n, err := io.Copy(sum, io.LimitReader(f, c.Output))
	if err != nil {
		return nil, fmt.Errorf("reading the partial output: %w", err)
	}
	if n != c.Output || sum.Sum32() != c.CRC {
		return nil, errDamaged
	}
	if err := f.Truncate(c.Output); err != nil {
		return nil, fmt.Errorf("cutting off the rest of the partial output: %w", err)
	}
	if _, err := f.Seek(c.Output, io.SeekStart); err != nil {
		return nil, fmt.Errorf("writing the scores: %w", err)
	}
	p.size, p.crc = c.Output, c.CRC
	return p, nil
}

func (p *partial) append(data []byte) error {
	if _, err := p.file.Write(data); err != nil {
		return fmt.Errorf("writing the scores: %w", err)
	}
	p.size += int64(len(data))
	p.crc = crc32.Update(p.crc, castagnoli, data)
	return nil
}

// keep forces what there is to disk, and then says so.
func (p *partial) keep(w work, at position) error {
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("writing the scores: %w", err)
	}
	text, err := json.MarshalIndent(checkpoint{checkpointVersion, w, at, p.size, p.crc}, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the checkpoint: %w", err)
	}
	return replace(checkpointPath(p.path), func(f io.Writer) error {
		_, err := f.Write(append(text, '\n'))
		return err
	})
}

// close closes the file. Closing it again does nothing.
func (p *partial) close() error {
	if err := p.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("writing the scores: %w", err)
	}
	return nil
}

// finish makes the output. The file is closed first where it is renamed or removed, which not every system allows otherwise.
func (p *partial) finish(w writer) error {
	if w.whole() {
		if err := p.file.Sync(); err != nil {
			return fmt.Errorf("writing the scores: %w", err)
		}
		if err := p.close(); err != nil {
			return err
		}
		if err := os.Rename(partialPath(p.path), p.path); err != nil {
			return fmt.Errorf("writing the scores: %w", err)
		}
		if err := durable.SyncFolder(filepath.Dir(p.path)); err != nil {
			return fmt.Errorf("writing the scores: %w", err)
		}
	} else {
		if _, err := p.file.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("reading the partial output: %w", err)
		}
		if err := replace(p.path, func(out io.Writer) error { return w.finish(p.file, out) }); err != nil {
			return err
		}
		if err := p.close(); err != nil {
			return err
		}
	}
	return discard(p.path)
}

// discard removes what a run leaves behind.
func discard(output string) error {
	for _, path := range []string{checkpointPath(output), partialPath(output)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("tidying up: %w", err)
		}
	}
	return nil
}

// replace writes a file that appears whole or not at all.
func replace(path string, write func(io.Writer) error) error {
	if err := durable.Replace(path, 0o644, func(f *os.File) error { return write(f) }); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}
