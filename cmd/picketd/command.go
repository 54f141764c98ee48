package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/hw"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // a socket could not be had, calls were cut off at the end
	exitUsage  = 2 // the command line or the configuration is wrong
)

// gpuReport is the hidden command with which the daemon asks the GPU driver in
// a process of its own, so that a driver that crashes does not take it along.
const gpuReport = "gpu-report"

// usageError is a mistake on the command line or in the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// execute runs the command line and returns the exit code. Only what was asked for
// by name writes to stdout: help, the version, health, the GPU report.
func execute(args []string, stdout, stderr io.Writer, by starter) int {
	var flags config.Flags
	var showVersion bool
	out := &commandline.Output{To: stdout}
	root := commandline.Picketd(&flags, &showVersion)
	root.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("picketd takes no arguments, but %q was given; see picketd --help", args[0])}
		}
		return nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkGiven(cmd); err != nil {
			return usageError{err}
		}
		if showVersion {
			_, err := fmt.Fprintln(out, "picketd", version)
			return err
		}
		return runDaemon(func() (*config.Config, error) { return config.Resolve(flags, os.Getenv) }, stderr, by)
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	root.AddCommand(&cobra.Command{
		Use:    gpuReport,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return hw.WriteGPUReport(context.Background(), out)
		},
	})
	root.AddCommand(&cobra.Command{
		Use:    prepareObjects,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return runPreparing(os.Stdin, out) },
	})

	root.AddCommand(commandline.PicketdHealth(os.Getenv, func(cmd *cobra.Command, sockets string) error {
		if err := checkGiven(cmd); err != nil {
			return usageError{err}
		}
		return health(cmd.Context(), sockets, out)
	}))
	root.AddCommand(systemCommands(out)...)
	for _, c := range root.Commands() {
		refuseArguments(c)
	}

	err := root.ExecuteContext(context.Background())
	if full := out.Failed(err); full != nil {
		err = full
	}
	if err == nil {
		return exitDone
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintln(stderr, "picketd:", strings.TrimRight(line, "\n"))
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// refuseArguments makes it a mistake on the command line to give arguments to c, or a command below it, that takes none.
func refuseArguments(c *cobra.Command) {
	for _, child := range c.Commands() {
		refuseArguments(child)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if check(c, args) != nil {
			return usageError{fmt.Errorf("%s takes no arguments, but %q was given; see %s --help", c.CommandPath(), args[0], c.CommandPath())}
		}
		return nil
	}
}

// checkGiven refuses flags that were given without a value, as of a variable
// that is not set: the default is not what was meant.
func checkGiven(cmd *cobra.Command) error {
	var mistakes []error
	for _, name := range []string{"config", "sockets", "agent-socket", "state", "max-message"} {
		if value, err := cmd.Flags().GetString(name); err == nil && value == "" && cmd.Flags().Changed(name) {
			mistakes = append(mistakes, fmt.Errorf("--%s was given an empty value: name one, or leave the flag out", name))
		}
	}
	return errors.Join(mistakes...)
}

// hostOptions is how the host is to be looked at: the environment's wishes that
// the configuration does not know, and the configuration's.
func hostOptions(c *config.Config) (hw.Options, error) {
	o, err := hw.OptionsFromEnv(os.Getenv)
	if err != nil {
		return hw.Options{}, err
	}
	if _, err := hw.ParseMask(c.Host.CPUMask, runtime.GOARCH); err != nil {
		return hw.Options{}, fmt.Errorf("host.cpu_mask: %w", err)
	}
	o.Mask, o.InstanceType = c.Host.CPUMask, c.Host.InstanceType
	o.NoIMDS = o.NoIMDS || !c.Host.IMDS
	if self, err := os.Executable(); err == nil {
		o.GPUCommand = []string{self, gpuReport}
	}
	return o, nil
}
