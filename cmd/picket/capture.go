package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/capture/outlet"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/upload"
	"github.com/picket-ml/picket/internal/config"
)

func newCapture() *cobra.Command {
	c := &cobra.Command{
		Use:   "capture",
		Short: "Try how captured requests leave this host",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCaptureTest())
	return c
}

// captureTest is what `picket capture test --json` prints.
type captureTest struct {
	Policy  string        `json:"policy"`
	Version string        `json:"policy_version,omitempty"`
	Model   string        `json:"model"`
	Sent    []upload.Sent `json:"sent"`
}

func newCaptureTest() *cobra.Command {
	c := &cobra.Command{
		Use:   "test",
		Short: "Send one made-up record to where captured requests go",
		Long: `Send one record, made up of ones, as the daemon would send a captured request of
MODEL: through the residency policy, in the configured formats, with a line in
the audit log, to the destination, below the folder picket-test. It is tried
once.

Run it as the daemon's user, whose the audit log is. Exit code 4: the policy
does not let it leave.`,
		Example: `  runuser -u picket -- picket capture test --config /etc/picket/picketd.yaml`,
		Args:    cobra.NoArgs,
	}
	asJSON := jsonFlag(c)
	file := c.Flags().StringP("config", "c", "", "the daemon's configuration `FILE`")
	state := c.Flags().String("state", "", stateUsage)
	model := c.Flags().String("model", "picket-test", "whose record it is: a `MODEL` that the policy has a rule for")
	columns := c.Flags().Int("columns", 0, "how many columns the input has (default as many as the policy names, or 1)")
	show := c.Flags().Bool("show", false, "print what the objects contain")
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		if *file == "" {
			return usage("--config is missing: the daemon's configuration says where captured requests go")
		}
		o, configuration, err := openOutlet(c, *file, *state)
		if err != nil {
			return err
		}
		defer o.Close()
		n := *columns
		if n == 0 {
			n = namedColumns(configuration, *model)
		}
		if n < 1 || n > 1<<16 {
			return usage("--columns %d is outside 1 to 65536", n)
		}
		sent, err := o.Test(c.Context(), *model, n)
		if errors.Is(err, residency.ErrWithheld) {
			return &failure{exitPolicy, fmt.Errorf("sending a test record: %w", err)}
		}
		if err != nil {
			return fmt.Errorf("sending a test record: %w", err)
		}
		report := captureTest{Policy: o.Policy.Digest(), Version: o.Policy.Version(), Model: *model, Sent: sent}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), report)
		}
		return report.write(c.OutOrStdout(), *show)
	})
	return c
}

// openOutlet is the way out that a daemon's configuration describes.
func openOutlet(c *cobra.Command, file, state string) (*outlet.Outlet, *config.Config, error) {
	configuration, err := readDaemonConfig(file, state)
	if err != nil {
		return nil, nil, err
	}
	if !configuration.Capture.Destination.Configured() {
		return nil, nil, wrongConfig(fmt.Errorf("%s names no capture.destination, so captured requests stay on this host", file))
	}
	policy, err := outlet.Policy(configuration)
	if err != nil {
		return nil, nil, wrongConfig(fmt.Errorf("%s: %w", file, err))
	}
	if err := asOwner(outlet.AuditDir(configuration), "sending a test record, with a line in the audit log"); err != nil {
		return nil, nil, err
	}
	o, err := outlet.Open(c.Context(), configuration, policy, slog.New(slog.DiscardHandler))
	switch {
	case errors.Is(err, residency.ErrWithheld):
		return nil, nil, &failure{exitPolicy, err}
	case err != nil:
		return nil, nil, err
	}
	return o, configuration, nil
}

// namedColumns is how many columns the policy names for a model, and 1 where it names none.
func namedColumns(c *config.Config, model string) int {
	n := 1
	for _, m := range c.Capture.Residency.Models {
		if len(m.Columns) > 0 && (m.Model == model || m.Model == residency.AnyModel && n == 1) {
			n = len(m.Columns)
		}
	}
	return n
}

func (t captureTest) write(w io.Writer, show bool) error {
	fmt.Fprintf(w, "policy   %s", t.Policy)
	if t.Version != "" {
		fmt.Fprintf(w, ", %s", printable(t.Version))
	}
	fmt.Fprintln(w)
	for _, s := range t.Sent {
		fmt.Fprintf(w, "stored   %s\n         %d bytes, format %s, line %d of the audit log\n", printable(s.Object), s.Bytes, s.Format, s.Line)
		if show && s.Content != nil {
			if _, err := w.Write(s.Content); err != nil {
				return fmt.Errorf("writing the output: %w", err)
			}
		}
	}
	return nil
}
