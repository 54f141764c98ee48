package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

func newList(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the loaded models with their inputs and outputs",
		Args:  cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = withDaemon(flags, func(c *cobra.Command, d *daemon, _ []string) error {
		answer, err := call(c, d, "listing the models", d.agent.ListModels, &agentapi.ListModelsRequest{})
		if err != nil {
			return err
		}
		models := make([]model, len(answer.GetModels()))
		for i, m := range answer.GetModels() {
			models[i] = modelOf(m)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), struct {
				Models []model `json:"models"`
			}{models})
		}
		return writeModels(c.OutOrStdout(), models)
	})
	return c
}

func writeModels(w io.Writer, models []model) error {
	if len(models) == 0 {
		fmt.Fprintln(w, "no model is loaded; picket load NAME PATH loads one")
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tINPUTS\tOUTPUTS\tFROM")
	for _, m := range models {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.Name, joinSpecs(m.Inputs), joinSpecs(m.Outputs), m.URL)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}
