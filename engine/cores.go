package engine

import (
	"fmt"
	"log/slog"
	"runtime"

	"github.com/picket-ml/picket/internal/hw"
)

// cores are the CPUs that a model keeps to, ascending; nil for no such wish.
type cores []int

// coresOf reads ModelOptions.Cores and checks that the process may use them: a model
// never gets what was kept from the daemon.
func coresOf(list string, host *hw.Host) (cores, error) {
	if list == "" {
		return nil, nil
	}
	cpus, err := host.CPU.Some(list)
	if err != nil {
		return nil, fmt.Errorf("option cores: %w", err)
	}
	return cpus, nil
}

// keepThread binds the calling thread for good: it is one of hw.OnOwnThread's.
func (c cores) keepThread() error {
	if c == nil {
		return nil
	}
	_, err := hw.BindThread(c)
	return err
}

// binder is OpenOptions.Bind.
func (c cores) binder(log *slog.Logger) func(func()) {
	if c == nil {
		return nil
	}
	return func(do func()) {
		runtime.LockOSThread()
		restore, err := hw.BindThread(c)
		if err != nil {
			// The kernel has taken CPUs away since the model was loaded.
			runtime.UnlockOSThread()
			log.Warn("a thread works on other CPUs than the model is to keep to", "error", err)
			do()
			return
		}
		defer func() {
			if err := restore(); err != nil {
				log.Warn("a thread is not used any more", "error", err)
				return // still locked, so it ends with its goroutine
			}
			runtime.UnlockOSThread()
		}()
		do()
	}
}
