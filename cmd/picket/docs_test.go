package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/testkit"
)

var (
	codeBlock   = regexp.MustCompile("(?ms)^ *```(.*?)$(.*?)^ *```")
	codeSpan    = regexp.MustCompile("`((?:bin/)?picketd? [^`\n]*)`")
	alternation = regexp.MustCompile(`^[a-z]+(\|[a-z]+)+$`)
)

// A document's commands are taken as they stand there: every picket and picketd of its shell blocks with its flags and arguments, and what its sentences name,
// which may leave arguments out.
func TestDocumentedCommands(t *testing.T) {
	blocks, spans := 0, 0
	root := os.DirFS(testkit.ModuleRoot())
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules"):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		for _, block := range codeBlock.FindAllStringSubmatch(string(content), -1) {
			if kind, _, _ := strings.Cut(block[1], " "); kind != "sh" && kind != "bat" {
				continue
			}
			for line := range strings.Lines(strings.ReplaceAll(block[2], "\\\n", " ")) {
				for _, words := range shellCommands(line) {
					blocks++
					if err := takes(words, true); err != nil {
						t.Errorf("%s: %s: %v", name, strings.TrimSpace(line), err)
					}
				}
			}
		}
		for _, span := range codeSpan.FindAllStringSubmatch(codeBlock.ReplaceAllString(string(content), ""), -1) {
			for _, words := range shellCommands(strings.NewReplacer(`\|`, "|", "[", "", "]", "").Replace(span[1])) {
				spans++
				if err := takes(words, false); err != nil {
					t.Errorf("%s: `%s`: %v", name, span[1], err)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if blocks < 80 || spans < 80 {
		t.Errorf("there are only %d commands in blocks and %d in sentences", blocks, spans)
	}
}

func TestDocumentedCommandsAreJudged(t *testing.T) {
	for line, want := range map[string]struct{ whole, mention bool }{
		"picket list":                             {true, true},
		"picket load fraud":                       {false, true},
		"picket load fraud fraud@3":               {true, true},
		"picket load fraud fraud@3 --forse":       {false, false},
		"picket package bild":                     {false, false},
		"picket compile --target":                 {false, true},
		"picket spool ls|cat":                     {false, true},
		"picket spool ls|cut":                     {false, false},
		"picket --sockets tcp://HOST:PORT":        {false, true},
		"picket":                                  {false, true},
		"picketd health --sockets /run/picket":    {true, true},
		"picketd --config c.yaml --model a=b":     {true, true},
		"picketd --confg c.yaml":                  {false, false},
		"picketd c.yaml":                          {false, false},
		"picketd service install":                 {true, true},
		"picketd --help":                          {true, true},
		"picket predict --protocol agent|oip fra": {true, true},
	} {
		words := strings.Fields(line)
		if err := takes(words, true); (err == nil) != want.whole {
			t.Errorf("%s, whole: %v", line, err)
		}
		if err := takes(words, false); (err == nil) != want.mention {
			t.Errorf("%s, mentioned: %v", line, err)
		}
	}
}

// takes says what is wrong with a command line of picket or picketd. One that is no whole may leave out what a command needs, and name several at once:
// a|b.
func takes(words []string, whole bool) error {
	for i, word := range words {
		if !whole && i > 0 && alternation.MatchString(word) && !strings.HasPrefix(words[i-1], "-") {
			for one := range strings.SplitSeq(word, "|") {
				if err := takes(slices.Concat(words[:i], []string{one}, words[i+1:]), whole); err != nil {
					return err
				}
			}
			return nil
		}
	}
	root := newRoot(os.Getenv)
	if path.Base(words[0]) == "picketd" {
		root = commandline.Picketd(new(config.Flags), new(bool))
		root.Args, root.Run = cobra.NoArgs, func(*cobra.Command, []string) {}
		service := &cobra.Command{Use: "service"} // Windows's, which make test-windows runs
		for _, use := range []string{"install", "uninstall"} {
			service.AddCommand(&cobra.Command{Use: use, Run: root.Run})
		}
		root.AddCommand(service, commandline.PicketdHealth(os.Getenv, nil))
	}
	command, rest, err := root.Find(words[1:])
	if err == nil {
		err = command.ParseFlags(rest)
	}
	if !whole && err != nil && strings.HasPrefix(err.Error(), "flag needs an argument") {
		return nil
	}
	if errors.Is(err, pflag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	args := command.Flags().Args()
	switch {
	case command.HasSubCommands() && len(args) > 0:
		return fmt.Errorf("%s has no command %s", command.CommandPath(), args[0])
	case whole && command.HasSubCommands() && command.CommandPath() != "picketd":
		return fmt.Errorf("%s is no whole command", command.CommandPath())
	case whole:
		return command.ValidateArgs(args)
	}
	return nil
}

// shellCommands are the calls of picket and picketd in a line for a shell, each as its words: without assignments before it, whose call it is made in
// (runuser, a substitution), redirections, and comments. What is in quotes is one word, whatever it says.
func shellCommands(line string) (calls [][]string) {
	var words []string
	word, in, quote, redirected := "", false, rune(0), false
	endWord := func() {
		if in && !redirected {
			words = append(words, word)
		}
		if in {
			redirected = false
		}
		word, in = "", false
	}
	endCall := func() {
		endWord()
		redirected = false
		if len(words) > 1 && words[0] == "runuser" {
			words = words[slices.Index(words, "--")+1:]
		}
		for len(words) > 0 && strings.Contains(words[0], "=") {
			words = words[1:]
		}
		if len(words) > 0 && (path.Base(words[0]) == "picket" || path.Base(words[0]) == "picketd") {
			calls = append(calls, words)
		}
		words = nil
	}
	runes := []rune(line)
	for i, r := range runes {
		alternative := r == '|' && in && i+1 < len(runes) && runes[i+1] >= 'a' && runes[i+1] <= 'z'
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word += string(r)
		case r == '\'' || r == '"':
			quote, in = r, true
		case r == '#' && !in:
			endCall()
			return calls
		case r == ' ' || r == '\t' || r == '\n':
			endWord()
		case r == '<' || r == '>':
			endWord()
			redirected = true
		case strings.ContainsRune("|&;()", r) && !alternative:
			endCall()
		default:
			word, in = word+string(r), true
		}
	}
	endCall()
	return calls
}
