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

const long = `Picketd loads compiled models and answers predictions on Unix sockets: in the
protocol of the SageMaker Edge Manager agent, in the Open Inference Protocol
(gRPC and HTTP, over TCP too where the configuration says so), and in a lane for
clients in a hurry.

It reads --config if given, then the environment (PICKET_SOCKETS,
PICKET_BACKEND, PICKET_ONNXRUNTIME, PICKET_CPU_MASK, PICKET_INSTANCE_TYPE,
PICKET_IMDS), then these flags; the later wins. A model that cannot be loaded at
start is logged and tried again when its folder changes, and the others are served.
The log goes to standard error.

SIGTERM and SIGINT stop it: calls under way are answered first, for as long as
shutdown.grace allows. A second signal, half a second after the first or later,
stops it at once. SIGHUP has it read its configuration again, as picket reload
does. SIGUSR2 puts a new process in its place without failing a request. A signal
that was ignored when it was started, as nohup does with SIGHUP, stays ignored.

Exit codes: 0 stopped as asked, 1 failed, 2 wrong command line or configuration.`

const example = `  picketd --unsigned --sockets ./run --model fraud=./models/fraud
  picketd --config /etc/picket/picketd.yaml
  picketd -a /tmp/sagemaker_edge_agent_example.sock -c sagemaker_edge_config.json`

// execute runs the command line and returns the exit code. Only --version and
// the GPU report write to stdout.
func execute(args []string, stdout, stderr io.Writer) int {
	var flags config.Flags
	var showVersion bool
	root := &cobra.Command{
		Use:     "picketd",
		Short:   "Serve compiled models on Unix sockets",
		Long:    long,
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("picketd takes no arguments, but %q was given; see picketd --help", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkGiven(cmd); err != nil {
				return usageError{err}
			}
			if showVersion {
				_, err := fmt.Fprintln(stdout, "picketd", version)
				return err
			}
			return runDaemon(func() (*config.Config, error) { return config.Resolve(flags, os.Getenv) }, stderr)
		},
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := root.Flags()
	f.SortFlags = false
	f.StringVarP(&flags.Config, "config", "c", "", "read `FILE`: YAML, or the JSON of the Edge Manager agent")
	f.StringVar(&flags.SocketsDir, "sockets", "", "put all sockets into `DIR` (default /run/picket)")
	f.StringVarP(&flags.AgentSocket, "agent-socket", "a", "", "serve the agent protocol on `SOCKET`, wherever it lies;\nwith --sockets, on DIR/agent.sock as well")
	f.BoolVarP(&flags.Force, "force", "f", false, "take over sockets that another process answers on")
	f.StringArrayVar(&flags.Models, "model", nil, "load a model at start, as `NAME=PATH`; may be repeated")
	f.BoolVar(&flags.Unsigned, "unsigned", false, "allow packages without a signature; each is logged")
	f.StringVar(&flags.StateDir, "state", "", "keep in `DIR` which backend is the fastest for a model\n(default $STATE_DIRECTORY, which systemd sets)")
	f.StringVarP(&flags.MaxMessage, "max-message", "m", "", "take requests and answers up to `SIZE` (default 80MiB)")
	f.BoolVar(&showVersion, "version", false, "print the version and stop")
	root.SetArgs(args)
	root.SetOut(stderr) // help is for people, and scripts read stdout
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see picketd --help", err)}
	})
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpCommand(&cobra.Command{Hidden: true})
	root.AddCommand(&cobra.Command{
		Use:    gpuReport,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return hw.WriteGPUReport(context.Background(), stdout)
		},
	})

	err := root.Execute()
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
