package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFill makes one table and leaves the prose alone.
func TestFill(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	results := `{"host": {"facts": {"cpu": {"features": ["avx2"]}}}, "results": [
		{"model": "demo", "engine": "C loop", "condition": "hot", "rows": 1, "cores": 1, "us_per_row": 0.5},
		{"model": "demo", "engine": "engine", "condition": "hot", "rows": 1, "cores": 1, "us_per_row": 1.25}]}`
	if err := os.WriteFile(filepath.Join(folder, "engine.json"), []byte(results), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := fill("before\n<!-- table engine -->\nold\n<!-- end -->\nafter\n", folder)
	if err != nil {
		t.Fatal(err)
	}
	want := "before\n<!-- table engine -->\n| model | condition | C loop, µs | engine, µs | more, µs |\n|---|---|---|---|---|\n" +
		"| demo, 100 trees of depth 5, by `picket compile` | hot | 0.50 | 1.25 | 0.75 |\n<!-- end -->\nafter\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestFillRefuses names what is wrong with the marks.
func TestFillRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<!-- table engine -->\nno end":            "incomplete",
		"<!-- table nothing -->\n<!-- end -->":     "no table",
		"<!-- table engine -->\nx\n<!-- end -->\n": "make bench-engine",
	} {
		if _, err := fill(text, t.TempDir()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("fill(%q) gives %v, want an error with %q", text, err, want)
		}
	}
}
