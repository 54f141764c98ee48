//go:build cgo && linux

package tvm_test

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// emptyParams is a parameter file without parameters.
func emptyParams() []byte {
	b := binary.LittleEndian.AppendUint64(nil, 0xF7E58D4F05049CB7)
	return append(b, make([]byte, 24)...)
}

// graphOf is the graph of one input of 64 floats that goes through the functions,
// each of which gives as many.
func graphOf(t *testing.T, functions ...string) []byte {
	t.Helper()
	nodes := []any{map[string]any{"op": "null", "name": "input", "inputs": []any{}}}
	var shapes, types, storage []any
	rows := []int{0}
	for i := range len(functions) + 1 {
		shapes, types, storage, rows = append(shapes, []int{64}), append(types, "float32"), append(storage, i), append(rows, i+1)
	}
	for i, f := range functions {
		nodes = append(nodes, map[string]any{"op": "tvm_op", "name": "node " + f, "inputs": [][]int{{i, 0, 0}}, "attrs": map[string]string{
			"func_name": f, "num_inputs": "1", "num_outputs": "1", "flatten_data": "0"}})
	}
	data, err := json.Marshal(map[string]any{
		"nodes": nodes, "arg_nodes": []int{0}, "heads": [][]int{{len(functions), 0, 0}}, "node_row_ptr": rows,
		"attrs": map[string]any{"dltype": []any{"list_str", types}, "shape": []any{"list_shape", shapes}, "storage_id": []any{"list_int", storage}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// specimen compiles testdata/specimen.c with the macros and gives the folder of an
// artifact that calls these functions.
func specimen(t *testing.T, functions []string, macros ...string) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-O2", "-shared", "-fPIC", "-w", "-o", filepath.Join(dir, "compiled.so"), filepath.Join("testdata", "specimen.c")}
	for _, m := range macros {
		args = append(args, "-D"+m)
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	if output, err := exec.Command(compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling a specimen: %v\n%s", err, output)
	}
	for name, data := range map[string][]byte{"compiled_model.json": graphOf(t, functions...), "compiled.params": emptyParams()} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// edit replaces old by now, which has to be there, in a file.
func edit(t *testing.T, path, old, now string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), old, now, 1)
	if changed == string(data) {
		t.Fatalf("BUG: %s does not hold %q", path, old)
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
}
