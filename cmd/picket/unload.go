package main

import (
	"fmt"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

func newUnload(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "unload NAME",
		Short:   "Answer what NAME was asked already, then remove it",
		Example: `  picket unload fraud`,
		Args:    cobra.ExactArgs(1),
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	c.RunE = withControl(flags, func(c *cobra.Command, d *daemon, args []string) error {
		_, err := call(c, d, fmt.Sprintf("unloading model %q", args[0]), d.agent.UnLoadModel, &agentapi.UnLoadModelRequest{Name: args[0]})
		if err != nil {
			return err
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), struct {
				Unloaded string `json:"unloaded"`
			}{args[0]})
		}
		fmt.Fprintf(c.OutOrStdout(), "unloaded %s\n", args[0])
		return nil
	})
	completeModel(c, flags)
	return c
}
