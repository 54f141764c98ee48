//go:build linux

package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestExceptions: each names a test that is there, so that one which was renamed is noticed before anybody emulates anything.
func TestExceptions(t *testing.T) {
	all, err := parseExceptions(exceptionsFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		files, err := filepath.Glob(filepath.Join("..", "..", e.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		test, _, _ := strings.Cut(e.test, "/")
		there := false
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			there = there || strings.Contains(string(source), "\nfunc "+test+"(")
		}
		if !there {
			t.Errorf("%s has no %s", e.pkg, test)
		}
	}
}

func TestExceptionsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"engine TestA always it cannot":                                "line 1",
		"# what\n\nengine TestA never":                                 "line 3",
		"engine TestA never it cannot\nengine TestA sometimes it does": "twice",
	} {
		if _, err := parseExceptions(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}

// TestPattern: -test.run goes by levels, and must match no test of a similar name.
func TestPattern(t *testing.T) {
	all, err := parseExceptions("a TestX never why\na TestY/part.1 sometimes why not\nb TestZ never why")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := pattern(of(all, "a")), `^TestX$|^TestY$/^part\.1$`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if matched := regexp.MustCompile(strings.Split(pattern(all), "|")[0]).MatchString("TestXY"); matched {
		t.Error("TestXY is taken for TestX")
	}
}

// TestRead has processes that end well, with failed tests, and in the middle of one.
func TestRead(t *testing.T) {
	event := func(action, test, output string) string {
		return `{"Action":"` + action + `","Package":"p","Test":"` + test + `","Output":"` + output + `"}` + "\n"
	}
	good := event("start", "", "") + event("run", "TestA", "") + event("run", "TestA/x", "") + event("pass", "TestA/x", "") + event("pass", "TestA", "")
	bad := errors.New("exit status 1")
	for name, c := range map[string]struct {
		events string
		ended  error
		want   outcome
	}{
		"passed":  {good + event("pass", "", ""), nil, outcome{passed: 1}},
		"skipped": {event("run", "TestB", "") + event("output", "TestB", `    b_test.go:12: no such disk\n`) + event("skip", "TestB", ""), nil, outcome{skipped: []string{"TestB: no such disk"}}},
		"a part failed": {
			event("run", "TestC", "") + event("run", "TestC/x", "") + event("output", "TestC/x", "why") + event("fail", "TestC/x", "") + event("fail", "TestC", ""), bad,
			outcome{failed: []string{"TestC/x failed"}, log: []byte("why")},
		},
		"crashed":             {good + event("run", "TestD", "") + event("output", "TestD", "SIGSEGV") + event("fail", "", ""), bad, outcome{passed: 1, failed: []string{"TestD did not end"}, log: []byte("SIGSEGV")}},
		"leaked":              {good + event("output", "", "buffers") + event("fail", "", ""), bad, outcome{passed: 1, failed: []string{"failed after its tests: exit status 1"}, log: []byte("buffers")}},
		"qemu says something": {"qemu: no such processor\n", bad, outcome{failed: []string{"failed after its tests: exit status 1"}, log: []byte("qemu: no such processor\n")}},
	} {
		got, _ := read([]byte(c.events), c.ended)
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
	if _, seen := read([]byte(good), nil); !seen["TestA/x"] || seen["TestC"] {
		t.Errorf("saw %v", seen)
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	table(&out, []testPackage{{name: "b"}, {name: "a"}}, map[string]outcome{
		"a": {passed: 12, excepted: 1, skipped: []string{"TestX: no disk"}, failed: []string{"TestY failed", "TestZ did not end"}, took: 90 * time.Second},
		"b": {passed: 3, took: 250 * time.Millisecond},
	})
	want := [][]string{{"package", "passed", "excepted", "skipped", "failed", "seconds"}, {"b", "3", "0", "0", "0", "0.2"}, {"a", "12", "1", "1", "2", "90.0"}}
	var got [][]string
	for line := range strings.Lines(out.String()) {
		if fields := strings.Fields(line); len(fields) > 0 {
			got = append(got, fields)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCommands(t *testing.T) {
	for _, args := range [][]string{nil, {"exec"}, {"run"}} {
		if _, err := run(args); err == nil {
			t.Errorf("%v is taken for a command", args)
		}
	}
}
