package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/rows"
)

// maxRequestBytes bounds the tensors of one request, and so what predict keeps in memory; the daemon takes 80 MiB if
// it is not configured otherwise. A single row may be larger.
const maxRequestBytes = 16 << 20

func newPredict(flags *daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use:   "predict NAME",
		Short: "Run NAME on rows of numbers",
		Long: `Run NAME on rows of numbers from a file or standard input, and print a line per
row.

CSV has no header; an empty field or nan is a missing value, and blank lines are
skipped. JSON is an array of rows, or rows one after the other; a row is an
array of numbers, or an object with such an array for each input by name, and
null is a missing value. Which of the two it is, is seen from the first
character. A row of a model without a variable first dimension is its whole
tensor, flattened.

Lines are numbers separated by commas (tabs between several outputs), in the
shortest form that gives the same number back. With --json they are
{"outputs":{"<name>":[...]}}, with null for what is not finite.

With --explain, a row's answer is followed by what each feature has contributed
to its margin, in the order of the features, and the bias; their sum is the
margin. The model must be loaded with explain: true.

Every answer before a bad row is printed.`,
		Example: `  picket predict fraud --input transactions.csv
  echo '[[1.5, null, 3]]' | picket predict small --json`,
		Args: cobra.ExactArgs(1),
	}
	flags.add(c.Flags(), "")
	asJSON := jsonFlag(c)
	input := c.Flags().String("input", "-", "the file to read; - is standard input")
	protocol := c.Flags().String("protocol", "agent", "how to ask: agent, oip or lane")
	explain := c.Flags().Bool("explain", false, "print what the features contribute, too; asks over oip")
	batch := c.Flags().Int("batch", 64, "rows per request; fewer when rows are large")
	ask := withDaemon(flags, func(c *cobra.Command, d *daemon, args []string) (err error) {
		in := c.InOrStdin()
		if *input != "-" {
			f, err := os.Open(*input)
			if err != nil {
				return fmt.Errorf("opening the rows: %w", err)
			}
			defer f.Close()
			in = f
		}
		out := bufio.NewWriterSize(c.OutOrStdout(), 64<<10)
		defer func() {
			if flushErr := out.Flush(); err == nil && flushErr != nil {
				err = fmt.Errorf("writing the answers: %w", flushErr)
			}
		}()
		doing := fmt.Sprintf("predicting with model %q", args[0])
		answers := &answerWriter{w: out, asJSON: *asJSON}
		m, err := wayOf(*protocol)(c, d, doing, args[0])
		if err != nil {
			return err
		}
		defer m.close()
		if o, ok := m.(*oipModel); ok {
			o.explain = *explain
		}
		return predict(c, m, doing, in, *batch, answers)
	})
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		if *explain && !c.Flags().Changed("protocol") {
			*protocol = "oip"
		}
		switch {
		case *explain && *protocol != "oip":
			return usage("--explain asks over the Open Inference Protocol, not over %s; leave --protocol out", *protocol)
		case wayOf(*protocol) == nil:
			return usage("protocol %q is not known; use --protocol agent, oip or lane", *protocol)
		case *batch < 1:
			return usage("--batch %d is no number of rows; it must be at least 1", *batch)
		}
		return ask(c, args)
	})
	completeModel(c, flags)
	completeFlag(c, "protocol", "agent", "oip", "lane")
	return c
}

// predict reads rows from in until its end, asks the daemon for each batch of them, and writes the answers.
func predict(c *cobra.Command, m asked, doing string, in io.Reader, most int, answers *answerWriter) error {
	b, err := newBatch(m.inputs(), most)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	reader, err := rows.NewReader(in, b.inputs)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for any := false; ; any = true {
		readErr := b.fill(reader)
		if b.rows > 0 {
			outputs, err := m.predict(c, b.rows, b.data)
			if err != nil {
				return err
			}
			if err := answers.write(outputs, b.rows); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
		}
		switch {
		case readErr == nil:
		case !errors.Is(readErr, io.EOF):
			return fmt.Errorf("%s: %w", doing, readErr)
		case b.rows == 0 && !any:
			return fmt.Errorf("%s: the input has no rows", doing)
		default:
			return nil
		}
	}
}
