package main

import (
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
