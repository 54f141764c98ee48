package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/monitor"
)

// dataFlags adds the flags that say how data elsewhere are reached, and returns what
// finds the files of data that an argument names.
func dataFlags(_ *cobra.Command) func(context.Context, string) ([]monitor.File, error) {
	return func(_ context.Context, where string) ([]monitor.File, error) {
		if strings.HasPrefix(where, "s3://") {
			return nil, usage("%s lies in S3: copy it to this machine first", where)
		}
		return monitor.LocalFiles(where)
	}
}
