package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/trace"
)

// newTracer is nil where the configuration names no collector.
func newTracer(c config.Tracing, log *slog.Logger) (*trace.Tracer, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	t, err := trace.New(trace.Options{
		Endpoint: c.Endpoint, Protocol: trace.Protocol(c.Protocol), Sample: c.Sample, Service: c.Service, Version: version,
		Resource: pairs(c.Resource), Headers: pairs(c.Headers), Queue: c.Queue, Timeout: c.Timeout,
		Files: trace.TLSFiles{CA: c.CA, Certificate: c.Certificate, Key: c.Key}, Log: log,
	})
	if err != nil {
		return nil, usageError{err}
	}
	log.Info("requests are traced", "endpoint", c.Endpoint, "protocol", c.Protocol, "sample", c.Sample)
	return t, nil
}

func pairs(list []string) []trace.Pair {
	all := make([]trace.Pair, len(list))
	for i, text := range list {
		all[i].Name, all[i].Value, _ = strings.Cut(text, "=")
	}
	return all
}

// observer is t for the engine, nil if there is none.
func observer(t *trace.Tracer) engine.Observer {
	if t == nil {
		return nil
	}
	return t
}

// closeTracer sends the spans that are left, for as long as the end of the daemon
// leaves time, and a moment at least.
func (d *daemon) closeTracer() {
	left := max(time.Until(d.end), closing)
	if d.cutOff {
		left = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), left)
	defer cancel()
	if err := d.tracer.Shutdown(ctx); err != nil {
		d.log.Warn("the last traces are lost", "error", err)
	}
}
