// Command fraud is the fraud application: its servers, the simulation that they are tried with, and the load for both. README.md describes it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is stamped by the Makefile.
var version = "unversioned"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use: "fraud", Short: "a card is swiped, a decision comes back", Version: version,
		SilenceUsage: true, SilenceErrors: true,
	}
	root.AddCommand(runCommand(), applicationCommand(), frontendCommand(), analystCommand(), importCommand(), generateCommand(), loadCommand(), streamCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fraud:", err)
		os.Exit(1)
	}
}
