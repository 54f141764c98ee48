package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/packaging"
)

func newPackage() *cobra.Command {
	c := &cobra.Command{
		Use:   "package",
		Short: "Build, sign, verify, show, push and pull packages",
		Long: `Build, sign, verify, show, push and pull packages: one file with everything that
a host needs to run a model, and a signature over all of it. No daemon is asked.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPackageBuild(), newPackageSign(), newPackageVerify(), newPackageShow(), newPackagePush(), newPackagePull())
	return c
}

// opened is a package as a file, or as the folder that it was unpacked to.
type opened struct {
	*packaging.Archive
	file *os.File
	root *os.Root
}

// openPackage opens the package at path. The caller closes it.
func openPackage(c *cobra.Command, path string) (_ *opened, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(err)
	}
	o := &opened{}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	if info.IsDir() {
		if o.root, err = os.OpenRoot(path); err != nil {
			return nil, fileError(err)
		}
		o.Archive, err = packaging.OpenFolder(o.root)
		return o, err
	}
	if o.file, err = os.Open(path); err != nil {
		return nil, fileError(err)
	}
	o.Archive, err = packaging.Open(c.Context(), o.file)
	return o, err
}

// close closes what was only read.
func (o *opened) close() {
	if o.Archive != nil {
		_ = o.Close()
	}
	if o.file != nil {
		_ = o.file.Close()
	}
	if o.root != nil {
		_ = o.root.Close()
	}
}

// fileError is an error of the file system without the path, which the sentence has already.
func fileError(err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		return p.Err
	}
	return err
}

// packageSummary is what the commands print of a package.
type packageSummary struct {
	File     string             `json:"file"`
	Name     string             `json:"name"`
	Version  string             `json:"version"`
	Digest   string             `json:"digest"`
	Variants []packageVariant   `json:"variants"`
	Inputs   []packaging.Tensor `json:"inputs"`
	Outputs  []packaging.Tensor `json:"outputs"`
	Source   *packaging.Source  `json:"source_model"`
	Warmup   int                `json:"warmup_rows"`
	Files    []packaging.File   `json:"files"`
	Signed   bool               `json:"signed"`
}

// packageVariant is a build in a package, and whether this host could run it.
type packageVariant struct {
	packaging.Variant
	Chosen bool   `json:"chosen"`
	Reason string `json:"reason"`
}

func summaryOf(file string, m *packaging.Manifest, digest string) packageSummary {
	s := packageSummary{
		File: file, Name: m.Name, Version: m.Version, Digest: digest, Variants: []packageVariant{}, Inputs: []packaging.Tensor{},
		Outputs: []packaging.Tensor{}, Source: m.Source, Files: m.Files,
	}
	for _, v := range m.Variants {
		s.Variants = append(s.Variants, packageVariant{Variant: v})
	}
	if m.Signature != nil {
		s.Inputs, s.Outputs = m.Signature.Inputs, m.Signature.Outputs
	}
	if m.Warmup != nil {
		s.Warmup = m.Warmup.Rows
	}
	return s
}

// bytes is what the files have together.
func (s packageSummary) bytes() int64 {
	total := int64(0)
	for _, f := range s.Files {
		total += f.Size
	}
	return total
}

// requiresText says what a variant asks of a host.
func requiresText(r packaging.Requires) string {
	text := ""
	add := func(format, value string) {
		if value == "" {
			return
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf(format, value)
	}
	if r.Level == "" {
		add("%s", r.Arch)
	}
	add("%s", r.Level)
	for _, f := range r.Features {
		add("%s", f)
	}
	add("glibc %s", r.Glibc)
	if r.GPU != nil {
		add("%s", "a GPU")
		add("compute capability %s", r.GPU.ComputeCapability)
	}
	if text == "" {
		return "any host"
	}
	return text
}
