package main

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/migrate"
)

func newMigrate(getenv func(string) string) *cobra.Command {
	c := &cobra.Command{
		Use:   "migrate DIR",
		Short: "Make of an Edge Manager agent's installation one of picketd",
		Long: `Read the installation of a SageMaker Edge Manager agent in the folder DIR: its
sagemaker_edge_config.json, its unit of systemd and its models. Print what would
be written for picketd (its configuration, archives of the models with the
digests by which they are trusted, the device's certificate, a drop-in for
picketd's unit), and what has no equivalent. The old installation is not
changed, and can be started again.

Nothing is written unless --apply says so, or -o, which writes below a folder to
be looked at. docs/migrate.md goes through it.`,
		Example: `  picket migrate /opt/edge-agent --unit /etc/systemd/system/edge-agent.service
  picket migrate /opt/edge-agent --socket /tmp/edge_agent -o /tmp/look
  picket migrate /opt/edge-agent --model fraud=/opt/edge-agent/models/v3 --apply`,
		Args: cobra.ExactArgs(1),
	}
	o := migrate.Options{Names: map[string]string{}}
	var named []string
	f := c.Flags()
	f.StringVar(&o.Unit, "unit", "", "the agent's unit `FILE`: its command line, user and environment")
	f.StringVar(&o.Config, "config", "", "the agent's configuration `FILE`; else the unit's, or the one in DIR")
	f.StringVar(&o.Socket, "socket", "", "the agent's `SOCKET`; else the unit's")
	f.StringArrayVar(&o.Models, "models", nil, "a `FOLDER` with models, instead of DIR; may be repeated")
	f.StringArrayVar(&named, "model", nil, "serve the model at a path by this name, `NAME=PATH`; may be repeated")
	f.BoolVar(&o.Unsigned, "unsigned", false, "leave the models' folders, and load them unsigned: for clients that name their paths")
	f.StringVar(&o.Etc, "etc", "/etc/picket", "picketd's configuration `FOLDER`")
	f.StringVar(&o.State, "state", "/var/lib/picket", "the `FOLDER` of what picketd keeps")
	f.StringVar(&o.Sockets, "sockets", cmp.Or(getenv(config.EnvSockets), config.DefaultSockets()), "the `FOLDER` of picketd's sockets; also $PICKET_SOCKETS")
	f.StringVar(&o.Units, "units", "/etc/systemd/system", "the `FOLDER` of systemd's units")
	out := f.StringP("output", "o", "", "write the files below the `FOLDER`")
	apply := f.Bool("apply", false, "write the files where they belong")
	replace := f.Bool("replace", false, "replace files that are there, and keep them with .old behind the name")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *apply && *out != "" {
			return usage("--apply and -o are two ways to write; name one of them")
		}
		o.Dir = args[0]
		for _, text := range named {
			name, path, found := strings.Cut(text, "=")
			if !found || name == "" || path == "" {
				return usage("--model %q must be NAME=PATH", text)
			}
			path, err := filepath.Abs(path)
			if err != nil {
				return fmt.Errorf("finding %s: %w", text, err)
			}
			o.Names[path] = name
		}
		paths := []*string{&o.Dir, &o.Unit, &o.Config, &o.Etc, &o.State, &o.Sockets, &o.Units}
		for i := range o.Models {
			paths = append(paths, &o.Models[i])
		}
		for _, path := range paths {
			if *path == "" {
				continue
			}
			var err error
			if *path, err = filepath.Abs(*path); err != nil {
				return fmt.Errorf("finding %s: %w", *path, err)
			}
		}
		ctx, stop := interruptible(c)
		defer stop()
		plan, err := migrate.New(ctx, o)
		if err != nil {
			return fmt.Errorf("planning the migration of %s: %w", args[0], err)
		}
		written := *apply || *out != ""
		if written {
			if err := plan.Write(ctx, *out, *replace); err != nil {
				return fmt.Errorf("migrating %s: %w", args[0], err)
			}
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), plan)
		}
		printPlan(c.OutOrStdout(), plan, o, *out, written)
		return nil
	})
	return c
}

func printPlan(w io.Writer, p *migrate.Plan, o migrate.Options, below string, written bool) {
	fmt.Fprintf(w, "found\n  configuration  %s\n", p.Config)
	for _, one := range [][2]string{{"unit", p.Unit}, {"user", p.User}, {"socket", p.Socket}} {
		if one[1] != "" {
			fmt.Fprintf(w, "  %-13s  %s\n", one[0], one[1])
		}
	}
	for _, m := range p.Models {
		fmt.Fprintf(w, "  model          %s, from %s\n", m.Name, m.From)
		if m.Digest != "" {
			fmt.Fprintf(w, "                 trusted as %s\n", m.Digest)
		}
	}
	if written {
		fmt.Fprintln(w, "\nwritten")
	} else {
		fmt.Fprintln(w, "\nto be written")
	}
	for _, f := range p.Files {
		fmt.Fprintf(w, "  %s: %s\n", filepath.Join(below, f.Path), f.What)
		if !written {
			for line := range strings.Lines(f.Text) {
				fmt.Fprintf(w, "    | %s", line)
			}
		}
	}
	fmt.Fprintln(w, "\nnot taken over, or to be known")
	for _, n := range p.Notes {
		fmt.Fprintf(w, "  %s: %s\n", n.About, n.Says)
	}
	fmt.Fprintln(w, "\nthen")
	switch {
	case !written:
		fmt.Fprintln(w, "  picket migrate ... --apply, which writes the files")
	case below != "":
		fmt.Fprintf(w, "  look at the files in %s, and put them where they belong, or give --apply\n", below)
	}
	old := "the agent's unit"
	if p.Unit != "" {
		old = filepath.Base(p.Unit)
	}
	fmt.Fprintf(w, "  systemctl daemon-reload && systemctl disable --now %s && systemctl enable --now picketd\n", old)
	fmt.Fprintf(w, "  picket list --sockets %s\n", o.Sockets)
}
