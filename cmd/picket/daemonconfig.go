package main

import (
	"cmp"
	"os"

	"github.com/picket-ml/picket/internal/config"
)

// defaultState is what the daemon's unit gives it as $STATE_DIRECTORY.
const defaultState = "/var/lib/picket"

// stateUsage describes --state.
const stateUsage = "the daemon's --state `DIR`, where the file does not say it (default $STATE_DIRECTORY, or " + defaultState + ")"

// readDaemonConfig reads the configuration of a daemon as that daemon does. state is the --state that it was started
// with, empty for none. Where nothing says what the daemon keeps, systemd has told it, and not whoever calls picket:
// then it is defaultState.
func readDaemonConfig(file, state string) (*config.Config, error) {
	c, err := config.Resolve(config.Flags{Config: file, StateDir: state}, func(name string) string {
		if name == config.EnvState {
			return cmp.Or(os.Getenv(name), defaultState)
		}
		return os.Getenv(name)
	})
	if err != nil {
		return nil, wrongConfig(err)
	}
	return c, nil
}

// configMistake is what is wrong with the daemon's configuration, of which no command's help says anything.
type configMistake struct{ error }

// wrongConfig makes a failure of it. The error names the file.
func wrongConfig(err error) *failure { return &failure{exitUsage, configMistake{err}} }
