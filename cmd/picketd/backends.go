package main

import (
	"log/slog"
	"slices"

	"github.com/picket-ml/picket/backends/treelite"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
)

// chooseBackends is all backends, in order of preference, less those that the
// configuration disables.
func chooseBackends(c config.Backends, log *slog.Logger) []engine.Backend {
	all := []engine.Backend{treelite.New()}
	for _, name := range c.Disable {
		if !slices.ContainsFunc(all, func(b engine.Backend) bool { return b.Name() == name }) {
			log.Warn("backends.disable names a backend that does not exist", "backend", name)
		}
	}
	return slices.DeleteFunc(all, func(b engine.Backend) bool { return slices.Contains(c.Disable, b.Name()) })
}
