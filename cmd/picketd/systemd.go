package main

import (
	"log/slog"
	"sync"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/picket-ml/picket/internal/alarm"
)

// notify tells the service manager; without one it does nothing.
func notify(log *slog.Logger, state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		log.Warn("telling the service manager", "state", state, "error", err)
	}
}

// startWatchdog reports that the process is alive, twice in the time that the
// service manager allows, until the function it returns is called, which may be more
// than once.
func startWatchdog(log *slog.Logger) (stop func()) {
	allowed, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("reading the watchdog's interval", "error", err)
	}
	if err != nil || allowed == 0 {
		return func() {}
	}
	stopped, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		due := alarm.New()
		defer due.Close()
		for {
			due.Set(allowed / 2)
			select {
			case <-due.C():
				notify(log, systemd.SdNotifyWatchdog)
			case <-stopped:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stopped)
		<-ended
	})
}
