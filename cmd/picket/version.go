package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/dl"
)

// build is how this program was made, as version --json prints it.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"` // empty where the sources were no checkout
	Go       string `json:"go"`
	Platform string `json:"platform"`
	// Cgo says whether it can open native libraries, which most backends need.
	Cgo bool `json:"cgo"`
}

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
			return writeJSON(c.OutOrStdout(), build{
				Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cgo: dl.Probe() == nil,
			})
		}
		fmt.Fprint(c.OutOrStdout(), versionLine())
		return nil
	})
	return c
}

// versionLine is what version and --version print.
func versionLine() string {
	return fmt.Sprintf("picket %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
