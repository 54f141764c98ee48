package compile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// drivers compiles the programs of testdata once for all tests. TestMain removes them.
var drivers = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "picket-driver-*"); err != nil {
		return "", err
	}
	for _, name := range []string{"driver", "dlr"} {
		out, err := exec.Command("cc", "-O1", "-Wall", "-Werror", "-o", filepath.Join(dir, name), "testdata/"+name+".c", "-ldl").CombinedOutput()
		if err != nil {
			return dir, fmt.Errorf("compiling %s.c: %w: %s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := drivers(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// execute runs one of the programs over rows, which it finds in a file whose name takes the place of the argument
// "ROWS", and gives its standard output and error.
func execute(t *testing.T, program string, rows []float32, args ...string) (stdout, stderr []byte) {
	t.Helper()
	return executeUnder(t, nil, program, rows, args...)
}

// executeUnder is execute by means of another program, such as an emulator, with its first arguments.
func executeUnder(t *testing.T, under []string, program string, rows []float32, args ...string) (stdout, stderr []byte) {
	t.Helper()
	dir, err := drivers()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rows.f32")
	data := make([]byte, 0, 4*len(rows))
	for _, v := range rows {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range args {
		if args[i] == "ROWS" {
			args[i] = file
		}
	}
	command := append(append(append([]string{}, under...), filepath.Join(dir, program)), args...)
	cmd := exec.Command(command[0], command[1:]...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, complaint.String())
	}
	return out.Bytes(), complaint.Bytes()
}

// floats decodes little-endian float32 values.
func floats(b []byte) (out []float32) {
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return out
}

// drive scores rows with the library and gives its results and what it says about itself.
func drive(t *testing.T, library string, rows []float32, features int, margin bool) (out []float32, facts []string) {
	t.Helper()
	return driveUnder(t, nil, library, rows, features, margin)
}

// driveUnder is drive by means of another program.
func driveUnder(t *testing.T, under []string, library string, rows []float32, features int, margin bool) (out []float32, facts []string) {
	t.Helper()
	flag := "0"
	if margin {
		flag = "1"
	}
	stdout, stderr := executeUnder(t, under, "driver", rows, library, "ROWS", fmt.Sprint(features), flag)
	return floats(stdout), strings.Fields(string(stderr))
}
