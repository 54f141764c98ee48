package neo

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// CheckLibrary is a check for dl.OpenFile: it reads the library called name,
// demands that the host can load it, and hands what it read to inspect, which
// may refuse it too. Errors wrap engine.ErrArtifact where the file is at fault
// and engine.ErrHost where it is sound and made for another host.
func CheckLibrary(name string, host *hw.Host, inspect func(*dl.Object) error) dl.Check {
	return func(library io.ReaderAt, size int64) error {
		object, err := dl.Inspect(library, size)
		if err != nil {
			return fmt.Errorf("%w: %w", engine.ErrArtifact, named(err, name))
		}
		object.Name = name
		this := dl.ThisHost()
		this.X86Level = x86Level(host)
		if err := object.CheckHost(this); err != nil {
			kind := engine.ErrHost
			if object.Machine == this.Machine && (object.Type != elf.ET_DYN || object.PIE) {
				kind = engine.ErrArtifact
			}
			return fmt.Errorf("%w: %w", kind, err)
		}
		return inspect(object)
	}
}

// LibraryError gives an error of dl.OpenFile the engine's kind where the check
// has not done so.
func LibraryError(err error) error {
	switch {
	case err == nil, errors.Is(err, engine.ErrArtifact), errors.Is(err, engine.ErrHost), errors.Is(err, engine.ErrUnsupported):
		return err
	case errors.Is(err, dl.ErrUnavailable):
		return fmt.Errorf("%w: %w", engine.ErrUnsupported, err)
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", engine.ErrMemory, err)
	// What the loader says when a library that this one needs is not installed.
	case strings.Contains(err.Error(), "cannot open shared object file"):
		return fmt.Errorf("%w: %w", engine.ErrHost, err)
	}
	return fmt.Errorf("%w: %w", engine.ErrArtifact, err)
}

// named puts the file's name in place of the general one that dl.Inspect uses.
func named(err error, name string) error {
	if object := (*dl.ObjectError)(nil); errors.As(err, &object) {
		return &dl.ObjectError{Name: name, Problem: object.Problem}
	}
	return err
}

// x86Level is the host's level as a number, or 0 to leave it unchecked.
func x86Level(host *hw.Host) int {
	level := 0
	for i, l := range []hw.Level{hw.X86V1, hw.X86V2, hw.X86V3, hw.X86V4} {
		if host.CPU.Level.Runs(l) {
			level = i + 1
		}
	}
	return level
}
