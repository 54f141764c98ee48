package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/backends"
	"github.com/picket-ml/picket/internal/hw"
)

// backendStatus is what a backend's probe said of this host.
type backendStatus struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Reason string `json:"reason"` // why not, in a sentence; empty when it is ok
}

func newInfo() *cobra.Command {
	c := &cobra.Command{
		Use:   "info",
		Short: "Describe this host and say which backends work on it",
		Long: `Describe this host as Picket may use it, and say which backends work on it. No
daemon is asked.

PICKET_CPU_MASK takes processor features away (avx2, or all above x86-64-v3),
PICKET_INSTANCE_TYPE names the instance type, and PICKET_IMDS=off keeps from
asking the EC2 instance metadata service for it.`,
		Example: `  picket info
  PICKET_CPU_MASK=x86-64-v3 picket info --json`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		host, err := detect(c.Context(), os.Getenv)
		if err != nil {
			return err
		}
		statuses, err := probe(host)
		if err != nil {
			return err
		}
		if *asJSON {
			document, err := infoJSON(host, statuses)
			if err != nil {
				return err
			}
			return writeJSON(c.OutOrStdout(), document)
		}
		if err := host.WriteTable(c.OutOrStdout()); err != nil {
			return err
		}
		return writeBackends(c.OutOrStdout(), statuses)
	})
	return c
}

// detect looks at the host, and meanwhile asks which instance it is.
func detect(ctx context.Context, getenv func(string) string) (*hw.Host, error) {
	options, err := hostOptions(getenv)
	if err != nil {
		return nil, err
	}
	instance := make(chan hw.Instance, 1)
	go func() { instance <- hw.DetectInstance(ctx, options) }()
	host := hw.Detect(ctx, options)
	return host.WithInstance(<-instance), nil
}

// hostOf is the host without asking anybody over a network.
func hostOf(ctx context.Context) (*hw.Host, error) {
	options, err := hostOptions(os.Getenv)
	if err != nil {
		return nil, err
	}
	return hw.Detect(ctx, options), nil
}

func hostOptions(getenv func(string) string) (hw.Options, error) {
	options, err := hw.OptionsFromEnv(getenv)
	if err != nil {
		return options, fmt.Errorf("reading the environment: %w", err)
	}
	if self, err := os.Executable(); err == nil {
		options.GPUCommand = []string{self, gpuReportCommand}
	}
	return options, nil
}

// probe asks every backend whether it works on host.
func probe(host *hw.Host) ([]backendStatus, error) {
	statuses := []backendStatus{}
	list := backends.All(backends.Options{})
	for _, b := range list {
		status := backendStatus{Name: b.Name(), OK: true}
		if err := b.Probe(host); err != nil {
			status.OK, status.Reason = false, err.Error()
		}
		statuses = append(statuses, status)
	}
	return statuses, backends.Close(list)
}

// infoJSON is the host's own document with the backends as its last member.
func infoJSON(host *hw.Host, statuses []backendStatus) (json.RawMessage, error) {
	document, err := json.Marshal(host)
	if err != nil {
		return nil, fmt.Errorf("describing the host: %w", err)
	}
	list, err := json.Marshal(statuses)
	if err != nil {
		return nil, fmt.Errorf("describing the backends: %w", err)
	}
	document = bytes.TrimSuffix(document, []byte("}"))
	return fmt.Appendf(document, `,"backends":%s}`, list), nil
}

func writeBackends(w io.Writer, statuses []backendStatus) error {
	table := tabwriter.NewWriter(w, 16, 0, 0, ' ', 0)
	fmt.Fprintln(table, "\nBackends")
	for _, s := range statuses {
		text := "ok"
		if !s.OK {
			text = "no: " + s.Reason
		}
		for i, line := range wrap(text, 80-16) {
			name := "  " + s.Name
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(table, "%s\t%s\n", name, line)
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the backends: %w", err)
	}
	return nil
}

// wrap breaks text at blanks into lines of at most width characters, except for words that are longer.
func wrap(text string, width int) []string {
	var lines []string
	for word := range strings.FieldsSeq(text) {
		if last := len(lines) - 1; last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= width {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}
