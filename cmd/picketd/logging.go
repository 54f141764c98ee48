package main

import (
	"io"
	"log/slog"

	"github.com/picket-ml/picket/internal/config"
)

func newLogger(c config.Log, to io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}
