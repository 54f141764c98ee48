// Command doc writes the tables of docs/performance.md anew from bench/results. A table stands between the lines
// "<!-- table NAME -->" and "<!-- end -->"; everything else of the document is written by hand and kept.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	if err := rewrite(filepath.Join(root, "docs/performance.md"), filepath.Join(root, "bench/results")); err != nil {
		fmt.Fprintln(os.Stderr, "bench-doc:", err)
		os.Exit(1)
	}
}

func rewrite(document, results string) error {
	old, err := os.ReadFile(document)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	text, err := fill(string(old), results)
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

// fill gives the text with every marked table made anew.
func fill(text, results string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, begin)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		name, rest, closed := strings.Cut(rest, close)
		_, after, ended := strings.Cut(rest, end)
		if !closed || !ended {
			return "", errors.New("a table's marks are incomplete: \"" + begin + "NAME" + close + "\", then \"" + end + "\"")
		}
		make, known := tables()[name]
		if !known {
			return "", fmt.Errorf("there is no table %q", name)
		}
		table, err := make(results)
		if err != nil {
			return "", fmt.Errorf("making table %q: %w", name, err)
		}
		out.WriteString(begin + name + close + "\n" + table + end)
		text = after
	}
}
