package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	"github.com/picket-ml/picket/packaging"
)

func newLoad(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "load NAME PATH",
		Short: "Load the package or the folder PATH and serve it as NAME",
		Long: `Load the model in a package or in a folder and serve it as NAME. PATH may also
be the name of a package in the daemon's folder of packages: fraud for its
highest version, fraud@3 for that one.`,
		Example: `  picket load fraud /var/lib/picket/models/fraud
  picket load fraud fraud-3.tar.gz
  picket load fraud fraud@3`,
		Args: cobra.ExactArgs(2),
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	c.RunE = withControl(flags, func(c *cobra.Command, d *daemon, args []string) error {
		if scheme, _, found := strings.Cut(args[1], "://"); found && !strings.Contains(scheme, "/") {
			return usage("loading model %q: %s is an address, but the daemon loads local files only; fetch it and name its path", args[0], args[1])
		}
		// The daemon's working directory is not ours.
		path := args[1]
		if !isPackageName(path) {
			var err error
			if path, err = filepath.Abs(path); err != nil {
				return fmt.Errorf("finding %s: %w", args[1], err)
			}
		}
		doing := fmt.Sprintf("loading model %q from %s", args[0], path)
		answer, err := call(c, d, doing, d.agent.LoadModel, &agentapi.LoadModelRequest{Name: args[0], Url: path})
		if err != nil {
			return err
		}
		m := modelOf(answer.GetModel())
		if *asJSON {
			return writeJSON(c.OutOrStdout(), m)
		}
		fmt.Fprintf(c.OutOrStdout(), "loaded %s from %s\n", m.Name, m.URL)
		for _, s := range m.Inputs {
			fmt.Fprintf(c.OutOrStdout(), "  input   %v\n", s)
		}
		for _, s := range m.Outputs {
			fmt.Fprintf(c.OutOrStdout(), "  output  %v\n", s)
		}
		return nil
	})
	return c
}

// isPackageName tells whether the daemon is to look for a package of that name: where nothing here is called that.
func isPackageName(path string) bool {
	name, version, has := strings.Cut(path, "@")
	if packaging.CheckName(name) != nil || has && packaging.CheckVersion(version) != nil {
		return false
	}
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}
