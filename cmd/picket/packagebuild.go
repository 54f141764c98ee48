package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/assemble"
	"github.com/picket-ml/picket/packaging"
)

func newPackageBuild() *cobra.Command {
	c := &cobra.Command{
		Use:   "build DIR --name N --version V -o OUT",
		Short: "Make a package of one artifact folder or several",
		Long: `Make a package of the artifact folder DIR, such as picket compile or SageMaker
Neo makes one; a folder of just a model file is one too. Its files lie at top
level, where clients of the old agent and libdlr find them. Each --variant adds
another build of the same model; a host takes the best that it can run. What a
build asks of a host is read from its files, and --needs adds to that.

The model is run on some rows, and rows and answers go into the package: a host
on which it answers otherwise will not load it. The rows are --rows, in the form
of picket predict, or 16 that are typical for the model. With --baseline, what
the training set was like goes in too, for the host to compare with.

The same input gives the same package, bit for bit.`,
		Example: `  picket compile fraud.ubj -o fraud
  picket package build fraud --name fraud --version 3 -o fraud-3.tar.gz`,
		Args: cobra.ExactArgs(1),
	}
	var o packaging.BuildOptions
	var variants, needs []string
	var input, baselineDir string
	var noWarmup bool
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "the name of the package")
	f.StringVar(&o.Version, "version", "", "its version")
	f.StringVarP(&o.Out, "output", "o", "", "the file to write, `OUT`, *.tar.gz, or a folder to put NAME-VERSION.tar.gz into; it is made")
	f.StringArrayVar(&variants, "variant", nil, "another build, as `[NAME=]DIR`; may be repeated")
	f.StringArrayVar(&needs, "needs", nil, "what a variant asks of a host besides, as `[NAME=]ITEM,...`: x86-64-v4, avx512vbmi, glibc>=2.28, gpu, compute-capability>=7.5")
	f.StringVar(&input, "rows", "", "the `FILE` with the warm-up rows, CSV or JSON")
	f.StringVar(&baselineDir, "baseline", "", "the `DIR` that picket monitor baseline has written: what the model was trained on")
	f.BoolVar(&noWarmup, "no-warmup", false, "leave warm-up rows and tensors out, as of a model that this host cannot run")
	f.BoolVar(&o.Force, "force", false, "replace a file that is there already")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) (err error) {
		if err := checkBuild(&o, input, noWarmup); err != nil {
			return err
		}
		doing := "building the package " + o.Out
		if o.Variants, err = variantsOf(args[0], variants, needs); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if baselineDir != "" {
			if o.Baseline, err = packedBaseline(c, baselineDir); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
		}
		ctx, stop := interruptible(c)
		defer stop()
		told := &assemble.Answers{}
		if !noWarmup {
			host, err := hostOf(ctx)
			if err != nil {
				return err
			}
			told, err = assemble.Ask(ctx, host, o.Variants, input)
			if errors.Is(err, assemble.ErrCannotRun) {
				return fmt.Errorf("%s: %w: %s; build the package on a host that can, or give --no-warmup", doing, err, strings.Join(told.Left, "; "))
			}
			if err != nil {
				return interrupted(ctx, fmt.Errorf("%s: %w", doing, err), doing, "nothing was written")
			}
			o.Signature, o.Warmup, o.WarmupRows = told.Signature, told.Warmup, told.Rows
		}
		if err := os.MkdirAll(filepath.Dir(o.Out), 0o755); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		built, err := packaging.Build(ctx, o)
		if err != nil {
			return interrupted(ctx, err, doing, "nothing was written")
		}
		s := summaryOf(o.Out, built.Manifest, built.Digest)
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		w := c.OutOrStdout()
		fmt.Fprintf(w, "built %s, %s of version %s: %d files, %.1f KiB in %.1f KiB\n", o.Out, s.Name, s.Version, len(s.Files), float64(s.bytes())/1024, float64(built.Bytes)/1024)
		fmt.Fprintf(w, "  digest   %s\n", s.Digest)
		for _, v := range s.Variants {
			fmt.Fprintf(w, "  variant  %s, for %s\n", v.Name, requiresText(v.Requires))
		}
		if told.Rows > 0 {
			fmt.Fprintf(w, "  warm-up  %d rows, answered by %s\n", told.Rows, strings.Join(told.Ran, ", "))
		}
		if o.Baseline != nil {
			fmt.Fprintf(w, "  baseline of the training set, from %s\n", baselineDir)
		}
		for _, left := range told.Left {
			fmt.Fprintf(w, "  not run  %s\n", left)
		}
		fmt.Fprintf(w, "not signed yet: picket package sign %s --key KEY.pem\n", o.Out)
		return nil
	})
	return c
}

// checkBuild refuses what was written wrongly, and completes the name of the file.
func checkBuild(o *packaging.BuildOptions, input string, noWarmup bool) error {
	if err := packaging.CheckName(o.Name); err != nil {
		return usage("--name: %v", err)
	}
	if err := packaging.CheckVersion(o.Version); err != nil {
		return usage("--version: %v", err)
	}
	if o.Out == "" {
		return usage("the package's file is not named: give it with -o FILE")
	}
	if input != "" && noWarmup {
		return usage("--rows and --no-warmup exclude each other")
	}
	info, err := os.Stat(o.Out)
	if err == nil && info.IsDir() || errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(o.Out, ".tar.gz") {
		o.Out = strings.TrimSuffix(o.Out, "/") + "/" + packaging.FileName(o.Name, o.Version)
	}
	return nil
}

// variantsOf finds out what each folder asks of a host.
func variantsOf(first string, more, needs []string) ([]packaging.BuildVariant, error) {
	var list []packaging.BuildVariant
	for i, text := range append([]string{first}, more...) {
		v := packaging.BuildVariant{Dir: text}
		if name, dir, named := strings.Cut(text, "="); named && i > 0 {
			v.Name, v.Dir = name, dir
		}
		var err error
		if v.Requires, err = assemble.Needs(v.Dir); err != nil {
			return nil, fmt.Errorf("the folder %s: %w", v.Dir, err)
		}
		if v.Name == "" {
			v.Name = assemble.VariantName(v.Requires)
		}
		list = append(list, v)
	}
	for _, text := range needs {
		name, items, named := cutNeeds(text)
		found := false
		for i := range list {
			if named && list[i].Name != name {
				continue
			}
			found = true
			if err := assemble.AddNeeds(&list[i].Requires, items); err != nil {
				return nil, usage("--needs %s: %v", text, err)
			}
		}
		if !found {
			return nil, usage("--needs %s: there is no variant %q", text, name)
		}
	}
	return list, nil
}

// cutNeeds tells the name of a variant from what it needs: an = that is not part of >=.
func cutNeeds(text string) (name, items string, named bool) {
	for i := range text {
		if text[i] == '=' && i > 0 && text[i-1] != '>' {
			return text[:i], text[i+1:], true
		}
	}
	return "", text, false
}

// packedBaseline reads the two files of a folder, which must be sound: the daemon is to compare with them.
func packedBaseline(c *cobra.Command, dir string) (*packaging.Baseline, error) {
	b, err := readBaseline(c, dir)
	if err != nil {
		return nil, err
	}
	packed := &packaging.Baseline{}
	if packed.Statistics, err = b.statistics.Encode(); err != nil {
		return nil, err
	}
	packed.Constraints, err = b.constraints.Encode()
	return packed, err
}
