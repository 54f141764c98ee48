package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/picket-ml/picket/internal/commandline"
)

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := &commandline.Output{To: stdout}
	root := newRootTo(out, os.Getenv)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	var failed *failure
	if full := out.Failed(err); full != nil {
		err = &failure{exitFailed, full}
	}
	switch {
	case err == nil:
		return exitDone
	case !errors.As(err, &failed): // cobra's own errors are all about how the command was written
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
func newRoot(getenv func(string) string) *cobra.Command { return newRootTo(os.Stdout, getenv) }

// newRootTo is newRoot with what its commands write to.
func newRootTo(out io.Writer, getenv func(string) string) *cobra.Command {
	root := &cobra.Command{
		Use:   "picket",
		Short: "Look at a host, make models and packages, and talk to a running picketd",
		Long: `Look at a host, make models and packages, and talk to a running picketd.

Exit codes: 0 done, 1 failed, 2 the command was written wrongly, 3 the daemon
cannot be reached, 4 refused by policy (signature, trust, residency, access),
5 compared with a baseline, and violations found.`,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return checkGiven(c) },
		SilenceErrors:     true,
		SilenceUsage:      true,
	}
	root.SetOut(out) // before cobra's own commands are made, which keep it
	flags := newDaemonFlags(getenv)
	flags.add(root.Flags(), "of commands that ask the daemon: ")
	root.Version = version // which makes --version known
	root.SetVersionTemplate(versionLine())
	root.SetUsageTemplate(strings.NewReplacer(
		".FlagUsages ", ".FlagUsagesWrapped 80 ", // terminals are not wider as a rule
		"Usage:{{if .Runnable}}", "Usage:{{if and .Runnable (not .HasAvailableSubCommands)}}", // what has commands does no more than to list them
	).Replace(root.UsageTemplate()))
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Models on the daemon:", []*cobra.Command{newLoad(flags), newUnload(flags), newList(flags), newReload(flags), newPredict(flags), newExplain(flags), newTop(flags), newTruth(flags)}},
		{"Models and packages, without the daemon:", []*cobra.Command{newCompile(), newPackage(), newPipeline(), newScore(), newMonitor()}},
		{"What was captured:", []*cobra.Command{newSpool(), newCapture(), newAudit()}},
		{"Hosts:", []*cobra.Command{newInfo(), newBench(), newFleet(getenv), newMigrate(getenv)}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.title
			root.AddCommand(c)
		}
	}
	root.AddCommand(newVersion(), newGPUReport(), newMan())
	root.InitDefaultHelpCmd()
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, args []string) error { return helpTopic(root, args) }
	}
	root.InitDefaultCompletionCmd("completion")
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args = cobra.NoArgs // cobra itself answers a shell it does not know with the help, as if all were well
		completion.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		completion.Short = "Print a script with which a shell completes picket's command lines"
		completion.Long = completion.Short + ":\ncommands, flags, files, and the names of the models that the daemon serves."
		for _, shell := range completion.Commands() {
			c := completions[shell.Name()]
			shell.Short, shell.Long, shell.Example = "Print the script for "+c.shell, c.long, c.example
		}
	}
	for _, c := range root.Commands() {
		argumentsInWords(c)
	}
	return root
}

// mayBeEmpty are the flags whose empty value says something: no page, no title, no reason.
var mayBeEmpty = []string{"page", "title", "reason"}

// checkGiven refuses flags that were given without a value, as of a variable that is not set: the default is not what was meant.
func checkGiven(c *cobra.Command) error {
	var empty []string
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && !slices.Contains(mayBeEmpty, f.Name) {
			empty = append(empty, "--"+f.Name)
		}
	})
	if len(empty) > 0 {
		return usage("%s given without a value: name one, or leave the flag out", strings.Join(empty, " and "))
	}
	return nil
}

// helpTopic refuses to explain what there is not, which cobra does on standard output, as if all were well.
func helpTopic(root *cobra.Command, topic []string) error {
	found, rest, err := root.Find(topic)
	switch {
	case err != nil:
		return usage("%s", oneLine(err.Error()))
	case len(rest) > 0:
		return usage("unknown command %q for %q%s", rest[0], found.CommandPath(), suggestion(found, rest[0]))
	}
	return nil
}

// argumentsInWords has a command, and those below it, name what is missing or too much where cobra would count it.
func argumentsInWords(c *cobra.Command) {
	for _, child := range c.Commands() {
		argumentsInWords(child)
	}
	check := c.Args
	if check == nil {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		err := check(c, args)
		var failed *failure
		if err == nil || errors.As(err, &failed) {
			return err
		}
		if c.HasAvailableSubCommands() {
			return usage("unknown command %q for %q%s", args[0], c.CommandPath(), suggestion(c, args[0]))
		}
		for n := len(args) - 1; n >= 0; n-- {
			if check(c, args[:n]) == nil {
				return usage("%q is one argument too many", args[n])
			}
		}
		missing := positional(c.Use)
		missing = missing[min(len(args), len(missing)):]
		verb := "is"
		if len(missing) > 1 {
			verb = "are"
		}
		return usage("%s %s missing", strings.Join(missing, " and "), verb)
	}
}

// positional are the arguments without which a command does nothing, as its line of usage names them.
func positional(use string) (names []string) {
	words := strings.Fields(use)[1:]
	if len(words) > 0 && strings.HasPrefix(words[0], "(") {
		return []string{strings.Trim(strings.Join(words, " "), "()")} // one of several
	}
	for _, word := range words {
		if strings.ContainsAny(word[:1], "-[(") {
			break
		}
		names = append(names, strings.TrimSuffix(word, "..."))
	}
	return names
}

// suggestion says which command of c may have been meant.
func suggestion(c *cobra.Command, typed string) string {
	c.SuggestionsMinimumDistance = max(c.SuggestionsMinimumDistance, 2)
	if near := c.SuggestionsFor(typed); len(near) > 0 {
		return "; did you mean " + strings.Join(near, " or ")
	}
	return ""
}

// completions are how each shell is told.
var completions = map[string]struct{ shell, long, example string }{
	"bash": {"bash", `Print the script for bash, which needs the package bash-completion. Shells that
begin later read it where the example puts it.`, `  picket completion bash > /etc/bash_completion.d/picket`},
	"zsh": {"zsh", `Print the script for zsh. Shells that begin later read it where the example puts
it, if ~/.zshrc has "autoload -U compinit; compinit".`, `  picket completion zsh > "${fpath[1]}/_picket"`},
	"fish": {"fish", `Print the script for fish. Shells that begin later read it where the example
puts it.`, `  picket completion fish > ~/.config/fish/completions/picket.fish`},
	"powershell": {"PowerShell", `Print the script for PowerShell. The example has this session read it; in the
profile, all that follow.`, `  picket completion powershell | Out-String | Invoke-Expression`},
}

// oneLine puts cobra's suggestions into the sentence.
func oneLine(message string) string {
	message, suggestions, found := strings.Cut(message, "\n\nDid you mean this?\n")
	if found {
		message += "; did you mean " + strings.Join(strings.Fields(suggestions), " or ")
	}
	// What a flag's number is read by says the text once more.
	if before, after, found := strings.Cut(message, ": strconv."); found {
		message = before + after[strings.LastIndex(after, ": "):]
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
