package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// interruptible is the context of a command that has something to tidy up when a signal ends it. The others end with the signal itself.
func interruptible(c *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
}

// interrupted says of what a signal has ended that it was, and how things are now. Any other error it leaves alone.
func interrupted(ctx context.Context, err error, doing, now string) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%s: interrupted; %s", doing, now)
}
