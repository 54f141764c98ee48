// Command doc writes the tables of docs/performance.md anew from bench/results. A table stands between the lines
// "<!-- table NAME -->" and "<!-- end -->"; everything else of the document is written by hand and kept. Arguments name the
// benchmarks whose tables are written; without any it is all of them, which takes the results of all. The argument readme
// writes the README's table instead, from bench/results/local.json, which it keeps without histograms as bench/readme.json.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/picket-ml/picket/internal/testkit"
)

const (
	begin = "<!-- table "
	close = " -->"
	end   = "<!-- end -->"
)

func main() {
	root := testkit.ModuleRoot()
	document, results, only := filepath.Join(root, "docs/performance.md"), filepath.Join(root, "bench/results"), os.Args[1:]
	var err error
	if slices.Equal(only, []string{readme}) {
		document = filepath.Join(root, "README.md")
		kept := filepath.Join(root, "bench/readme.json")
		err = keepResult(results, kept)
		results = kept
	}
	if err == nil {
		err = rewrite(document, results, only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-doc:", err)
		os.Exit(1)
	}
}

func rewrite(document, results string, only []string) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	text, err := fill(string(old), results, only)
	if err != nil {
		return err
	}
	if text == string(old) {
		return nil
	}
	info, err := os.Stat(document)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	if err := os.WriteFile(document, []byte(text), info.Mode().Perm()); err != nil {
		return fmt.Errorf("writing the document: %w", err)
	}
	return nil
}

// fill gives the text with every marked table made anew, or those of the benchmarks in only.
func fill(text, results string, only []string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, begin)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, rest, closed := strings.Cut(rest, close)
		old, after, ended := strings.Cut(rest, end)
		if !closed || !ended {
			return "", errors.New("a table's marks are incomplete: \"" + begin + "NAME" + close + "\", then \"" + end + "\"")
		}
		make, known := tables()[name]
		if !known {
			return "", fmt.Errorf("there is no table %q", name)
		}
		text = after
		if len(only) > 0 && !slices.Contains(only, benchmarkOf(name)) {
			out.WriteString(begin + name + close + old + end)
			continue
		}
		table, err := make(results)
		if err != nil {
			return "", fmt.Errorf("making table %q: %w", name, err)
		}
		out.WriteString(begin + name + close + "\n" + table + end)
	}
}

// benchmarkOf is the benchmark that a table is of: forest of forest-peers and host-forest.
func benchmarkOf(table string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(table, "host-"), "-")
	return name
}
