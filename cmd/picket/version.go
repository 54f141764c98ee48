package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  picket version
  picket version --json`,
		Args: cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		if *asJSON {
			return writeJSON(c.OutOrStdout(), map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
		}
		fmt.Fprintf(c.OutOrStdout(), "picket %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return nil
	})
	return c
}
