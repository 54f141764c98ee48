package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
)

func newList(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "list",
		Short: "List the loaded models, and those that should be and are not",
		Example: `  picket list
  picket list --json --sockets ./run`,
		Args: cobra.NoArgs,
	}
	flags.add(c.Flags(), "")
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
		declared := declaredModels(c, d)
		if *asJSON {
			return writeJSON(c.OutOrStdout(), struct {
				Models   []model         `json:"models"`
				Declared []declaredModel `json:"declared"`
			}{models, declared})
		}
		if err := writeModels(c.OutOrStdout(), models); err != nil {
			return err
		}
		writeMissing(c.OutOrStdout(), declared)
		return nil
	})
	return c
}

// declaredModel is a model that the daemon's configuration declares.
type declaredModel struct {
	Name   string `json:"name"`
	Path   string `json:"path"`
	Loaded bool   `json:"loaded"`
	Reason string `json:"reason"` // why it is not, or is not the one that is declared; empty if it is
}

// declaredModels asks for them. Who may only predict, or asks an older daemon, learns of
// none.
func declaredModels(c *cobra.Command, d *daemon) []declaredModel {
	all := []declaredModel{}
	info, err := call(c, d, "describing the daemon", d.control.Info, &controlapi.InfoRequest{})
	if err != nil {
		return all
	}
	for _, m := range info.GetDeclared() {
		all = append(all, declaredModel{m.GetName(), m.GetPath(), m.GetLoaded(), m.GetReason()})
	}
	return all
}

// writeMissing says what is not as the configuration has it.
func writeMissing(w io.Writer, declared []declaredModel) {
	for _, m := range declared {
		switch {
		case m.Reason == "":
		case m.Loaded:
			fmt.Fprintf(w, "\n%s is not served as declared, from %s: %s\n", m.Name, m.Path, oneLine(m.Reason))
		default:
			fmt.Fprintf(w, "\n%s is declared and not loaded, from %s: %s\n", m.Name, m.Path, oneLine(m.Reason))
		}
	}
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
