package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestUsageErrors(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"unknown command":      {[]string{"lod"}, []string{`"lod"`, "did you mean load", "see picket --help"}},
		"command of tomorrow":  {[]string{"forecast", "rows.csv"}, []string{`"forecast"`, "see picket --help"}},
		"unknown flag":         {[]string{"list", "--nothing"}, []string{"--nothing", "see picket list --help"}},
		"missing argument":     {[]string{"load", "fraud"}, []string{"PATH is missing; see picket load --help"}},
		"missing arguments":    {[]string{"score"}, []string{"MODEL and INPUT are missing; see picket score --help"}},
		"missing alternative":  {[]string{"package", "pull"}, []string{"s3://BUCKET/KEY | NAME | NAME@VERSION is missing"}},
		"missing list":         {[]string{"bench", "cost"}, []string{"RESULT is missing"}},
		"too many arguments":   {[]string{"info", "x"}, []string{`"x" is one argument too many; see picket info --help`}},
		"too many of several":  {[]string{"load", "fraud", "x", "y"}, []string{`"y" is one argument too many`}},
		"typing mistake below": {[]string{"package", "bild"}, []string{`"bild" for "picket package"`, "did you mean build", "see picket package --help"}},
		"help about nothing":   {[]string{"help", "lod"}, []string{`"lod"`, "did you mean load"}},
		"help below nothing":   {[]string{"help", "package", "bild"}, []string{`"bild" for "picket package"`, "did you mean build"}},
		"no port":              {[]string{"list", "--sockets", "tcp://host"}, []string{"tcp://host names no port"}},
		"flag without value":   {[]string{"list", "--sockets"}, []string{"--sockets", "see picket list --help"}},
		"bad duration":         {[]string{"list", "--timeout", "soon"}, []string{"--timeout", "see picket list --help"}},
		"no time":              {[]string{"list", "--timeout", "0s"}, []string{"--timeout", "see picket list --help"}},
		"no batch":             {[]string{"predict", "m", "--batch", "0"}, []string{"--batch 0", "see picket predict --help"}},
		"no protocol":          {[]string{"predict", "m", "--protocol", "soap"}, []string{`"soap"`, "agent"}},
		"compile to nowhere":   {[]string{"compile", "m.ubj"}, []string{"-o DIR", "see picket compile --help"}},
		"load from a bucket":   {[]string{"load", "m", "s3://bucket/m"}, []string{"s3://bucket/m", "local files"}},
		"load by an address":   {[]string{"load", "m", "file:///models/m"}, []string{"local files"}},
		"compile for a vax":    {[]string{"compile", "m.ubj", "-o", "x", "--target", "vax"}, []string{`"vax"`, "x86-64-v3"}},
		"compile some way":     {[]string{"compile", "m.ubj", "-o", "x", "--engine", "magic"}, []string{`"magic"`, "branches, simd"}},
		"completion for a vax": {[]string{"completion", "vax"}, []string{"vax"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := picket(t, "", test.args...)
			fails(t, r, exitUsage, test.want...)
			if r.stdout != "" {
				t.Errorf("standard output has %q", r.stdout)
			}
		})
	}
}

func TestHelpListsWhatExists(t *testing.T) {
	help := ok(t, "", "--help")
	for _, command := range []string{"info", "load", "unload", "list", "reload", "predict", "top", "explain", "compile", "version", "completion", "migrate"} {
		if !regexp.MustCompile(`(?m)^  ` + command + ` +[A-Z]`).MatchString(help) {
			t.Errorf("%s is not listed", command)
		}
	}
	if strings.Contains(help, gpuReportCommand) {
		t.Errorf("the hidden command is listed")
	}
	if version := ok(t, "", "--version"); version != ok(t, "", "version") || !strings.HasPrefix(version, "picket ") {
		t.Errorf("--version prints %q", version)
	}
	if line := ok(t, "", "help", "package"); !strings.Contains(line, "  picket package [command]") || strings.Contains(line, "[flags]\n") {
		t.Errorf("the usage of a command that has others is:\n%s", line)
	}
	if script := ok(t, "", "completion", "bash"); !strings.Contains(script, "__start_picket") {
		t.Error("no completion for bash")
	}
}

func TestInfo(t *testing.T) {
	var info struct {
		CPU struct {
			Features []string
			Level    string
		}
		CoresAllowed *float64 `json:"cores_allowed"`
		GPUs         *[]any
		GPUReason    *string `json:"gpu_reason"`
		InstanceType *string `json:"instance_type"`
		Backends     []struct {
			Name   string
			OK     *bool
			Reason *string
		}
	}
	text := ok(t, "", "info", "--json")
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		t.Fatal(err)
	}
	if info.CPU.Level == "" || info.CPU.Features == nil || info.CoresAllowed == nil || *info.CoresAllowed <= 0 || info.GPUs == nil || info.GPUReason == nil || info.InstanceType == nil {
		t.Errorf("incomplete: %s", text)
	}
	if len(info.Backends) == 0 {
		t.Error("no backends")
	}
	table := ok(t, "", "info")
	for _, b := range info.Backends {
		if b.Name == "" || b.OK == nil || b.Reason == nil || *b.OK != (*b.Reason == "") {
			t.Errorf("backend %+v: a reason belongs to one that is not ok, and to no other", b)
		}
		if !strings.Contains(table, "\n  "+b.Name+" ") {
			t.Errorf("the table lacks backend %s", b.Name)
		}
	}
	if !strings.Contains(table, info.CPU.Level) {
		t.Errorf("the table lacks the level %s", info.CPU.Level)
	}
}

func TestInfoRefusesAMaskThatMeansNothing(t *testing.T) {
	t.Setenv("PICKET_CPU_MASK", "warp9")
	fails(t, picket(t, "", "info"), exitFailed, "PICKET_CPU_MASK", "warp9")
}

func TestInfoTakesTheInstanceTypeFromTheEnvironment(t *testing.T) {
	t.Setenv("PICKET_INSTANCE_TYPE", "m5.4xlarge")
	if text := ok(t, "", "info", "--json"); !strings.Contains(text, `"instance_type": "m5.4xlarge"`) {
		t.Error(text)
	}
}

func TestVersion(t *testing.T) {
	if text := ok(t, "", "version"); !strings.HasPrefix(text, "picket "+version+" go") {
		t.Error(text)
	}
	if text := ok(t, "", "version", "--json"); !json.Valid([]byte(text)) || !strings.Contains(text, version) {
		t.Error(text)
	}
}

func TestUnreachableDaemon(t *testing.T) {
	empty, dead := t.TempDir(), t.TempDir()
	socket := filepath.Join(dead, "agent.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // as after kill -9
	l.Close()

	commands := [][]string{{"list"}, {"load", "m", "."}, {"unload", "m"}, {"explain", "m"}, {"predict", "m"}}
	for _, command := range commands {
		fails(t, picket(t, "1,2", append(command, "--sockets", empty)...), exitUnreachable, "there is no socket "+filepath.Join(empty, "agent.sock"), "picketd --sockets")
		fails(t, picket(t, "1,2", append(command, "--sockets", dead)...), exitUnreachable, "nobody listens on "+socket, "picketd --sockets")
	}
	t.Setenv("PICKET_SOCKETS", empty)
	fails(t, picket(t, "", "list"), exitUnreachable, empty)
	fails(t, picket(t, "", "--sockets", dead, "list"), exitUnreachable, socket)
	fails(t, picket(t, "", "list", "--sockets", filepath.Join(empty, strings.Repeat("x", 120))), exitUnreachable, "107 bytes")
}

// Something else on the socket is not taken for a daemon, and not waited for longer than asked.
func TestSocketOfAnotherProgram(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"hangs up":   func(c net.Conn) { c.Close() },
		"talks HTTP": func(c net.Conn) { fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n"); c.Close() },
		"is silent":  func(net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					defer c.Close()
					serve(c)
				}
			}()
			r := picket(t, "", "list", "--sockets", dir, "--timeout", "300ms")
			want := exitUnreachable
			if name == "is silent" {
				want = exitFailed
			}
			fails(t, r, want, "listing the models")
		})
	}
}

func TestCompileFailures(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	fails(t, picket(t, "", "compile", "nowhere.ubj", "-o", out), exitFailed, "compiling nowhere.ubj")
	junk := filepath.Join(t.TempDir(), "junk.ubj")
	if err := os.WriteFile(junk, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails(t, picket(t, "", "compile", junk, "-o", out), exitFailed, "compiling "+junk+": ")
	if _, err := os.Stat(out); err == nil {
		t.Error("a failed compile left a folder")
	}
}

// Help and tables fit a terminal of the usual width.
func TestWidth(t *testing.T) {
	for _, command := range []string{"info", "load", "unload", "list", "reload", "predict", "explain", "compile", "version"} {
		for line := range strings.Lines(ok(t, "", command, "--help")) {
			if len(strings.TrimRight(line, "\n")) > 80 {
				t.Errorf("picket %s --help: more than 80 columns: %q", command, line)
			}
		}
	}
	for line := range strings.Lines(ok(t, "", "info")) {
		if utf8.RuneCountInString(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("picket info: more than 80 columns: %q", line)
		}
	}
	if got := wrap("it is  not here", 5); !slices.Equal(got, []string{"it is", "not", "here"}) {
		t.Errorf("wrapped as %q", got)
	}
}

func TestSeveralErrorsMakeOneSentence(t *testing.T) {
	full := errors.New("no space left on device")
	for want, err := range map[string]error{
		"one: no space left on device":                    errors.Join(fmt.Errorf("one: %w", full), fmt.Errorf("two: %w", full), fmt.Errorf("three: %w", full)),
		"one: no space left on device; two: not a folder": errors.Join(fmt.Errorf("one: %w", full), errors.New("two: not a folder")),
		"plain": errors.New("plain"),
	} {
		if got := joined(err.Error()); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
