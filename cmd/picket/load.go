package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

func newLoad(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "load NAME PATH",
		Short:   "Load the model in the folder PATH and serve it as NAME",
		Example: "  picket load fraud /var/lib/picket/models/fraud",
		Args:    cobra.ExactArgs(2),
	}
	asJSON := jsonFlag(c)
	c.RunE = withControl(flags, func(c *cobra.Command, d *daemon, args []string) error {
		if scheme, _, found := strings.Cut(args[1], "://"); found && !strings.Contains(scheme, "/") {
			return usage("loading model %q: %s is an address, but the daemon loads local folders only; fetch it and name the folder's path", args[0], args[1])
		}
		// The daemon's working directory is not ours.
		path, err := filepath.Abs(args[1])
		if err != nil {
			return fmt.Errorf("finding %s: %w", args[1], err)
		}
		doing := fmt.Sprintf("loading model %q from %s", args[0], path)
		answer, err := call(c, d, doing, d.agent.LoadModel, &agentapi.LoadModelRequest{Name: args[0], Url: path})
		if err != nil {
			return err
		}
		m := modelOf(answer.GetModel())
		if *asJSON {
			return writeJSON(c.OutOrStdout(), m)
		}
		fmt.Fprintf(c.OutOrStdout(), "loaded %s from %s\n", m.Name, m.URL)
		for _, s := range m.Inputs {
			fmt.Fprintf(c.OutOrStdout(), "  input   %v\n", s)
		}
		for _, s := range m.Outputs {
			fmt.Fprintf(c.OutOrStdout(), "  output  %v\n", s)
		}
		return nil
	})
	return c
}
