package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/store"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

// shown is what `picket package show --json` prints.
type shown struct {
	packageSummary
	// Claim is who the signature says it is of. Nobody has checked it.
	Claim string `json:"claimed_signer"`
}

func newPackageShow() *cobra.Command {
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "Show what is in a package, and what this host would take",
		Long: `Show what the package FILE, or the folder that one was unpacked to, says of
itself, and which of its variants this host would take. Only the manifest is
read, and nobody's signature is checked: that is what picket package verify
does.`,
		Example: `  picket package show fraud-3.tar.gz`,
		Args:    cobra.ExactArgs(1),
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		s, err := show(c, args[0])
		if err != nil {
			return fmt.Errorf("showing %s: %w", args[0], err)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		return s.write(c.OutOrStdout())
	})
	return c
}

func show(c *cobra.Command, path string) (s shown, err error) {
	p, err := openPackage(c, path)
	if err != nil {
		return s, err
	}
	defer p.close()
	host, err := hostOf(c.Context())
	if err != nil {
		return s, err
	}
	s.packageSummary = summaryOf(path, p.Manifest, p.Digest())
	_, variants := store.Choose(p.Manifest, host)
	for i, v := range variants {
		s.Variants[i].Chosen, s.Variants[i].Reason = v.Chosen, v.Reason
	}
	if s.Signed = p.Bundle != nil; s.Signed {
		if s.Claim, err = signing.Claim(p.Bundle); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s shown) write(w io.Writer) error {
	fmt.Fprintf(w, "%s, version %s\n  digest   %s\n", s.Name, s.Version, s.Digest)
	signer := "nobody"
	if s.Signed {
		signer = s.Claim + ", as it says itself"
	}
	fmt.Fprintf(w, "  signed   by %s\n", signer)
	fmt.Fprintf(w, "  files    %d, %d bytes\n", len(s.Files), s.bytes())
	if s.Source != nil {
		fmt.Fprintf(w, "  source   %s sha256:%s\n", s.Source.File, s.Source.SHA256)
	}
	for _, list := range []struct {
		name    string
		tensors []packaging.Tensor
	}{{"input", s.Inputs}, {"output", s.Outputs}} {
		for _, t := range list.tensors {
			fmt.Fprintf(w, "  %-8s %s %s [%s]\n", list.name, t.Name, t.DType, strings.Trim(strings.ReplaceAll(fmt.Sprint(t.Shape), " ", ", "), "[]"))
		}
	}
	if s.Warmup > 0 {
		fmt.Fprintf(w, "  warm-up  %d rows with their answers\n", s.Warmup)
	}
	fmt.Fprintln(w)
	return writeVariants(w, s.Variants)
}

func writeVariants(w io.Writer, variants []packageVariant) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VARIANT\tFOR\tON THIS HOST")
	for _, v := range variants {
		fmt.Fprintf(table, "%s\t%s\t%s\n", v.Name, requiresText(v.Requires), v.Reason)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("writing the variants: %w", err)
	}
	return nil
}
