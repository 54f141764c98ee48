package pipeline

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/durable"
)

func openTestJournal(t *testing.T, dir string) *journal {
	t.Helper()
	j, err := openJournal(dir, "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.close)
	return j
}

func TestRecordOutlivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	if j.step("train") != nil {
		t.Error("a step is on record before there was one")
	}
	want := record{Key: "k", State: stateRunning, Job: &job{Name: "n", Try: 2}, Result: json.RawMessage(`{"a":1}`)}
	if err := j.put("train", &want); err != nil {
		t.Fatal(err)
	}
	want.Job.Name = "changed" // the record is a copy
	if got := j.step("train"); got.Job.Name != "n" {
		t.Errorf("what was put on record changed afterwards: %+v", got.Job)
	}
	j.close()
	got := openTestJournal(t, dir).step("train")
	if got == nil || got.Key != "k" || got.State != stateRunning || *got.Job != (job{Name: "n", Try: 2}) || string(got.Result) == "" {
		t.Errorf("read back: %+v", got)
	}
}

func TestOneRunAtATime(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	if !isLocked(dir) {
		t.Error("the folder does not look locked")
	}
	if _, err := openJournal(dir, "p"); err == nil || !strings.Contains(err.Error(), "is run already, by process") {
		t.Errorf("a second run: %v", err)
	}
	j.close()
	if isLocked(dir) {
		t.Error("the folder looks locked still")
	}
	openTestJournal(t, dir)
}

func TestDamagedRecords(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "is damaged",
		"{":                              "is damaged",
		`{"format": 2, "pipeline": "p"}`: "is of format 2",
		`{"format": 1, "pipeline": "q"}`: `is that of the pipeline "q" and not of "p"`,
		`{"format": 1, "pipeline": "p", "steps": {"a": 1}}`: "is damaged",
	} {
		dir := t.TempDir()
		writeFile(t, filepath.Join(dir, stateFile), text)
		if _, err := openJournal(dir, "p"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if isLocked(dir) {
			t.Errorf("%q: the folder stays locked", text)
		}
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, stateFile), `{"format": 1, "pipeline": "p", "steps": {"a": null}}`)
	if j := openTestJournal(t, dir); j.step("a") != nil {
		t.Error("null is a record")
	}
}

// A record that cannot be written is not on record in memory either.
func TestRecordThatCannotBeWritten(t *testing.T) {
	dir := t.TempDir()
	j := openTestJournal(t, dir)
	inTheWay := filepath.Join(dir, stateFile+durable.NewSuffix)
	if err := os.MkdirAll(filepath.Join(inTheWay, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := j.put("a", &record{Key: "k"}); err == nil || j.step("a") != nil {
		t.Errorf("%v, and it is on record: %+v", err, j.step("a"))
	}
	if err := os.RemoveAll(inTheWay); err != nil {
		t.Fatal(err)
	}
	if err := j.put("a", &record{Key: "k"}); err != nil || j.step("a") == nil {
		t.Errorf("afterwards: %v, %+v", err, j.step("a"))
	}
}

func TestKeys(t *testing.T) {
	a, err := keyOf("a", map[string]int{"x": 1, "y": 2})
	if err != nil {
		t.Fatal(err)
	}
	again, _ := keyOf("a", map[string]int{"y": 2, "x": 1})
	step, _ := keyOf("b", map[string]int{"x": 1, "y": 2})
	value, _ := keyOf("a", map[string]int{"x": 1, "y": 3})
	if a != again || a == step || a == value {
		t.Errorf("keys %s %s %s %s", a, again, step, value)
	}
}
