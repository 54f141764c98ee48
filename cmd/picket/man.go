package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/picket-ml/picket/internal/commandline"
	"github.com/picket-ml/picket/internal/config"
)

func newMan() *cobra.Command {
	c := &cobra.Command{
		Use:    "man -o DIR",
		Short:  "Write the manual pages of picket, picketd and the configuration",
		Hidden: true, // for whoever packs them
		Long: `Write the manual pages of picket and of each of its commands (section 1), of
picketd (section 8) and of its configuration (section 5) into the folder DIR.
The same version writes the same pages.`,
		Example: `  picket man -o build/man`,
		Args:    cobra.NoArgs,
	}
	out := c.Flags().StringP("output", "o", "", "the folder to write to, `DIR`")
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		if *out == "" {
			return usage("say where the pages go: -o DIR")
		}
		if err := os.MkdirAll(*out, 0o755); err != nil {
			return fmt.Errorf("writing the manual pages: %w", err)
		}
		for name, page := range manualPages() {
			path := filepath.Join(*out, name)
			if err := os.WriteFile(path, page, 0o644); err != nil {
				_ = os.Remove(path) // half a page is none
				return fmt.Errorf("writing the manual pages: %w", err)
			}
		}
		return nil
	})
	return c
}

// manualPages are all pages by their files' names.
func manualPages() map[string][]byte {
	pages := map[string][]byte{"picket-config.5": configPage()}
	var each func(*cobra.Command)
	each = func(c *cobra.Command) {
		pages[pageName(c)+".1"] = commandPage(c, "1", "picket-config(5), picketd(8)")
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() {
				each(child)
			}
		}
	}
	each(newRoot(func(string) string { return "" })) // with the defaults of a host on which nothing is set
	var flags config.Flags
	var version bool
	daemon := commandline.Picketd(&flags, &version)
	pages["picketd.8"] = commandPage(daemon, "8", "picketd-health(8), picket(1), picket-config(5)")
	asked := commandline.PicketdHealth(func(string) string { return "" }, nil)
	daemon.AddCommand(asked) // which names it
	pages["picketd-health.8"] = commandPage(asked, "8", "picket(1)")
	return pages
}

func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// manual is a page as troff's macros for manual pages write it. Cobra has a writer of its own, which takes help for Markdown: tables
// of ours, * and _ do not survive that.
type manual struct{ bytes.Buffer }

func (m *manual) title(name, section, short string) {
	fmt.Fprintf(m, ".TH \"%s\" %s \"\" \"picket %s\" \"Picket\"\n", manEscape(strings.ToUpper(name)), section, manEscape(version))
	fmt.Fprintf(m, ".SH NAME\n%s \\- %s\n", manEscape(name), manEscape(short))
}

// text writes paragraphs. Lines that are indented stay as they are.
func (m *manual) text(text string) {
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			m.WriteString(".PP\n")
		}
		asIs := false
		for line := range strings.Lines(paragraph) {
			line = strings.TrimRight(strings.ReplaceAll(line, "\t", "  "), "\n")
			if indented := strings.HasPrefix(line, "  "); indented != asIs && line != "" {
				asIs = indented
				m.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[asIs])
			}
			m.WriteString(manLine(line) + "\n")
		}
		if asIs {
			m.WriteString(".fi\n")
		}
	}
}

// verbatim writes lines as they are.
func (m *manual) verbatim(text string) {
	m.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		m.WriteString(manLine(strings.TrimRight(line, "\n")) + "\n")
	}
	m.WriteString(".fi\n")
}

func (m *manual) options(heading string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	fmt.Fprintf(m, ".SH %s\n", heading)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" {
			return
		}
		value, help := pflag.UnquoteUsage(f)
		m.WriteString(".TP\n")
		if f.Shorthand != "" {
			fmt.Fprintf(m, `\fB\-%s\fR, `, f.Shorthand)
		}
		fmt.Fprintf(m, `\fB\-\-%s\fR`, manEscape(f.Name))
		if value != "" {
			fmt.Fprintf(m, ` \fI%s\fR`, manEscape(value))
		}
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" {
			help += fmt.Sprintf(" (default %s)", d)
		}
		m.WriteString("\n" + manLine(strings.ReplaceAll(help, "\n", " ")) + "\n")
	})
}

// commandPage is the page of a command.
func commandPage(c *cobra.Command, section, also string) []byte {
	c.InitDefaultHelpFlag()
	var m manual
	m.title(pageName(c), section, c.Short)
	m.WriteString(".SH SYNOPSIS\n")
	for _, line := range strings.Split(c.UseLine(), "\n") {
		fmt.Fprintf(&m, "\\fB%s\\fR%s\n", manEscape(c.CommandPath()), manEscape(strings.TrimPrefix(line, c.CommandPath())))
	}
	m.WriteString(".SH DESCRIPTION\n")
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	m.text(long)
	if c.HasAvailableSubCommands() {
		m.WriteString(".SH COMMANDS\n")
		for _, child := range c.Commands() {
			if child.IsAvailableCommand() {
				fmt.Fprintf(&m, ".TP\n\\fB%s\\fR(%s)\n%s\n", manEscape(pageName(child)), section, manLine(child.Short))
			}
		}
	}
	m.options("OPTIONS", c.NonInheritedFlags())
	if c.HasParent() {
		m.options("OPTIONS OF ALL COMMANDS OF "+manEscape(strings.ToUpper(c.Parent().CommandPath())), c.InheritedFlags())
	}
	if c.Example != "" {
		m.WriteString(".SH EXAMPLES\n")
		m.verbatim(c.Example)
	}
	if c.HasParent() {
		also = pageName(c.Parent()) + "(" + section + "), " + also
	}
	m.WriteString(".SH SEE ALSO\n" + manLine(also) + "\n")
	return m.Bytes()
}

// configPage is the example of the configuration, a section for each key at its top.
func configPage() []byte {
	var m manual
	m.title("picket-config", "5", "the configuration file of picketd")
	m.WriteString(".SH DESCRIPTION\n")
	lines := strings.Split(config.Example(), "\n")
	i := 0
	var intro []string
	for ; i < len(lines) && strings.HasPrefix(lines[i], "#"); i++ {
		intro = append(intro, strings.TrimPrefix(strings.TrimPrefix(lines[i], "#"), " "))
	}
	m.text(strings.Join(intro, "\n"))
	for i < len(lines) {
		start, key := i, ""
		for ; i < len(lines); i++ {
			name, _, found := strings.Cut(lines[i], ":")
			if key != "" && (lines[i] == "" || !strings.HasPrefix(lines[i], " ")) {
				break // what belongs to a key is indented
			}
			if found && name != "" && !strings.ContainsAny(name[:1], "# -") {
				key = name
			}
		}
		if key != "" {
			m.WriteString(".SH " + manEscape(key) + "\n")
			m.verbatim(strings.Trim(strings.Join(lines[start:i], "\n"), "\n"))
		}
		if i < len(lines) && lines[i] == "" {
			i++
		}
	}
	m.WriteString(".SH FILES\n/etc/picket/picketd.yaml\n.SH SEE ALSO\npicketd(8), picket(1)\n")
	return m.Bytes()
}

// manEscape keeps troff from seeing anything in a text.
func manEscape(text string) string {
	return strings.NewReplacer(`\`, `\e`, `-`, `\-`, `"`, `\(dq`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`).Replace(text)
}

// manLine is manEscape for a line of its own, which may begin with a dot.
func manLine(line string) string {
	line = manEscape(line)
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}
