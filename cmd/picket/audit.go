package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/capture/outlet"
	"github.com/picket-ml/picket/internal/capture/residency"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use:   "audit [DIR]",
		Short: "Verify and print the log of what left this host",
		Long: `Verify the audit log in DIR, or that of the daemon's configuration, and print
it: a line for each object that was about to leave (sending), that arrived
(stored), or that turned out not to be there (abandoned), and for each policy
that came into force. Nothing is changed, and a daemon may be writing it.

Each line carries the digest of the one before, and each object in S3 the number
and the digest of its own line (metadata picket-audit-line and
picket-audit-hash). So a line that was changed, taken out or put in shows here,
and lines that were cut off the end show there.

With --json each line is printed as it is, and then a summary. Exit code 1: the
log is damaged.`,
		Example: `  picket audit --config /etc/picket/picketd.yaml
  picket audit /var/lib/picket/audit --summary --json`,
		Args: cobra.MaximumNArgs(1),
	}
	asJSON := jsonFlag(c)
	file := c.Flags().StringP("config", "c", "", "the daemon's configuration `FILE`, which says where the log is")
	state := c.Flags().String("state", "", stateUsage)
	only := c.Flags().Bool("summary", false, "verify, and print the summary alone")
	c.RunE = doing(func(c *cobra.Command, args []string) error {
		dir, err := auditDir(args, *file, *state)
		if err != nil {
			return err
		}
		out := c.OutOrStdout()
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		summary, err := residency.VerifyAudit(dir, func(e residency.Entry) error {
			var err error
			switch {
			case *only:
			case *asJSON:
				err = encoder.Encode(struct {
					residency.Entry
					Hash string `json:"hash"`
				}{e, e.Hash})
			default:
				_, err = fmt.Fprintln(out, auditLine(e))
			}
			if err != nil {
				return fmt.Errorf("writing the output: %w", err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if *asJSON {
			return encoder.Encode(summary)
		}
		torn := ""
		if summary.Torn {
			torn = "; the beginning of a further line is there, of a daemon that writes or was killed"
		}
		_, err = fmt.Fprintf(out, "lines %d to %d in %d files, unbroken%s: %d objects sent, %d stored\nlast line's hash %s\n",
			summary.First, summary.Last, summary.Files, torn, summary.Sent, summary.Stored, summary.Hash)
		return err
	})
	return c
}

// auditDir is where the log is.
func auditDir(args []string, file, state string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if file == "" && state == "" {
		return "", usage("which log is missing: name its directory, or the daemon's --config")
	}
	c, err := readDaemonConfig(file, state)
	if err != nil {
		return "", err
	}
	return outlet.AuditDir(c), nil
}

// auditLine is an entry for people.
func auditLine(e residency.Entry) string {
	line := fmt.Sprintf("%8d  %s  %-9s", e.Number, e.Time.Format(time.RFC3339), e.Event)
	if e.Event == residency.Began {
		return line + "  " + e.Policy + " " + printable(e.Version)
	}
	line += fmt.Sprintf("  %-8s  %s", e.Kind, printable(e.Object))
	if e.Count > 0 {
		line += fmt.Sprintf("  %d records of %s", e.Count, printable(e.Model))
	}
	return line + fmt.Sprintf("  %d bytes  sha256:%s", e.Bytes, e.SHA256)
}
