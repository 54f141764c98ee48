package main

import (
	"slices"
	"time"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
)

// completionPatience is how long a shell is kept waiting for the names of models.
const completionPatience = time.Second

// completeModel makes a command's first argument complete to the names of the models that the daemon serves, where one answers.
// Nothing is offered for those behind it.
func completeModel(c *cobra.Command, flags *daemonFlags) {
	c.ValidArgsFunction = func(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return servedModels(c, flags), cobra.ShellCompDirectiveNoFileComp
	}
}

// servedModels are the names of the models that the daemon serves; none if it cannot be asked.
func servedModels(c *cobra.Command, flags *daemonFlags) []string {
	f := *flags
	f.timeout = min(f.timeout, completionPatience)
	d, err := f.dial()
	if err != nil {
		return nil
	}
	defer d.Close()
	answer, err := call(c, d, "listing the models", d.agent.ListModels, &agentapi.ListModelsRequest{})
	if err != nil {
		return nil
	}
	names := make([]string, len(answer.GetModels()))
	for i, m := range answer.GetModels() {
		names[i] = m.GetName()
	}
	slices.Sort(names)
	return names
}

// completeFlag makes a flag complete to some words.
func completeFlag(c *cobra.Command, flag string, words ...cobra.Completion) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}
