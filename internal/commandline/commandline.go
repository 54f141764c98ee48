// Package commandline is the command line of picketd: its flags and its help, without what they do. The daemon runs it, and the
// manual page is made of it, so that neither can say what the other does not.
package commandline

import (
	"cmp"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/config"
)

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

// Picketd is the command, which does nothing yet. Parsing a command line fills flags, and version if that alone is asked for.
func Picketd(flags *config.Flags, version *bool) *cobra.Command {
	c := &cobra.Command{
		Use:           "picketd",
		Short:         "Serve compiled models on Unix sockets",
		Long:          long,
		Example:       example,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&flags.Config, "config", "c", "", "read `FILE`: YAML, or the JSON of the Edge Manager agent")
	f.StringVar(&flags.SocketsDir, "sockets", "", "put all sockets into `DIR` (default "+config.DefaultSockets()+")")
	f.StringVarP(&flags.AgentSocket, "agent-socket", "a", "", "serve the agent protocol on `SOCKET`, wherever it lies;\nwith --sockets, on DIR/agent.sock as well")
	f.BoolVarP(&flags.Force, "force", "f", false, "take over sockets that another process answers on")
	f.StringArrayVar(&flags.Models, "model", nil, "load a model at start, as `NAME=PATH`; may be repeated")
	f.BoolVar(&flags.Unsigned, "unsigned", false, "allow packages without a signature; each is logged")
	f.StringVar(&flags.StateDir, "state", "", "keep in `DIR` what outlives a start: which packages have run,\ncaptured records, which backend is the fastest for a model\n(default $STATE_DIRECTORY, which systemd sets)")
	f.StringVarP(&flags.MaxMessage, "max-message", "m", "", "take requests and answers up to `SIZE` (default 80MiB)")
	f.BoolVar(version, "version", false, "print the version and stop")
	c.CompletionOptions.DisableDefaultCmd = true
	return c
}

// PicketdHealth is the command with which a container's runtime asks whether the daemon serves. It runs ask with the directory of
// the daemon's sockets.
func PicketdHealth(getenv func(string) string, ask func(c *cobra.Command, sockets string) error) *cobra.Command {
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask the daemon on this host whether it takes requests",
		Long: `Ask the daemon on this host whether it takes requests: over control.sock, or over
oip.sock where there is none. It prints "ready" and ends with exit code 0 if it
does, and says why not and ends with 1 if it does not. A daemon that still loads its
models does not yet.`,
		Example: `  picketd health --sockets /run/picket`,
		Args:    cobra.NoArgs,
	}
	sockets := c.Flags().String("sockets", cmp.Or(getenv(config.EnvSockets), config.DefaultSockets()), "the daemon's socket directory, `DIR`, or tcp://HOST:PORT; also $PICKET_SOCKETS")
	c.RunE = func(c *cobra.Command, _ []string) error { return ask(c, *sockets) }
	return c
}
