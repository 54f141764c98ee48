package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/config"
)

// Loggers that were made of it before follow the settings, too.
func TestLogSettingsChange(t *testing.T) {
	var out bytes.Buffer
	log, settings := newLogger(config.Log{Level: slog.LevelInfo, Format: "text"}, &out)
	derived := log.With("a", 1).WithGroup("g")
	derived.Debug("one", "b", 2)
	derived.Info("two", "b", 2)
	settings.set(config.Log{Level: slog.LevelDebug, Format: "json"})
	derived.Debug("three", "b", 2)
	settings.set(config.Log{Level: slog.LevelError, Format: "text"})
	derived.Warn("four")
	derived.Error("five")
	got := out.String()
	for _, want := range []string{"msg=two a=1 g.b=2\n", `"msg":"three","a":1,"g":{"b":2}}`, "msg=five a=1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the log has no %s:\n%s", want, got)
		}
	}
	if strings.Count(got, "\n") != 3 {
		t.Errorf("the log has other lines:\n%s", got)
	}
}
