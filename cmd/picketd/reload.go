package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/server/local"
)

// reloadable are the keys, and beginnings of keys, that take effect without a restart.
var reloadable = []string{"models", "model_defaults.", "backends.force", "log.", "shutdown.", "restart."}

// certificateKeys do so where TCP is encrypted before and after.
var certificateKeys = []string{"tcp.certificate", "tcp.key", "tcp.client_ca"}

// askedToReload is reload for a client, who is told what came of it.
func (d *daemon) askedToReload(ctx context.Context) (*controlapi.ReloadResponse, error) {
	by := slog.String("caller", "unknown")
	if who, err := local.CallerOf(ctx); err == nil {
		by = slog.Group("caller", "uid", who.UID, "pid", who.PID)
	}
	d.log.Info("a client asks for the configuration to be read again", by)
	return d.reload()
}

// reload reads the configuration again and makes what it says so. When it fails nothing
// has changed, and the error has one line for each mistake; they are logged too. It
// goes on until the daemon ends, whoever asked.
func (d *daemon) reload() (*controlapi.ReloadResponse, error) {
	select {
	case d.changing <- struct{}{}:
		defer func() { <-d.changing }()
	case <-d.ctx.Done():
		return nil, errEnding
	}
	notify(d.log, systemd.SdNotifyReloading+"\n"+systemd.SdNotifyMonotonicUsec())
	defer func() { notify(d.log, d.status()) }()
	done, err := d.reloadNow()
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			d.log.Error("reading the configuration again: it is wrong, and nothing was changed", "mistake", strings.TrimRight(line, "\n"))
		}
		return nil, err
	}
	for _, key := range done.GetNeedRestart() {
		d.log.Warn("a changed key takes effect at the next restart only", "key", key)
	}
	d.log.Info("the configuration was read again", "changed", done.GetChanged(), "needs_restart", done.GetNeedRestart(), "models", len(done.GetModels()))
	return done, nil
}

var errEnding = errors.New("the daemon is ending")

func (d *daemon) reloadNow() (*controlapi.ReloadResponse, error) {
	next, err := d.resolve()
	if err != nil {
		return nil, err
	}
	now := d.config.Load()
	out := &controlapi.ReloadResponse{}
	for _, key := range config.Changes(now, next) {
		if takesEffect(key, now, next) {
			out.Changed = append(out.Changed, key)
		} else {
			out.NeedRestart = append(out.NeedRestart, key)
		}
	}
	// What can fail comes first, and changes nothing when it does.
	var secured *tls.Config
	if now.TCP.Certificate != "" && next.TCP.Certificate != "" {
		if secured, err = newTLS(next, d.log); err != nil {
			return nil, err
		}
	}
	if err := d.engine.SetDefaults(defaultsOf(next)); err != nil {
		return nil, fmt.Errorf("model_defaults: %w", err)
	}
	if err := d.store.SetAlso(pathsOf(next.Models)); err != nil {
		return nil, err
	}

	// The configuration in force is the old one, but for what takes effect.
	merged := *now
	merged.Models, merged.ModelDefaults, merged.Backends.Force = next.Models, next.ModelDefaults, next.Backends.Force
	merged.Log, merged.Shutdown, merged.Restart = next.Log, next.Shutdown, next.Restart
	if secured != nil {
		merged.TCP.Certificate, merged.TCP.Key, merged.TCP.ClientCA = next.TCP.Certificate, next.TCP.Key, next.TCP.ClientCA
		d.secured.Store(secured)
	}
	d.config.Store(&merged)
	d.captures.reload(&merged)
	d.logged.set(next.Log)
	for _, warning := range next.Warnings {
		d.log.Warn("the configuration has a flaw", "warning", warning)
	}
	out.Models, err = d.declared.apply(d.ctx, next.Models, next.Shutdown.Grace)
	if err != nil {
		return nil, errEnding
	}
	return out, nil
}

// takesEffect tells whether a key that differs between the two configurations takes
// effect without a restart.
func takesEffect(key string, now, next *config.Config) bool {
	if slices.Contains(certificateKeys, key) {
		return now.TCP.Certificate != "" && next.TCP.Certificate != ""
	}
	return slices.ContainsFunc(reloadable, func(r string) bool {
		return key == r || strings.HasSuffix(r, ".") && strings.HasPrefix(key, r)
	})
}
