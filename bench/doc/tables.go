package main

import (
	"fmt"
	"strings"

	"github.com/picket-ml/picket/bench/report"
)

// tables are the tables that a document may hold, each a function of the folder of results.
func tables() map[string]func(results string) (string, error) {
	all := map[string]func(string) (string, error){
		"engine":          engineTable,
		"treelite":        treeliteTable,
		"tvm":             tvmTable,
		"agent":           agentTable,
		"forest":          forestTable,
		"forest-peers":    peerTable,
		"forest-cores":    coresTable,
		"forest-goals":    goalTable,
		"forest-absent":   absentTable,
		"forest-callers":  notesTable,
		"serving":         servingTable,
		"serving-times":   timesTable,
		"serving-servers": serverTable,
		readme:            readmeTable,
	}
	for _, name := range []string{"engine", "treelite", "tvm", "agent", "forest", "serving"} {
		all["host-"+name] = func(results string) (string, error) { return hostLine(results, name) }
	}
	return all
}

func row(columns ...string) string { return "| " + strings.Join(columns, " | ") + " |\n" }

func head(columns ...string) string {
	return row(columns...) + "|" + strings.Repeat("---|", len(columns)) + "\n"
}

// hostLine says where and when a benchmark ran.
func hostLine(results, name string) (string, error) {
	r, _, err := load[struct{}](results, name)
	if err != nil {
		return "", err
	}
	f := r.Host.Facts
	return fmt.Sprintf("From one run on %s (family %d, model %d, %s), %d cores, %s, Linux %s, on %s; load average before it %s.\n",
		f.CPU.Model, f.CPU.Family, f.CPU.ModelNumber, f.CPU.Level, f.CPU.Cores, r.Host.Go, f.Kernel,
		r.Host.Time.Format("2 January 2006"), strings.Join(strings.Fields(r.Host.Load)[:1], "")), nil
}

func engineTable(results string) (string, error) {
	_, kernels, err := load[report.Kernel](results, "engine")
	if err != nil {
		return "", err
	}
	c := gather(kernels)
	out := head("model", "condition", "C loop, µs", "engine, µs", "more, µs")
	for _, at := range c.order {
		loop, engine := c.engine[at]["C loop"], c.engine[at]["engine"]
		out += row(modelName(at.model), at.condition, fmt.Sprintf("%.2f", loop), fmt.Sprintf("%.2f", engine), fmt.Sprintf("%.2f", engine-loop))
	}
	return out, nil
}

func treeliteTable(results string) (string, error) {
	_, kernels, err := load[report.Kernel](results, "treelite")
	if err != nil {
		return "", err
	}
	c := gather(kernels)
	out := head("model", "condition", "1 row", "8 rows", "64 rows", "1024 rows")
	for _, at := range c.order {
		if at.rows != 1 {
			continue
		}
		columns := []string{modelName(at.model), at.condition}
		for _, n := range []int{1, 8, 64, 1024} {
			at.rows = n
			own, theirs := c.engine[at]["treelite"], c.engine[at]["libdlr"]
			columns = append(columns, fmt.Sprintf("%.2f / %.2f (%.2f)", own, theirs, own/theirs))
		}
		out += row(columns...)
	}
	return out, nil
}

// tvmTable is the time of a call of each network, ours and libdlr's, and how many times as much libdlr takes.
func tvmTable(results string) (string, error) {
	r, kernels, err := load[report.Kernel](results, "tvm")
	if err != nil {
		return "", err
	}
	c := gather(kernels)
	out := head("network", "hot", "shuffled", "2 callers at once")
	for _, at := range c.order {
		if at.condition != "hot" {
			continue
		}
		columns := []string{modelName(at.model)}
		for _, other := range []cell{at, {at.model, at.values, "shuffled", at.rows, 1}, {at.model, at.values, "2 callers", at.rows, 2}} {
			own, theirs := c.engine[other]["tvm"], c.engine[other]["libdlr"]
			columns = append(columns, fmt.Sprintf("%.2f / %.2f (%.2f)", own, theirs, theirs/own))
		}
		out += row(columns...)
	}
	for _, f := range r.Figures {
		if f.Limit != nil {
			out += fmt.Sprintf("\nOf each call, %.2f µs are the engine's.\n", f.Value)
		}
	}
	for _, l := range r.LeftOut {
		out += fmt.Sprintf("\nNot measured: %s (%s).\n", modelName(l.Model), l.Why)
	}
	return out, nil
}

func agentTable(results string) (string, error) {
	_, servings, err := load[report.Serving](results, "agent")
	if err != nil {
		return "", err
	}
	type key struct {
		model             string
		rows, outstanding int
	}
	empty := map[key]report.Serving{}
	out := head("model", "rows", "requests at a time", "empty p50 / p99, µs", "picketd p50 / p99, µs", "p50 ratio")
	for _, s := range servings {
		at := key{s.Model, s.Rows, s.Outstanding}
		if s.Target != "picketd" {
			empty[at] = s
			continue
		}
		e := empty[at]
		out += row(modelName(s.Model), fmt.Sprint(s.Rows), fmt.Sprint(s.Outstanding),
			fmt.Sprintf("%.0f / %.0f", e.P50US, e.P99US), fmt.Sprintf("%.0f / %.0f", s.P50US, s.P99US), fmt.Sprintf("%.2f", s.P50US/e.P50US))
	}
	return out, nil
}
