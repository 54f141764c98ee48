package main

import (
	"fmt"
	"os"

	"github.com/picket-ml/picket/internal/hw"
)

// keepCores has the daemon keep to the CPUs that the configuration names; models with cores of their own, of which there are none
// yet, are bound to those later.
func (d *daemon) keepCores(list string, host *hw.Host) error {
	if list == "" {
		return nil
	}
	cpus, err := host.CPU.Some(list)
	if err != nil {
		return usageError{fmt.Errorf("cores: %w", err)}
	}
	if err := hw.BindProcess(os.Getpid(), cpus); err != nil {
		return fmt.Errorf("cores: %w", err)
	}
	d.bound = true
	d.log.Info("the daemon keeps to some CPUs", "cpus", list)
	return nil
}

// withAllCores calls start, which starts a process, where that begins with the CPUs that this one began with.
func (d *daemon) withAllCores(start func() error) error {
	if !d.bound {
		return start()
	}
	done := make(chan error, 1)
	go hw.OnOwnThread(func() {
		_, err := hw.BindThread(d.host.Load().CPU.Affinity)
		if err == nil {
			err = start()
		}
		done <- err
	})
	return <-done
}
