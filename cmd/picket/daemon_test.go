//go:build cgo

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/picket-ml/picket/internal/testkit"
)

// trained is a fixture model whose outputs the trainer does not transform, so that they must come back bit for bit.
const trained = "reg-squarederror-1.7.6"

// compileFixture makes an artifact of the fixture model and returns its folder.
func compileFixture(t *testing.T, name string) (testkit.Model, string) {
	t.Helper()
	m := testkit.ModelNamed(t, name)
	dir := filepath.Join(t.TempDir(), name)
	r := picket(t, "", "compile", testkit.Path(t, m.Files[0]), "-o", dir, "--json")
	if r.code != exitDone {
		t.Fatal(r.stderr)
	}
	var made compiled
	if err := json.Unmarshal([]byte(r.stdout), &made); err != nil {
		t.Fatal(err)
	}
	if made.Dir != dir || made.Features != m.Features || made.Outputs != m.Outputs || made.Trees == 0 || made.Bytes == 0 || len(made.SHA256) != 64 {
		t.Errorf("compile says %+v of %+v", made, m)
	}
	if !strings.Contains(r.stderr, "100%") {
		t.Errorf("no progress was shown: %q", r.stderr)
	}
	return m, dir
}

// rowsAs writes rows as CSV or as one of the JSON forms.
func rowsAs(form string, values []float32, columns int) string {
	var lines []string
	for ; len(values) > 0; values = values[columns:] {
		cells := make([]string, columns)
		for i, v := range values[:columns] {
			cells[i] = strconv.FormatFloat(float64(v), 'g', -1, 32)
			if v != v {
				cells[i] = map[bool]string{true: "", false: "null"}[form == "csv"]
			}
		}
		line := strings.Join(cells, ",")
		switch form {
		case "json array", "json lines":
			line = "[" + line + "]"
		case "json objects":
			line = `{"data":[` + line + "]}"
		}
		lines = append(lines, line)
	}
	if form == "json array" {
		return "[" + strings.Join(lines, ",\n") + "]\n"
	}
	return strings.Join(lines, "\n") + "\n"
}

// checkAnswers wants a number per line, in the form of picket predict, equal to the trainer's bit for bit.
func checkAnswers(t *testing.T, text string, asJSON bool, want []float32) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines for %d rows", len(lines), len(want))
	}
	for i, line := range lines {
		if asJSON {
			var answer struct{ Outputs map[string][]json.Number }
			if err := json.Unmarshal([]byte(line), &answer); err != nil || len(answer.Outputs["output"]) != 1 {
				t.Fatalf("line %d is %q (%v)", i+1, line, err)
			}
			line = answer.Outputs["output"][0].String()
		}
		got, err := strconv.ParseFloat(line, 32)
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if math.Float32bits(float32(got)) != math.Float32bits(want[i]) {
			t.Fatalf("row %d: %s, the trainer says %v", i+1, line, want[i])
		}
	}
}

func TestAModelFromFileToAnswers(t *testing.T) {
	m, dir := compileFixture(t, trained)
	sockets, stop := startDaemon(t, "--unsigned")
	t.Setenv("PICKET_SOCKETS", sockets)
	values, want := testkit.Rows(m.Rows, m.Features), testkit.ReadF32(t, m.Prediction)

	// A relative path is the caller's, not the daemon's.
	r := picketIn(t, filepath.Dir(dir), "", "load", "sums", filepath.Base(dir), "--json")
	var loaded model
	if err := json.Unmarshal([]byte(r.stdout), &loaded); err != nil {
		t.Fatalf("%v: %s", err, r.stderr)
	}
	input := fmt.Sprintf("data FP32 [-1, %d]", m.Features)
	if loaded.URL != dir || joinSpecs(loaded.Inputs) != input || len(loaded.Outputs) != 1 {
		t.Errorf("loaded %+v", loaded)
	}
	if text := ok(t, "", "load", "again", dir); !strings.Contains(text, "loaded again from "+dir) || !strings.Contains(text, input) {
		t.Error(text)
	}

	var listed struct{ Models []model }
	if err := json.Unmarshal([]byte(ok(t, "", "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	if len(listed.Models) != 2 || listed.Models[0].Name != "again" || listed.Models[1].Name != "sums" || joinSpecs(listed.Models[1].Inputs) != input {
		t.Errorf("listed %+v", listed)
	}
	if text := ok(t, "", "list"); strings.Count(text, "\n") != 3 || !strings.Contains(text, input) || !strings.Contains(text, dir) {
		t.Error(text)
	}

	file := filepath.Join(t.TempDir(), "rows")
	for _, form := range []string{"csv", "json array", "json lines", "json objects"} {
		text := rowsAs(form, values, m.Features)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Run(form, func(t *testing.T) {
			checkAnswers(t, ok(t, text, "predict", "sums"), false, want)
			checkAnswers(t, ok(t, text, "predict", "sums", "--input", "-", "--json", "--batch", "7"), true, want)
			checkAnswers(t, ok(t, "", "predict", "sums", "--input", file, "--batch", "1000000"), false, want)
			checkAnswers(t, ok(t, "", "predict", "sums", "--input", file, "--protocol", "lane", "--json"), true, want)
			checkAnswers(t, ok(t, "", "predict", "sums", "--input", file, "--protocol", "oip", "--json"), true, want)
		})
	}

	var explained explanation
	if err := json.Unmarshal([]byte(ok(t, "", "explain", "sums", "--json")), &explained); err != nil {
		t.Fatal(err)
	}
	chosen := 0
	for _, c := range explained.Candidates {
		if c.Chosen {
			chosen++
			if explained.Chosen != c.Backend {
				t.Errorf("chosen is %q, but the candidate is %+v", explained.Chosen, c)
			}
		}
		if c.Reason == "" {
			t.Errorf("no reason: %+v", c)
		}
	}
	if chosen != 1 {
		t.Errorf("%d candidates are chosen: %+v", chosen, explained)
	}
	text := ok(t, "", "explain", "sums")
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(line) > 80+1 {
			t.Errorf("more than 80 columns: %q", line)
		}
	}
	if !strings.Contains(text, "sums is run by "+explained.Chosen) || !strings.Contains(text, "priority normal") || explained.Settings["max_queue"] != "1024" || strings.Count(text, "\n") < 2+len(explained.Candidates) {
		t.Error(text)
	}

	fails(t, picket(t, "", "load", "sums", dir), exitFailed, `"sums"`, "already loaded", "unload it first")
	if text := ok(t, "", "unload", "again"); text != "unloaded again\n" {
		t.Error(text)
	}
	for _, command := range [][]string{{"unload", "again"}, {"explain", "again"}, {"predict", "again"}} {
		fails(t, picket(t, "1", command...), exitFailed, `"again"`, "not found", "picket list")
	}
	fails(t, picket(t, "", "load", "not_valid", dir), exitFailed, `"not_valid"`, "hyphens")
	fails(t, picket(t, "", "load", "gone", filepath.Join(dir, "nowhere-1234")), exitFailed, "nowhere-1234", "not found")
	if text := ok(t, "", "unload", "sums", "--json"); text != "{\n  \"unloaded\": \"sums\"\n}\n" {
		t.Errorf("unload --json prints %s", text)
	}
	if text := ok(t, "", "list"); !strings.Contains(text, "no model is loaded") {
		t.Error(text)
	}

	stop()
	fails(t, picket(t, "", "list"), exitUnreachable, sockets)
}

func TestPredictSaysWhichNumberIsWrong(t *testing.T) {
	m, dir := compileFixture(t, trained)
	sockets, _ := startDaemon(t, "--unsigned", "--model", "sums="+dir)
	t.Setenv("PICKET_SOCKETS", sockets)
	values, want := testkit.Rows(m.Rows, m.Features), testkit.ReadF32(t, m.Prediction)

	good := rowsAs("csv", values[:2*m.Features], m.Features)
	r := picket(t, good+strings.Repeat("0,", 6)+"abc"+strings.Repeat(",0", m.Features-7)+"\n"+good, "predict", "sums")
	fails(t, r, exitFailed, `predicting with model "sums": row 3, column 7: "abc" is not a number; the model takes 12 numbers a row`)
	checkAnswers(t, r.stdout, false, want[:2])
	if r = picket(t, good+"1,2\n", "predict", "sums", "--batch", "1", "--json"); r.code != exitFailed {
		t.Errorf("exit %d", r.code)
	}
	fails(t, r, exitFailed, "row 3 has 2 numbers; the model takes 12")
	checkAnswers(t, r.stdout, true, want[:2])

	for _, empty := range []string{"", "\n\n", "[]"} {
		fails(t, picket(t, empty, "predict", "sums"), exitFailed, "no rows")
		fails(t, picket(t, empty, "predict", "sums", "--protocol", "lane"), exitFailed, "no rows")
		fails(t, picket(t, empty, "predict", "sums", "--protocol", "oip"), exitFailed, "no rows")
	}
	fails(t, picket(t, "", "predict", "sums", "--input", filepath.Join(dir, "nowhere.csv")), exitFailed, "nowhere.csv")
	fails(t, picket(t, good, "predict", "nobody", "--protocol", "lane"), exitFailed, `predicting with model "nobody"`, "picket list")
	fails(t, picket(t, good, "predict", "nobody", "--protocol", "oip"), exitFailed, `predicting with model "nobody"`, "picket list")
	fails(t, picket(t, good, "predict", "sums", "--protocol", "lane", "--sockets", dir), exitUnreachable, "lane.sock", "picketd")
	fails(t, picket(t, good, "predict", "sums", "--protocol", "oip", "--sockets", dir), exitUnreachable, "oip.sock", "picketd")
}

func TestUnsignedPackageIsRefusedByPolicy(t *testing.T) {
	_, dir := compileFixture(t, trained)
	sockets, _ := startDaemon(t)
	fails(t, picket(t, "", "load", "sums", dir, "--sockets", sockets), exitPolicy, "loading", dir, "not trusted", "--unsigned")
}

func TestCompileKeepsWhatIsThere(t *testing.T) {
	m, dir := compileFixture(t, trained)
	source := testkit.Path(t, m.Files[0])
	fails(t, picket(t, "", "compile", source, "-o", dir), exitFailed, dir)
	if r := picket(t, "", "compile", source, "-o", dir, "--force"); r.code != exitDone || !strings.Contains(r.stdout, "compiled "+source+" to "+dir) {
		t.Errorf("exit %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// An interrupted compilation ends soon, says so, and leaves nothing behind.
func TestInterruptedCompile(t *testing.T) {
	m := testkit.ModelNamed(t, trained)
	dir, temporary := t.TempDir(), t.TempDir()
	slow := filepath.Join(t.TempDir(), "cc") // a compiler that says it has started and then never ends
	started := filepath.Join(t.TempDir(), "started")
	script := "#!/bin/sh\ncase \"$*\" in *--version*) exec cc \"$@\";; esac\n: > '" + started + "'\nexec sleep 600\n"
	if err := os.WriteFile(slow, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	command := process(t.Context(), "compile", testkit.Path(t, m.Files[0]), "-o", filepath.Join(dir, "out"))
	command.Env = append(command.Env, "CC="+slow, "TMPDIR="+temporary)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(started); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the compiler was never started")
		}
	}
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the exit code says how
	fails(t, result{stderr: stderr.String(), code: command.ProcessState.ExitCode()}, exitFailed, "interrupted")
	for _, folder := range []string{dir, temporary} {
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", folder, left, err)
		}
	}
}

// A daemon that has as many clients as it may says nothing to one more; picket finds the likely reason.
func TestDaemonWithAllItsClients(t *testing.T) {
	config := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(config, []byte("limits: {max_connections: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sockets, _ := startDaemon(t, "--config", config)
	// What startDaemon asked with may still be on the daemon's list for a moment; who is on it is greeted.
	for greeted := false; !greeted; {
		only, err := net.Dial("unix", filepath.Join(sockets, "agent.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer only.Close()
		_, _ = only.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // HTTP/2's greeting
		n, _ := only.Read(make([]byte, 1))
		greeted = n == 1
	}
	for range 10 { // in whatever order the end of the connection and the first write come
		fails(t, picket(t, "", "list", "--sockets", sockets), exitUnreachable, "listing the models", "limits.max_connections")
	}
}
