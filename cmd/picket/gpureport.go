package main

import (
	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/hw"
)

// gpuReportCommand is the name of the hidden command that asks the GPU driver for `picket info`.
const gpuReportCommand = "gpu-report"

// newGPUReport makes a command of its own because a driver library that crashes must not take `picket info` with it.
func newGPUReport() *cobra.Command {
	return &cobra.Command{
		Use:    gpuReportCommand,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: doing(func(c *cobra.Command, _ []string) error {
			return hw.WriteGPUReport(c.Context(), c.OutOrStdout())
		}),
	}
}
