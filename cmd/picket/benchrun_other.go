//go:build !linux

package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func newBenchRun() *cobra.Command {
	return &cobra.Command{
		Use:   "run SUITE",
		Short: "Measure this host with a suite (on Linux)",
		Args:  cobra.ArbitraryArgs,
		RunE: doing(func(*cobra.Command, []string) error {
			return errors.New("running a suite: picketd and what is measured beside it run on Linux; do it there")
		}),
	}
}
