package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/pipeline"
)

func newPipeline() *cobra.Command {
	c := &cobra.Command{
		Use:   "pipeline",
		Short: "Make a signed package of a dataset: train, compile, pack, sign",
		Long: `Make a signed package of a dataset, as one YAML file says: upload the dataset,
train a model, compile it, pack it with rows that it has answered, sign the
package and push it. SageMaker trains and compiles, or with --local this machine
does.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPipelineRun(), newPipelineStatus())
	return c
}

// pipelineFlags adds what both commands have.
func pipelineFlags(c *cobra.Command) *pipeline.Options {
	var o pipeline.Options
	c.Flags().BoolVar(&o.Local, "local", false, "do everything on this machine, without AWS")
	c.Flags().StringVar(&o.Work, "work", "", "the `FOLDER` for the record and for what the steps make (default: .picket/NAME beside FILE)")
	return &o
}

func newPipelineRun() *cobra.Command {
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Do what a pipeline still needs",
		Long: `Do what the pipeline in FILE still needs. Each step that is done is on record
with what it was made from, and is done again only when that has changed. So a
run that was interrupted, whether by Ctrl-C, kill -9 or a power failure, is
continued by the next; a job that runs at SageMaker is found again by its name
and not started twice.

--plan prints everything that would be done, with the bodies of the requests
that would be sent to AWS, and does nothing.`,
		Example: `  picket pipeline run fraud.yaml --local
  picket pipeline run fraud.yaml --plan
  picket pipeline run fraud.yaml`,
		Args: cobra.ExactArgs(1),
	}
	o := pipelineFlags(c)
	plan := c.Flags().Bool("plan", false, "print what would be done, and do nothing")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		ctx, stop := interruptible(c)
		defer stop()
		if *plan {
			list, err := pipeline.Plan(ctx, args[0], *o)
			if err != nil {
				return fmt.Errorf("planning the pipeline %s: %w", args[0], err)
			}
			if *asJSON {
				return writeJSON(c.OutOrStdout(), list)
			}
			return writePlan(c.OutOrStdout(), list)
		}
		var err error
		if o.Host, err = hostOf(ctx); err != nil {
			return err
		}
		steps := &stepPrinter{w: c.ErrOrStderr(), live: isTerminal(c.ErrOrStderr()) && os.Getenv("TERM") != "dumb"}
		o.Progress = steps.print
		result, err := pipeline.Run(ctx, args[0], *o)
		steps.end()
		if err != nil {
			return fmt.Errorf("running the pipeline %s: %w", args[0], err)
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), result)
		}
		w := c.OutOrStdout()
		fmt.Fprintf(w, "made %s\n  digest   %s\n", result.Package, result.Digest)
		if result.Signer != "" {
			fmt.Fprintf(w, "  signer   %s\n", result.Signer)
		} else {
			fmt.Fprintf(w, "  signer   nobody: picket package sign %s --key KEY.pem\n", result.Package)
		}
		if result.Object != "" {
			fmt.Fprintf(w, "  pushed   %s\n", result.Object)
		}
		return nil
	})
	return c
}

// stepPrinter shows what happens: a line for each step that begins and ends, and in between one line that is drawn again on a
// terminal; elsewhere a line of that every ten seconds, so that a log stays short.
type stepPrinter struct {
	w     io.Writer
	live  bool
	drawn bool
	at    time.Time
}

func (p *stepPrinter) print(e pipeline.Event) {
	const lineWidth, logEvery = 79, 10 * time.Second
	if e.Kind != pipeline.Working {
		p.end()
		fmt.Fprintf(p.w, "%-8s %s", e.Kind, e.Step)
		if e.Text != "" && e.Kind != pipeline.Failed { // the error says it
			fmt.Fprintf(p.w, " (%s)", e.Text)
		}
		fmt.Fprintln(p.w)
		p.at = time.Time{}
		return
	}
	line := []rune(e.Step + ": " + e.Text)
	if !p.live {
		if now := time.Now(); now.Sub(p.at) >= logEvery {
			p.at = now
			fmt.Fprintf(p.w, "         %s\n", string(line))
		}
		return
	}
	if len(line) > lineWidth {
		line = line[:lineWidth]
	}
	fmt.Fprintf(p.w, "\r%s%s", string(line), strings.Repeat(" ", lineWidth-len(line)))
	p.drawn = true
}

// end leaves the live line behind.
func (p *stepPrinter) end() {
	if p.drawn {
		fmt.Fprintln(p.w)
		p.drawn = false
	}
}

// writePlan prints a plan for people.
func writePlan(w io.Writer, list []pipeline.Planned) error {
	last := ""
	for _, item := range list {
		if item.Step != last {
			last = item.Step
			fmt.Fprint(w, item.Step)
			if item.Recorded {
				fmt.Fprint(w, " (done before: kept, if what it is made from is the same)")
			}
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "  %s\n", item.What)
		if item.Object != "" {
			fmt.Fprintf(w, "    to %s", item.Object)
			if item.Bytes > 0 {
				fmt.Fprintf(w, ", %d bytes", item.Bytes)
			}
			fmt.Fprintln(w)
		}
		if item.Operation != "" {
			fmt.Fprintf(w, "    POST %s %s\n", item.Endpoint, item.Operation)
			if err := writeIndented(w, item.Request, "    "); err != nil {
				return err
			}
		}
	}
	return nil
}
