package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
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
	got, err := fill("before\n<!-- table engine -->\nold\n<!-- end -->\nafter\n", folder, nil)
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
		if _, err := fill(text, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("fill(%q) gives %v, want an error with %q", text, err, want)
		}
	}
}

// TestFillOnly makes the tables of one benchmark, of which there are results, and keeps the others as they are.
func TestFillOnly(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	results := `{"host": {}, "results": [
		{"target": "picketd", "protocol": "OIP gRPC", "transport": "TCP loopback", "rows": 1, "outstanding": 16, "p50_us": 500, "p99_us": 1000, "rows_per_s": 20000, "server_cpu_us": 70},
		{"target": "MLServer", "protocol": "OIP gRPC", "transport": "TCP loopback", "rows": 1, "outstanding": 16, "p50_us": 20000, "p99_us": 15000, "rows_per_s": 500, "server_cpu_us": 2000},
		{"target": "MLServer", "protocol": "OIP HTTP, JSON", "transport": "TCP loopback", "rows": 1, "outstanding": 16, "p50_us": 20000, "p99_us": 15000, "rows_per_s": 500}],
		"servers": [{"name": "MLServer", "version": "mlserver 1.7.1", "start_s": 3.21, "memory_mb": 217.4}],
		"left_out": [{"engine": "Ray Serve", "why": "it beats"}]}`
	if err := os.WriteFile(filepath.Join(folder, "serving.json"), []byte(results), 0o600); err != nil {
		t.Fatal(err)
	}
	mark := func(name, table string) string { return "<!-- table " + name + " -->\n" + table + "<!-- end -->\n" }
	got, err := fill(mark("engine", "old\n")+mark("serving", "")+mark("serving-times", "")+mark("serving-servers", ""), folder, []string{"serving"})
	if err != nil {
		t.Fatal(err)
	}
	want := mark("engine", "old\n") +
		mark("serving", "| server | protocol | over | 1 row, 16 at a time |\n|---|---|---|---|\n"+
			"| picketd | OIP gRPC | TCP loopback | 500 / 1,000; 20,000; 70 |\n"+
			"| MLServer | OIP gRPC | TCP loopback | 20,000 / 15,000; 500; 2,000 |\n"+
			"| MLServer | OIP HTTP, JSON | TCP loopback | 20,000 / 15,000; 500; - |\n") +
		mark("serving-times", "| beside | protocol | over | 1 row, 16 at a time |\n|---|---|---|---|\n"+
			"| MLServer | OIP gRPC | TCP loopback | 40.0 / 15.0 |\n") +
		mark("serving-servers", "| server | version | start, s | memory, MB |\n|---|---|---|---|\n| MLServer | mlserver 1.7.1 | 3.2 | 217 |\n\n"+
			"| not measured | why |\n|---|---|\n| Ray Serve | it beats |\n")
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestReadme holds the README's table to the result that is in the repository: whoever changes one makes the other anew with make
// bench-readme.
func TestReadme(t *testing.T) {
	t.Parallel()
	root := testkit.ModuleRoot()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), begin+readme+close) {
		t.Fatal("the README has no table of a result")
	}
	made, err := fill(string(text), filepath.Join(root, "bench/readme.json"), []string{readme})
	if err != nil {
		t.Fatal(err)
	}
	if made != string(text) {
		t.Error("the README's table is not that of bench/readme.json; write it anew with go run ./bench/doc readme")
	}
}
