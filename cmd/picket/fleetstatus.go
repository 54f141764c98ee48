package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/fleet/serve"
)

// fleetStatus is what `picket fleet status --json` prints.
type fleetStatus struct {
	Fleet     string                   `json:"fleet"`
	Problem   string                   `json:"problem,omitempty"`
	Documents map[string]fleet.Version `json:"documents"`
	Devices   int                      `json:"devices"`
	Groups    []groupStatus            `json:"groups"`
	// Report is the server's; nil where it was not asked.
	Report *serve.Report `json:"report,omitempty"`
}

type groupStatus struct {
	Group    string          `json:"group"`
	Devices  int             `json:"devices"`
	Document *fleet.Group    `json:"document"`
	Progress *fleet.Progress `json:"progress"`
}

func newFleetStatus(f *fleetFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "status",
		Short:   "Show what the fleet should serve, and with --server how it does",
		Example: `  picket fleet status --server http://127.0.0.1:8081`,
		Args:    cobra.NoArgs,
	}
	server := c.Flags().String("server", "", "the `URL` of the server's report page, such as http://127.0.0.1:8081")
	asJSON := jsonFlag(c)
	c.RunE = doing(func(c *cobra.Command, _ []string) error {
		ctx, stop := interruptible(c)
		defer stop()
		o, err := f.open(ctx, false)
		if err != nil {
			return err
		}
		s, err := statusOf(ctx, o)
		if err != nil {
			return interrupted(ctx, refusal(err), "reading the fleet's documents", "nothing was changed")
		}
		if *server != "" {
			if s.Report, err = fetchReport(ctx, *server); err != nil {
				return &failure{exitUnreachable, fmt.Errorf("asking the fleet's server: %w", err)}
			}
		}
		if *asJSON {
			return writeJSON(c.OutOrStdout(), s)
		}
		return s.print(c.OutOrStdout())
	})
	return c
}

func statusOf(ctx context.Context, o *openedFleet) (*fleetStatus, error) {
	r, err := fleet.NewReader(fleet.ReaderOptions{Bucket: o.bucket, Root: o.root})
	if err != nil {
		return nil, err
	}
	s := &fleetStatus{Groups: []groupStatus{}}
	if _, err := r.Refresh(ctx); err != nil {
		return nil, err
	}
	devices, err := r.Devices(ctx)
	if err != nil {
		return nil, err
	}
	s.Fleet, s.Devices, s.Documents = devices.Fleet, len(devices.Devices), r.Versions()
	names := r.Groups()
	slices.Sort(names)
	for _, name := range names {
		g, err := r.Group(ctx, devices.Fleet, name)
		if err != nil {
			return nil, err
		}
		p, err := r.Progress(ctx, devices.Fleet, name)
		if err != nil {
			return nil, err
		}
		one := groupStatus{Group: name, Document: g, Progress: p}
		for _, group := range devices.Devices {
			if group == name {
				one.Devices++
			}
		}
		s.Groups = append(s.Groups, one)
	}
	return s, nil
}

// maxReport bounds what a server may answer.
const maxReport = 256 << 20

func fetchReport(ctx context.Context, server string) (*serve.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(server, "/")+"/report.json", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxReport))
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New("it answers " + answer.Status)
	}
	out := &serve.Report{}
	return out, json.Unmarshal(data, out)
}

func (s *fleetStatus) print(w io.Writer) error {
	fmt.Fprintf(w, "fleet %s, %d devices; the timestamp is good until %s\n", s.Fleet, s.Devices, s.Documents["timestamp"].Expires.Format("2006-01-02 15:04 MST"))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nGROUP\tMODEL\tPACKAGE\tBEFORE\tSTATE\tSTAGE\tSINCE\tWHY")
	for _, g := range s.Groups {
		for _, m := range g.Document.Models {
			state, stage, since, why := "not begun", "-", "-", ""
			if p := g.Progress.Of(m.Name, m.Rollout.ID); p != nil {
				state, stage, since, why = string(p.State), fmt.Sprintf("%d of %d (%g%%)", p.Stage+1, len(m.Rollout.Stages), m.Rollout.Stages[min(p.Stage, len(m.Rollout.Stages)-1)]), p.Since.Format("2006-01-02 15:04"), p.Reason
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Group, m.Name, m.Package.String(), m.Previous, state, stage, since, why)
		}
		for _, p := range g.Document.Pins {
			fmt.Fprintf(t, "%s\t%s\t%s\t-\tpinned\t-\t-\t%s\n", g.Group, p.Model, p.Package.String(), whom(g.Group, p.Device))
		}
	}
	if err := t.Flush(); err != nil || s.Report == nil {
		return err
	}
	r := s.Report
	fmt.Fprintf(w, "\n%d devices were heard of lately, %d are silent, %d were never heard of, on %d something failed\n", r.Counts.Heard, r.Counts.Silent, r.Counts.Never, r.Counts.Failed)
	fmt.Fprintln(t, "\nDEVICE\tGROUP\tLAST\tSERVES\tPROBLEMS")
	for _, d := range r.Devices {
		last := "never"
		if !d.Last.IsZero() {
			last = d.Last.Format("2006-01-02 15:04:05")
		}
		var models []string
		for _, m := range d.Models {
			models = append(models, m.Model+"@"+m.Version)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", d.Name, d.Group, last, strings.Join(models, " "), strings.Join(d.Problems, "; "))
	}
	return t.Flush()
}
