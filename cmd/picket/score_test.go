package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

// history writes rows of the small model's as CSV, each after its number.
func history(t *testing.T, path string, rows int) {
	t.Helper()
	m := testkit.ModelNamed(t, "binary-3.2.0")
	var out bytes.Buffer
	values := testkit.Rows(5000, m.Features)
	for i := range rows {
		fmt.Fprint(&out, i)
		for _, v := range values[i%5000*m.Features : (i%5000+1)*m.Features] {
			out.WriteByte(',')
			if v == v {
				out.Write(strconv.AppendFloat(nil, float64(v), 'g', -1, 32))
			}
		}
		out.WriteByte('\n')
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// scoreModel is a folder with the small model.
func scoreModel(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(testkit.Path(t, testkit.ModelNamed(t, "binary-3.2.0").Files[0]))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "model.json"), data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// A process that is killed again and again leaves what the next goes on with, to the bytes of one that was not.
func TestScoreKilled(t *testing.T) {
	t.Parallel()
	const rows = 60_000
	model, dir := scoreModel(t), t.TempDir()
	input, whole := filepath.Join(dir, "rows.csv"), filepath.Join(dir, "whole.parquet")
	history(t, input, rows)
	args := func(output string) []string {
		return []string{"score", model, input, "-o", output, "--id", "1", "--unsigned", "--checkpoint", "0s", "--json"}
	}
	if r := picket(t, "", args(whole)...); r.code != exitDone {
		t.Fatalf("exit %d: %s", r.code, r.stderr)
	}
	pieces := filepath.Join(dir, "pieces.parquet")
	kills := 0
	for pause := 10 * time.Millisecond; ; pause = pause * 5 / 4 {
		command := process(t.Context(), args(pieces)...)
		command.Env = append(command.Env, "TMPDIR="+dir) // what one that is killed leaves behind is the test's to remove
		var out bytes.Buffer
		command.Stdout = &out
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(pause, func() { _ = command.Process.Kill() }) // it may have ended
		err := command.Wait()
		timer.Stop()
		if err == nil {
			var s struct {
				Rows    int64 `json:"rows"`
				Resumed int64 `json:"resumed_rows"`
			}
			if err := json.Unmarshal(out.Bytes(), &s); err != nil || s.Rows != rows {
				t.Errorf("%q: %v", out.String(), err)
			}
			t.Logf("killed %d times; the last run found %d rows of %d", kills, s.Resumed, s.Rows)
			break
		}
		if command.ProcessState.ExitCode() != -1 {
			t.Fatalf("it was not killed: %v", err)
		}
		kills++
	}
	if kills == 0 {
		t.Error("it was never killed")
	}
	a, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(pieces)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%d bytes in one run and other %d in %d", len(a), len(b), kills+1)
	}
}

// Who may have signed the model has to be said, and a signature is checked.
func TestScoreRefuses(t *testing.T) {
	t.Parallel()
	model, dir := scoreModel(t), t.TempDir()
	input, output := filepath.Join(dir, "rows.csv"), filepath.Join(dir, "scores.csv")
	history(t, input, 10)
	_, public := keyPair(t, dir, "key")
	for name, c := range map[string]struct {
		args  []string
		code  int
		parts []string
	}{
		"nobody said":   {[]string{model, input, "-o", output}, exitUsage, []string{"--unsigned"}},
		"both said":     {[]string{model, input, "-o", output, "--unsigned", "--key", public}, exitUsage, []string{"--unsigned"}},
		"not signed":    {[]string{model, input, "-o", output, "--key", public}, exitPolicy, []string{"not signed"}},
		"no output":     {[]string{model, input, "--unsigned"}, exitUsage, []string{"-o FILE"}},
		"another name":  {[]string{model, input, "-o", dir + "/scores.txt", "--unsigned"}, exitUsage, []string{".parquet"}},
		"no such input": {[]string{model, dir + "/none.csv", "-o", output, "--unsigned"}, exitFailed, []string{"none.csv", "no such file"}},
		"no such model": {[]string{dir + "/none", input, "-o", output, "--unsigned"}, exitFailed, []string{"not found"}},
		"a bad row":     {[]string{model, input, "-o", output, "--unsigned", "--columns", "1-3"}, exitFailed, []string{"3 columns are named"}},
	} {
		t.Run(name, func(t *testing.T) {
			fails(t, picket(t, "", append([]string{"score"}, c.args...)...), c.code, c.parts...)
			if _, err := os.Stat(output); err == nil {
				t.Error("there is an output")
			}
		})
	}
}
