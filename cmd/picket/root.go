package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(os.Getenv)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var failed *failure
	if !errors.As(err, &failed) { // cobra's own errors are all about how the command was written
		failed = usage("%s", oneLine(err.Error()))
	}
	fmt.Fprintf(stderr, "picket: %s", joined(failed.Error()))
	if failed.code == exitUsage && !errors.As(failed, new(configMistake)) {
		fmt.Fprintf(stderr, "; see %s --help", command.CommandPath())
	}
	fmt.Fprintln(stderr)
	return failed.code
}

// newRoot is picket with all its commands. Defaults come from the environment that getenv knows.
func newRoot(getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "picket",
		Short: "Look at a host, make models and packages, and talk to a running picketd",
		Long: `Look at a host, make models and packages, and talk to a running picketd.

Exit codes: 0 done, 1 failed, 2 the command was written wrongly, 3 the daemon
cannot be reached, 4 refused by policy (signature, trust, residency, access),
5 compared with a baseline, and violations found.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := addDaemonFlags(root, getenv)
	// Terminals are not wider as a rule.
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
	root.AddCommand(
		newInfo(),
		newLoad(flags),
		newUnload(flags),
		newList(flags),
		newReload(flags),
		newPredict(flags),
		newScore(),
		newTop(flags),
		newExplain(flags),
		newCompile(),
		newPackage(),
		newPipeline(),
		newMonitor(),
		newFleet(getenv),
		newBench(),
		newVersion(),
		newGPUReport(),
		newSpool(),
		newTruth(flags),
		newCapture(),
		newAudit(),
		newMan(),
		newMigrate(flags),
	)
	root.InitDefaultCompletionCmd("completion")
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args = cobra.NoArgs // cobra itself answers a shell it does not know with the help, as if all were well
		completion.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		for _, shell := range completion.Commands() {
			shell.Example = completionExamples[shell.Name()]
		}
	}
	return root
}

// completionExamples are how each shell is told.
var completionExamples = map[string]string{
	"bash":       `  picket completion bash > /etc/bash_completion.d/picket`,
	"zsh":        `  picket completion zsh > "${fpath[1]}/_picket"`,
	"fish":       `  picket completion fish > ~/.config/fish/completions/picket.fish`,
	"powershell": `  picket completion powershell | Out-String | Invoke-Expression`,
}

// oneLine puts cobra's suggestions into the sentence.
func oneLine(message string) string {
	message, suggestions, found := strings.Cut(message, "\n\nDid you mean this?\n")
	if found {
		message += "; did you mean " + strings.Join(strings.Fields(suggestions), " or ")
	}
	return strings.Join(strings.Fields(message), " ")
}

// joined makes one sentence of an error that is several, one a line. Those that have the cause of the one before, as all
// do when a disk is full, add nothing.
func joined(message string) string {
	var sentence, last string
	for line := range strings.Lines(message) {
		line = strings.Join(strings.Fields(line), " ")
		cause := line[strings.LastIndex(line, ": ")+1:]
		switch {
		case line == "" || cause == last:
			continue
		case sentence != "":
			sentence += "; "
		}
		sentence += line
		last = cause
	}
	return sentence
}

// doing makes the body of a command. What it returns that is no failure already is one with exit code 1.
func doing(body func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		err := body(c, args)
		var failed *failure
		if err == nil || errors.As(err, &failed) {
			return err
		}
		return &failure{exitFailed, err}
	}
}
