package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/pipeline"
)

func newPipelineStatus() *cobra.Command {
	c := &cobra.Command{
		Use:   "status FILE",
		Short: "Show what is done of a pipeline, and how it ended",
		Long: `Show what is on record of the pipeline in FILE: each step, how it ended and
when, and the job at SageMaker that does it. Nobody is asked, and a run may be
under way.`,
		Example: `  picket pipeline status fraud.yaml`,
		Args:    cobra.ExactArgs(1),
	}
	o := pipelineFlags(c)
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		s, err := pipeline.Look(args[0], *o)
		if err != nil {
			return fmt.Errorf("reading the record of the pipeline %s: %w", args[0], err)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		writeStatus(c.OutOrStdout(), s)
		return nil
	})
	return c
}

func writeStatus(w io.Writer, s *pipeline.Status) {
	where := "at SageMaker"
	if s.Mode == "local" {
		where = "on this machine"
	}
	fmt.Fprintf(w, "%s, version %s, %s\n", s.Pipeline, s.Version, where)
	if len(s.Steps) == 0 {
		fmt.Fprintln(w, "  nothing was done yet")
	}
	for _, step := range s.Steps {
		state, when := step.State, ""
		switch {
		case step.State == "running" && !s.Running:
			state = "killed"
		case !step.Ended.IsZero():
			when = fmt.Sprintf("%s, took %.1f s", step.Ended.Local().Format(time.DateTime), step.Ended.Sub(step.Began).Seconds())
		default:
			when = "since " + step.Began.Local().Format(time.DateTime)
		}
		fmt.Fprintf(w, "  %-11s  %-24s %s\n", state, step.Step, when)
		if step.Job != "" {
			fmt.Fprintf(w, "               job %s\n", step.Job)
		}
		if step.Error != "" {
			fmt.Fprintf(w, "               %s\n", step.Error)
		}
	}
}

// writeIndented prints JSON for people.
func writeIndented(w io.Writer, document []byte, indent string) error {
	var out bytes.Buffer
	if err := json.Indent(&out, document, indent, "  "); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err := fmt.Fprintf(w, "%s%s\n", indent, out.Bytes())
	return err
}
