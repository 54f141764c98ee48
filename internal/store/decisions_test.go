package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/engine"
)

// aKey is a key that differs by n.
func aKey(n int) string { return fmt.Sprintf("%064x", n+1) }

var aDecision = engine.Decision{
	Time: time.Date(2026, 11, 23, 7, 8, 9, 0, time.UTC),
	Candidates: []engine.Candidate{
		{Backend: "forest", Variant: "avx512vbmi row", Chosen: true, USPerRow: 0.51, Reason: "chosen: the fastest of 2 with 1 row a request"},
		{Backend: "treelite", USPerRow: 5.2, Reason: "slower (5.20 µs)"},
	},
}

func openDecisions(t testing.TB, state string) *Decisions {
	t.Helper()
	d, err := OpenDecisions(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestDecisionsAreKept(t *testing.T) {
	state := filepath.Join(t.TempDir(), "not", "there", "yet")
	d := openDecisions(t, state)
	if got, err := d.Recall(aKey(0)); got != nil || err != nil {
		t.Errorf("what was never remembered is %+v, %v", got, err)
	}
	for _, decision := range []engine.Decision{{Time: aDecision.Time.Add(-time.Hour)}, aDecision} {
		if err := d.Remember(aKey(0), decision); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := openDecisions(t, state).Recall(aKey(0)); err != nil || !reflect.DeepEqual(*got, aDecision) {
		t.Errorf("recalled %+v, %v", got, err)
	}
	if got, err := d.Recall(aKey(1)); got != nil || err != nil {
		t.Errorf("of another key: %+v, %v", got, err)
	}
	files, err := os.ReadDir(filepath.Join(state, "decisions"))
	if err != nil || len(files) != 1 || files[0].Name() != aKey(0)+".json" {
		t.Fatalf("the folder holds %v, %v", files, err)
	}
	for path, want := range map[string]os.FileMode{state: 0o700, filepath.Join(state, "decisions", files[0].Name()): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
		}
	}
}

// TestDamagedDecisions: whatever lies in the file's place is an error or nothing, and the next decision takes the place.
func TestDamagedDecisions(t *testing.T) {
	state := t.TempDir()
	d := openDecisions(t, state)
	path := filepath.Join(state, "decisions", aKey(0)+".json")
	if err := d.Remember(aKey(0), aDecision); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, good, 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o600) }
	}
	for name, c := range map[string]struct {
		put  func() error
		says string
	}{
		"empty":            {write(""), "it is damaged: EOF"},
		"cut":              {write(string(good[:len(good)/2])), "it is damaged: unexpected EOF"},
		"other words":      {write("{\"a\": 1}"), "it is damaged: json: unknown field"},
		"twice":            {write(string(good) + string(good)), "it does not hold one decision"},
		"nothing in it":    {write("{}"), "it does not hold one decision"},
		"of the future":    {write(strings.Replace(string(good), `"picket_decision": 1`, `"picket_decision": 2`, 1)), "it is of format 2, not 1"},
		"of another key":   {write(strings.Replace(string(good), aKey(0), aKey(1), 1)), "for another key"},
		"too large":        {write(string(good) + strings.Repeat(" ", maxDecisionBytes)), "larger than 65536 bytes"},
		"a deep list":      {write(`{"decision": ` + strings.Repeat("[", 60000)), "it is damaged"},
		"a folder":         {func() error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a pipe":           {func() error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a link elsewhere": {func() error { return os.Symlink(outside, path) }, "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if err := c.put(); err != nil {
				t.Fatal(err)
			}
			if got, err := d.Recall(aKey(0)); got != nil || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("recalled %+v, %v", got, err)
			}
			if name == "a folder" {
				return // which no file can replace
			}
			if err := d.Remember(aKey(0), aDecision); err != nil {
				t.Error(err)
			}
			if got, err := d.Recall(aKey(0)); err != nil || !reflect.DeepEqual(*got, aDecision) {
				t.Errorf("recalled %+v, %v", got, err)
			}
		})
	}
	if text, err := os.ReadFile(outside); err != nil || string(text) != string(good) {
		t.Errorf("what the link led to is now %q, %v", text, err)
	}
	for _, key := range []string{"", "../" + aKey(0)[3:], strings.ToUpper(aKey(0xabc)), aKey(0) + "0", aKey(0)[1:] + "\x00"} {
		if _, err := d.Recall(key); err == nil {
			t.Errorf("the key %q was looked for", key)
		}
		if err := d.Remember(key, aDecision); err == nil {
			t.Errorf("the key %q was written", key)
		}
	}
}

// TestOldDecisionsGo: the folder does not grow for ever, and files that a killed daemon left half done go with the oldest.
func TestOldDecisionsGo(t *testing.T) {
	state := t.TempDir()
	d := openDecisions(t, state)
	dir := filepath.Join(state, "decisions")
	began := time.Now()
	strange := []string{"notes.txt", aKey(0), "A" + aKey(0)[1:] + ".json", aKey(0) + ".json.old"}
	for _, name := range strange {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chtimes(path, began, time.Unix(0, 0))); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxDecisions {
		path := filepath.Join(dir, aKey(n)+".json")
		if n == 0 {
			path += ".0123456789abcdef"
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		when := began.Add(time.Duration(n-2*maxDecisions) * time.Second)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Remember(aKey(maxDecisions), aDecision); err != nil {
		t.Fatal(err)
	}
	for _, name := range strange {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Errorf("what is no decision: %v", err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != keepDecisions {
		t.Errorf("%d files are left, want %d (%v)", len(files), keepDecisions, err)
	}
	if files[0].Name() != aKey(maxDecisions+1-keepDecisions)+".json" {
		t.Errorf("the oldest that is left is %s", files[0].Name())
	}
	if got, err := d.Recall(aKey(maxDecisions)); err != nil || got == nil {
		t.Errorf("the newest is %+v, %v", got, err)
	}
}

// TestDecisionsTogether: readers see a whole file while several write it.
func TestDecisionsTogether(t *testing.T) {
	state := t.TempDir()
	var all sync.WaitGroup
	for range 2 { // two daemons
		d := openDecisions(t, state)
		for writer := range 2 {
			all.Go(func() {
				for range 50 {
					if err := d.Remember(aKey(writer), aDecision); err != nil {
						t.Error(err)
					}
					if got, err := d.Recall(aKey(1 - writer)); err != nil || got != nil && !reflect.DeepEqual(*got, aDecision) {
						t.Errorf("recalled %+v, %v", got, err)
					}
				}
			})
		}
	}
	all.Wait()
	if files, err := os.ReadDir(filepath.Join(state, "decisions")); err != nil || len(files) != 2 {
		t.Errorf("the folder holds %v, %v", files, err)
	}
}

func TestDecisionsWithoutAPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err := OpenDecisions(file); err == nil || d != nil {
		t.Errorf("a file as the state directory: %v", err)
	}
}

// TestDecisionsOfOthers: whoever can put files into the folder could say which backend answers.
func TestDecisionsOfOthers(t *testing.T) {
	for mode, says := range map[os.FileMode]string{0o700: "", 0o755: "", 0o770: "its mode 0770 lets other users write", 0o702: "its mode 0702", 0o777 | os.ModeSticky: "its mode 0777"} {
		state := t.TempDir()
		dir := filepath.Join(state, "decisions")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDecisions(state)
		if (d == nil) == (err == nil) || (err == nil) != (says == "") || err != nil && (!strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir)) {
			t.Errorf("mode %v: %v", mode, err)
		}
		if d != nil {
			d.Close()
		}
	}
	info, err := os.Stat(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatalf("the owner is not known from %T", info.Sys())
	}
	s.Uid = 4711
	if err := checkPrivate(info, 4711); err != nil {
		t.Error(err)
	}
	if err := checkPrivate(info, 4712); err == nil || !strings.Contains(err.Error(), "belongs to user 4711 and the daemon runs as 4712") {
		t.Errorf("the folder of another user: %v", err)
	}
	s.Uid = 0
	if err := checkPrivate(info, 4712); err != nil {
		t.Errorf("the folder of root: %v", err)
	}
}

// TestDecisionErrorsNameTheFolder: the message is all that an operator has.
func TestDecisionErrorsNameTheFolder(t *testing.T) {
	state := t.TempDir()
	d := openDecisions(t, state)
	dir := filepath.Join(state, "decisions")
	if err := os.WriteFile(filepath.Join(dir, aKey(0)+".json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Recall(aKey(0)); err == nil || !strings.Contains(err.Error(), filepath.Join(dir, aKey(0))) {
		t.Errorf("recalling: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := d.Remember(aKey(0), aDecision); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("remembering: %v", err)
	}
}

// FuzzDecision: whatever is read is for the key and can be written again.
func FuzzDecision(f *testing.F) {
	good, err := json.Marshal(decisionFile{decisionFormat, aKey(0), &aDecision})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"picket_decision": 1, "key": "", "decision": {"time": "2026-11-23T07:08:09Z", "candidates": null}}`))
	f.Add([]byte(`{"decision": {"candidates": [{"us_per_row": 1e999}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parseDecision(data, aKey(0))
		if (d == nil) == (err == nil) {
			t.Fatalf("%+v and %v", d, err)
		}
		if err != nil {
			return
		}
		again, err := json.Marshal(decisionFile{decisionFormat, aKey(0), d})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := parseDecision(again, aKey(0)); err != nil || !reflect.DeepEqual(same.Candidates, d.Candidates) || !same.Time.Equal(d.Time) {
			t.Fatalf("%+v became %+v, %v", d, same, err)
		}
	})
}
