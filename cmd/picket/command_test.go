package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/picket-ml/picket/internal/commandline"
)

func TestUsageErrors(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"unknown command":       {[]string{"lod"}, []string{`"lod"`, "did you mean load", "see picket --help"}},
		"command of tomorrow":   {[]string{"forecast", "rows.csv"}, []string{`"forecast"`, "see picket --help"}},
		"unknown flag":          {[]string{"list", "--nothing"}, []string{"--nothing", "see picket list --help"}},
		"missing argument":      {[]string{"load", "fraud"}, []string{"PATH is missing; see picket load --help"}},
		"missing arguments":     {[]string{"score"}, []string{"MODEL and INPUT are missing; see picket score --help"}},
		"missing alternative":   {[]string{"package", "pull"}, []string{"s3://BUCKET/KEY | NAME | NAME@VERSION is missing"}},
		"missing list":          {[]string{"bench", "cost"}, []string{"RESULT is missing"}},
		"too many arguments":    {[]string{"info", "x"}, []string{`"x" is one argument too many; see picket info --help`}},
		"too many of several":   {[]string{"load", "fraud", "x", "y"}, []string{`"y" is one argument too many`}},
		"typing mistake below":  {[]string{"package", "bild"}, []string{`"bild" for "picket package"`, "did you mean build", "see picket package --help"}},
		"help about nothing":    {[]string{"help", "lod"}, []string{`"lod"`, "did you mean load"}},
		"help below nothing":    {[]string{"help", "package", "bild"}, []string{`"bild" for "picket package"`, "did you mean build"}},
		"no port":               {[]string{"list", "--sockets", "tcp://host"}, []string{"tcp://host names no port"}},
		"flag without value":    {[]string{"list", "--sockets"}, []string{"--sockets", "see picket list --help"}},
		"bad duration":          {[]string{"list", "--timeout", "soon"}, []string{"--timeout", "see picket list --help"}},
		"bad number":            {[]string{"predict", "m", "--batch", "many"}, []string{`invalid argument "many" for "--batch" flag: invalid syntax; see picket predict --help`}},
		"no time":               {[]string{"list", "--timeout", "0s"}, []string{"--timeout", "see picket list --help"}},
		"no batch":              {[]string{"predict", "m", "--batch", "0"}, []string{"--batch 0", "see picket predict --help"}},
		"no protocol":           {[]string{"predict", "m", "--protocol", "soap"}, []string{`"soap"`, "agent"}},
		"compile to nowhere":    {[]string{"compile", "m.ubj"}, []string{"-o DIR", "see picket compile --help"}},
		"load from a bucket":    {[]string{"load", "m", "s3://bucket/m"}, []string{"s3://bucket/m", "local files"}},
		"load by an address":    {[]string{"load", "m", "file:///models/m"}, []string{"local files"}},
		"compile for a vax":     {[]string{"compile", "m.ubj", "-o", "x", "--target", "vax"}, []string{`"vax"`, "x86-64-v3"}},
		"compile some way":      {[]string{"compile", "m.ubj", "-o", "x", "--engine", "magic"}, []string{`"magic"`, "branches, simd"}},
		"flag of another":       {[]string{"compile", "m.ubj", "-o", "x", "--sockets", "/run/picket"}, []string{"--sockets", "see picket compile --help"}},
		"no such address":       {[]string{"list", "--sockets", "http://host:80"}, []string{"http:// is not known"}},
		"no time for outcomes":  {[]string{"truth", "m", "7", "1", "--timeout", "-1s"}, []string{"--timeout -1s", "see picket truth --help"}},
		"no such role":          {[]string{"fleet", "rotate", "stem"}, []string{`"stem"`, "root, targets, online", "see picket fleet rotate --help"}},
		"one address for two":   {[]string{"fleet", "serve", "--state", "x", "--credentials", "x", "--page", ":8080", "--listen", ":8080"}, []string{"--listen and --page", ":8080"}},
		"scores of no format":   {[]string{"score", "m", "rows.csv", "-o", "scores"}, []string{"scores", ".csv or .parquet"}},
		"variable without text": {[]string{"spool", "drain", "--config", "", "--to", "x"}, []string{"--config given without a value", "see picket spool drain --help"}},
		"two of them":           {[]string{"package", "sign", "p", "--key=", "-o", ""}, []string{"--key and --output given without a value"}},
		"completion for a vax":  {[]string{"completion", "vax"}, []string{"vax"}},
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

// A disk that is full is a failure of every command that prints something, in one sentence.
func TestFullOutput(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"version"}, {"version", "--json"}, {"--version"}, {"info"}, {"list", "--help"}, {"help", "list"}, {"completion", "bash"}, {"bench", "run", "--list"},
	} {
		var stderr strings.Builder
		command := process(t.Context(), args...)
		command.Stdout, command.Stderr = full, &stderr
		if err := command.Run(); err == nil {
			t.Errorf("picket %v: it ends as if all were well", args)
		}
		if fails(t, result{"", stderr.String(), command.ProcessState.ExitCode()}, exitFailed, "writing the output: no space left on device"); t.Failed() {
			t.Fatalf("picket %v", args)
		}
	}
}

// A flag says what it is for where it has a meaning, and nowhere else.
func TestDaemonFlags(t *testing.T) {
	asks := map[string]bool{"picket": true} // they may be written before the command
	for _, name := range []string{"load", "unload", "list", "reload", "predict", "explain", "top", "truth"} {
		asks["picket "+name] = true
	}
	eachCommand(func(c *cobra.Command) {
		for _, name := range []string{"sockets", "timeout"} {
			if name == "sockets" && c.Name() == "migrate" {
				continue // it is of the daemon that will be
			}
			if has := c.Flags().Lookup(name) != nil || c.InheritedFlags().Lookup(name) != nil; has != asks[c.CommandPath()] {
				t.Errorf("%s has --%s: %v", c.CommandPath(), name, has)
			}
		}
	})
	fails(t, picket(t, "", "--sockets", t.TempDir(), "list"), exitUnreachable, "there is no socket")
}

// Nobody to talk to is said in the same words by every way to ask.
func TestNobodyThere(t *testing.T) {
	file := writeFile(t, filepath.Join(t.TempDir(), "file"), "")
	for sockets, says := range map[string]string{t.TempDir(): "there is no socket", file: "is no directory"} {
		for _, protocol := range []string{"agent", "oip", "lane"} {
			fails(t, picket(t, "", "predict", "m", "--sockets", sockets, "--protocol", protocol), exitUnreachable, "predicting with model \"m\": ", says)
		}
	}
}

// A daemon that may not be connected to may well be there: whoever starts it where it cannot be reached does not do so then.
func TestNotPermitted(t *testing.T) {
	place := commandline.Place{Network: "unix", Address: "/run/picket/agent.sock"}
	err := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	if f := notConnected("listing the models", place, err); f.code != exitPolicy || !strings.Contains(f.Error(), "is not permitted") {
		t.Errorf("%v, exit code %d", f, f.code)
	}
}

// What --output names is replaced whole, and never if it is no file.
func TestWriteWhole(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, filepath.Join(dir, "report"), "before")
	broken := errors.New("broken")
	write := func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, broken)
	}
	if err := writeWhole(path, write); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "before" {
		t.Errorf("after a failure the file has %q, %v", text, err)
	}
	if err := writeWhole(path, func(w io.Writer) error { _, err := io.WriteString(w, "after"); return err }); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "after" {
		t.Errorf("the file has %q, %v", text, err)
	}
	if err := writeWhole(dir, write); err == nil || errors.Is(err, broken) {
		t.Errorf("a folder: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	read := make(chan string, 1)
	go func() {
		text, _ := os.ReadFile(pipe)
		read <- string(text)
	}()
	if err := writeWhole(pipe, write); !errors.Is(err, broken) {
		t.Error(err)
	}
	if text := <-read; text != "half" {
		t.Errorf("the pipe had %q", text)
	}
	if info, err := os.Lstat(pipe); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is gone: %v", err)
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
	eachCommand(func(c *cobra.Command) {
		var help strings.Builder
		c.SetOut(&help)
		if err := c.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(help.String()) {
			if line = strings.TrimRight(line, "\n"); len(line) > 80 && strings.TrimSpace(line) != c.UseLine() {
				t.Errorf("%s --help: more than 80 columns: %q", c.CommandPath(), line)
			}
		}
	})
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
