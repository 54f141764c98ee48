package main

import (
	"debug/elf"
	"fmt"
	"log/slog"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/store"
)

// openDecisions opens what earlier runs of the daemon found out, in the state
// directory; nil where there is none, or none that can be used: that costs time at
// each load and is no reason not to serve. closeState gives it back.
func openDecisions(state string, log *slog.Logger) (decisions engine.Decisions, closeState func()) {
	if state == "" {
		return nil, func() {}
	}
	d, err := store.OpenDecisions(state)
	if err != nil {
		log.Warn("nothing is remembered: the state directory cannot be used, so each load times backends again", "state", state, "error", err)
		return nil, func() {}
	}
	return d, func() {
		if err := d.Close(); err != nil {
			log.Warn("closing the state directory", "error", err)
		}
	}
}

// thisExecutable is where the system shows the file that the daemon was started
// from, even after another one has taken its name.
const thisExecutable = "/proc/self/exe"

// codeVersion is what choices of backends are remembered for: the version, which
// builds that nobody stamped share, and what the Go linker wrote down of the code
// in the executable, where that can be read.
func codeVersion(executable string) string {
	f, err := elf.Open(executable)
	if err != nil {
		return version
	}
	defer f.Close()
	if s := f.Section(".note.go.buildid"); s != nil {
		if id, err := s.Data(); err == nil {
			return fmt.Sprintf("%s %x", version, id)
		}
	}
	return version
}
