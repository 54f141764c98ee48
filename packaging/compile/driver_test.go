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

// driver compiles testdata/driver.c once for all tests. TestMain removes it.
var driver = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "picket-driver-*")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "driver")
	out, err := exec.Command("cc", "-O1", "-Wall", "-Werror", "-o", path, "testdata/driver.c", "-ldl").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := driver(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// drive scores rows with the library and gives its results and what it says about itself.
func drive(t *testing.T, library string, rows []float32, features int, margin bool) (out []float32, facts []string) {
	t.Helper()
	path, err := driver()
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
	flag := "0"
	if margin {
		flag = "1"
	}
	cmd := exec.Command(path, library, file, fmt.Sprint(features), flag)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("driver: %v: %s", err, stderr.String())
	}
	for b := stdout.Bytes(); len(b) >= 4; b = b[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return out, strings.Fields(stderr.String())
}
