package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/report"
)

// readme is the argument that names the README's table. Its result is in the repository, without histograms, so that a test can
// hold the table to it.
const readme = "readme"

// keepResult puts the last result of suite local, where there is one, in the place of the one that the README is made of.
func keepResult(results, kept string) error {
	r, err := report.ReadResult(filepath.Join(results, "local.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := r.Slim().Write(&text); err != nil {
		return err
	}
	if err := os.WriteFile(kept, text.Bytes(), 0o644); err != nil {
		return fmt.Errorf("keeping the result: %w", err)
	}
	return nil
}

// readmeTable is what each target gives in each scenario, a table for each model, with what has to be known beside it.
func readmeTable(kept string) (string, error) {
	r, err := report.ReadResult(kept)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	c := &r.Environment.CPU
	fmt.Fprintf(&out, "Suite `%s` on %s (%s), %g CPUs, Linux %s, on %s.", r.Suite.Name, c.Model, c.Level, c.Allowed, r.Environment.Kernel, r.Began.UTC().Format("2 January 2006"))
	if r.Suite.Quick {
		out.WriteString(" It was a shortened run, which is no measurement.")
	}
	if !r.Noise.Quiet {
		fmt.Fprintf(&out, " The machine was not quiet: %s.", strings.Join(r.Noise.Why, "; "))
	}
	for _, mark := range r.Marks {
		fmt.Fprintf(&out, " %s.", strings.TrimSuffix(mark, "."))
	}
	out.WriteString("\n")
	for _, m := range r.ModelsMeasured() {
		fmt.Fprintf(&out, "\n%s", modelName(m.Name))
		if m.Trees > 0 {
			fmt.Fprintf(&out, " (%s, %d trees of depth %d, %d features)", m.Library, m.Trees, m.Depth, m.Features)
		}
		out.WriteString(":\n\n")
		table(&out, r, m.Name)
	}
	if strings.Contains(out.String(), doubtful) {
		out.WriteString("\n†: does not count; `bench/readme.json` says why, which is most often that repetitions were not steady or too short.\n")
	}
	return out.String(), nil
}

// doubtful marks a figure whose run was found not valid.
const doubtful = " †"

// shown are the scenarios that the README has: those of MLPerf Inference.
var shown = []string{"SingleStream", "MultiStream", "Server", "Offline"}

// table has a line for each scenario and a column for each target but the empty one.
func table(out *strings.Builder, r *report.Result, model string) {
	var groups [][]*report.Run
	var targets []string
	for _, runs := range r.Groups(model) {
		if !slices.Contains(shown, runs[0].Scenario) {
			continue
		}
		groups = append(groups, runs)
		for _, run := range runs {
			if !slices.Contains(targets, run.Target) && r.Target(run.Target).Kind != report.KindEmpty {
				targets = append(targets, run.Target)
			}
		}
	}
	columns := []string{"scenario", ""}
	for _, target := range targets {
		if r.Target(target).Ours {
			target = "**" + target + "**"
		}
		columns = append(columns, target)
	}
	out.WriteString(head(columns...))
	for _, runs := range groups {
		first := runs[0]
		line := []string{first.Scenario, fmt.Sprintf("%s; %s", first.Summary.Metric.Name, &first.Parameters)}
		for _, target := range targets {
			cell := "-"
			if at := slices.IndexFunc(runs, func(run *report.Run) bool { return run.Target == target }); at >= 0 {
				m := runs[at].Summary.Metric
				cell = report.Quantity(m.Value.Value, m.Unit)
				if !runs[at].Verdict.Valid {
					cell += doubtful
				}
			}
			line = append(line, cell)
		}
		out.WriteString(row(line...))
	}
}
