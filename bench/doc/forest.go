package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/bench/report"
)

// ours is how engines of backends/forest are called, before the family of kernels; made, what is ours too among the rest.
const (
	ours = "forest "
	made = "picket compile"
)

func loadForest(results string) (measured, cells, error) {
	r, kernels, err := load[report.Kernel](results, "forest")
	return r, gather(kernels), err
}

// fastest is the fastest peer in a cell, empty where none was measured.
func (c cells) fastest(at cell) (peer string, us float64) {
	for name, t := range c.engine[at] {
		if !strings.HasPrefix(name, ours) && !strings.Contains(name, made) && (peer == "" || t < us) {
			peer, us = name, t
		}
	}
	return peer, us
}

// against formats the fastest peer in a cell and how many times faster the first of our engines is.
func (c cells) against(at cell) string {
	peer, us := c.fastest(at)
	own, measured := c.engine[at][ours+"avx512vbmi"]
	if peer == "" || !measured {
		return "-"
	}
	return fmt.Sprintf("%s %s, %.1f times", peer, microseconds(c.engine[at], peer), us/own)
}

func forestTable(results string) (string, error) {
	_, c, err := loadForest(results)
	if err != nil {
		return "", err
	}
	out := head("model", "rows", "missing", "AVX-512 VBMI", "AVX-512 BW", "AVX2", "fastest peer, hot", "fastest peer, shuffled")
	for _, at := range c.order {
		if at.cores != 1 || at.condition != "hot" {
			continue
		}
		shuffled := at
		shuffled.condition = "shuffled"
		out += row(modelName(at.model), fmt.Sprint(at.rows), strings.TrimSuffix(at.values, " missing"),
			c.of(at, ours+"avx512vbmi"), c.of(at, ours+"avx512bw"), c.of(at, ours+"avx2"), c.against(at), c.against(shuffled))
	}
	return out, nil
}

// peerTable is every engine's time for one row and for 1024, hot, none missing.
func peerTable(results string) (string, error) {
	_, c, err := loadForest(results)
	if err != nil {
		return "", err
	}
	var engines, models []string
	for _, at := range c.order {
		if at.cores != 1 {
			continue
		}
		if !slices.Contains(models, at.model) {
			models = append(models, at.model)
		}
		for name := range c.engine[at] {
			if !slices.Contains(engines, name) {
				engines = append(engines, name)
			}
		}
	}
	slices.SortFunc(engines, func(a, b string) int {
		if x, y := strings.HasPrefix(a, ours), strings.HasPrefix(b, ours); x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	out := head(append([]string{"engine"}, models...)...)
	for _, e := range engines {
		columns := []string{e}
		for _, m := range models {
			at := cell{m, "none missing", "hot", 1, 1}
			one := microseconds(c.engine[at], e)
			at.rows = 1024
			columns = append(columns, one+" / "+microseconds(c.engine[at], e))
		}
		out += row(columns...)
	}
	return out, nil
}

// coresTable is our time for the largest calls on one core and on two, and the fastest peer's on two.
func coresTable(results string) (string, error) {
	_, c, err := loadForest(results)
	if err != nil {
		return "", err
	}
	out := head("model", "rows", "missing", "one core, µs", "two cores, µs", "ratio", "fastest peer on two")
	for _, at := range c.order {
		if at.cores != 2 || at.condition != "hot" || at.rows < 1024 {
			continue
		}
		one := at
		one.cores = 1
		alone, both := c.engine[one][ours+"avx512vbmi"], c.engine[at][ours+"avx512vbmi"]
		out += row(modelName(at.model), fmt.Sprint(at.rows), strings.TrimSuffix(at.values, " missing"),
			fmt.Sprintf("%.3f", alone), fmt.Sprintf("%.3f", both), fmt.Sprintf("%.2f", alone/both), c.against(at))
	}
	return out, nil
}

// goalTable counts the goals and lists those that were missed.
func goalTable(results string) (string, error) {
	r, _, err := loadForest(results)
	if err != nil {
		return "", err
	}
	met, promised, missed := 0, 0, ""
	for _, f := range r.Figures {
		if f.Least == nil {
			continue
		}
		promised++
		if f.Met() {
			met++
			continue
		}
		missed += row(f.Name, fmt.Sprintf("%.2f", f.Value), fmt.Sprintf("%g", *f.Least))
	}
	out := fmt.Sprintf("%d of %d goals are met.\n", met, promised)
	if missed != "" {
		out += "\n" + head("missed", "ratio", "goal") + missed
	}
	return out, nil
}

// absentTable lists what could not be measured at all, and why: a line for each engine and reason, with the models of which it is true.
func absentTable(results string) (string, error) {
	r, _, err := loadForest(results)
	if err != nil {
		return "", err
	}
	type cause struct{ engine, why string }
	var causes []cause
	models := make(map[cause][]string)
	for _, l := range r.LeftOut {
		if l.Rows > 0 || l.Cores == 2 {
			continue
		}
		c := cause{l.Engine, l.Why}
		if models[c] == nil {
			causes = append(causes, c)
		}
		if !slices.Contains(models[c], l.Model) {
			models[c] = append(models[c], l.Model)
		}
	}
	out := head("engine", "models", "why they were not measured")
	for _, c := range causes {
		out += row(c.engine, strings.Join(models[c], ", "), c.why)
	}
	return out, nil
}

// notesTable says how engines were called, or how their answers differ.
func notesTable(results string) (string, error) {
	r, _, err := loadForest(results)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(r.Notes))
	for name := range r.Notes {
		names = append(names, name)
	}
	slices.Sort(names)
	out := head("engine", "note")
	for _, name := range names {
		out += row(name, r.Notes[name])
	}
	return out, nil
}
