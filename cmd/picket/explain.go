package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	controlapi "github.com/picket-ml/picket/internal/api/control"
)

// explanation is what `picket explain --json` prints.
type explanation struct {
	Name   string `json:"name"`
	Chosen string `json:"chosen"` // the backend
	// GPUs are the UUIDs of those that run it; empty for the processor.
	GPUs       []string    `json:"gpus"`
	Candidates []candidate `json:"candidates"`
	// Settings are the keys of model_defaults with the values in force.
	Settings map[string]string `json:"settings"`
	// Package is what the model came from; null for a bare folder.
	Package *explainedPackage `json:"package"`

	order []string // of the settings
}

// explainedPackage is a package, and which of its variants was taken.
type explainedPackage struct {
	Name     string             `json:"name"`
	Version  string             `json:"version"`
	Digest   string             `json:"digest"`
	Signer   string             `json:"signer"` // empty where no signature was verified
	Variants []explainedVariant `json:"variants"`
}

type explainedVariant struct {
	Name   string `json:"name"`
	Chosen bool   `json:"chosen"`
	Reason string `json:"reason"`
}

// candidate is one way to run a model.
type candidate struct {
	Backend  string   `json:"backend"`
	Variant  string   `json:"variant"`
	USPerRow *float64 `json:"us_per_row"` // null when it was not measured
	Reason   string   `json:"reason"`
	Chosen   bool     `json:"chosen"`
}

func newExplain(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "explain NAME",
		Short:   "Say which backend runs NAME and how, and why the others do not",
		Example: `  picket explain fraud`,
		Args:    cobra.ExactArgs(1),
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	c.RunE = withDaemon(flags, func(c *cobra.Command, d *daemon, args []string) error {
		answer, err := call(c, d, fmt.Sprintf("explaining model %q", args[0]), d.control.Explain, &controlapi.ExplainRequest{Name: args[0]})
		if err != nil {
			return err
		}
		e := explanation{Name: answer.GetName(), Chosen: answer.GetChosen(), GPUs: append([]string{}, answer.GetGpus()...), Candidates: []candidate{}, Settings: map[string]string{}}
		for _, one := range answer.GetCandidates() {
			e.Candidates = append(e.Candidates, candidate{
				Backend: one.GetBackend(), Variant: one.GetVariant(), USPerRow: one.UsPerRow, Reason: one.GetReason(), Chosen: one.GetChosen(),
			})
		}
		for _, s := range answer.GetSettings() {
			e.Settings[s.GetKey()] = s.GetValue()
			e.order = append(e.order, s.GetKey())
		}
		e.Package = explainedPackageOf(answer.GetPackage())
		if *asJSON {
			return writeJSON(c.OutOrStdout(), e)
		}
		return e.write(c.OutOrStdout())
	})
	completeModel(c, flags)
	return c
}

func explainedPackageOf(p *controlapi.Package) *explainedPackage {
	if p == nil {
		return nil
	}
	out := &explainedPackage{Name: p.GetName(), Version: p.GetVersion(), Digest: p.GetDigest(), Signer: p.GetSigner(), Variants: []explainedVariant{}}
	for _, v := range p.GetVariants() {
		out.Variants = append(out.Variants, explainedVariant{v.GetName(), v.GetChosen(), v.GetReason()})
	}
	return out
}

// write prints the package and the variant taken from it.
func (p *explainedPackage) write(w io.Writer) error {
	signer := p.Signer
	if signer == "" {
		signer = "nobody who was checked"
	}
	fmt.Fprintf(w, "\nIt comes from %s, version %s\n  digest  %s\n  signed  by %s\n", p.Name, p.Version, p.Digest, signer)
	if len(p.Variants) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nVARIANT\tWHY")
	for _, v := range p.Variants {
		fmt.Fprintf(table, "%s\t%s\n", v.Name, v.Reason)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the explanation: %w", err)
	}
	return nil
}

// write prints the variant, whose name may be long, below the reason.
func (e explanation) write(w io.Writer) error {
	on := ""
	if len(e.GPUs) > 0 {
		on = " on " + strings.Join(e.GPUs, ", ")
	}
	fmt.Fprintf(w, "%s is run by %s%s\n\n", e.Name, e.Chosen, on)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "BACKEND\tUS/ROW\tWHY")
	for _, one := range e.Candidates {
		us := "-"
		if one.USPerRow != nil {
			us = strconv.FormatFloat(*one.USPerRow, 'f', 3, 64)
		}
		lines := wrap(one.Reason, 80-20)
		if one.Variant != "" {
			lines = append(lines, one.Variant)
		}
		for i, line := range lines {
			if i > 0 {
				one.Backend, us = "", ""
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", one.Backend, us, line)
		}
	}
	fmt.Fprintln(table)
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the explanation: %w", err)
	}
	var settings []string
	for _, key := range e.order {
		if value := e.Settings[key]; value != "" {
			settings = append(settings, key+" "+value)
		}
	}
	for _, line := range wrap(strings.Join(settings, ", "), 80) {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return fmt.Errorf("writing the explanation: %w", err)
		}
	}
	if e.Package != nil {
		return e.Package.write(w)
	}
	return nil
}
