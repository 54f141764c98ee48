package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestPrecedence(t *testing.T) {
	file := write(t, "c.yaml", "sockets: {dir: /file}\nbackends: {force: tvm}\nhost: {cpu_mask: avx2}\n")
	for _, c := range []struct {
		name    string
		flags   Flags
		getenv  func(string) string
		sockets []string
		dir     string
		backend string
		mask    string
	}{
		{"default", Flags{}, noEnv, []string{"/run/picket/agent.sock"}, "/run/picket", "", ""},
		{"file", Flags{Config: file}, noEnv, []string{"/file/agent.sock"}, "/file", "tvm", "avx2"},
		{
			"environment", Flags{Config: file},
			env(EnvSockets, "/env", EnvBackend, "dlr", EnvCPUMask, "avx512f", EnvONNXRuntime, "/opt/libonnxruntime.so"),
			[]string{"/env/agent.sock"}, "/env", "dlr", "avx512f",
		},
		{
			"flag", Flags{Config: file, SocketsDir: "/flag"}, env(EnvSockets, "/env"),
			[]string{"/flag/agent.sock"}, "/flag", "tvm", "avx2",
		},
		{
			"agent socket", Flags{Config: file, AgentSocket: "/tmp/edge_agent"}, env(EnvSockets, "/env"),
			[]string{"/tmp/edge_agent"}, "/env", "tvm", "avx2",
		},
		{
			"both socket flags", Flags{SocketsDir: "/flag", AgentSocket: "/tmp/edge_agent"}, noEnv,
			[]string{"/flag/agent.sock", "/tmp/edge_agent"}, "/flag", "", "",
		},
		{
			"both the same", Flags{SocketsDir: "/flag", AgentSocket: "/flag/agent.sock"}, noEnv,
			[]string{"/flag/agent.sock"}, "/flag", "", "",
		},
	} {
		got, err := Resolve(c.flags, c.getenv)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !reflect.DeepEqual(got.Sockets.Agent.Paths, c.sockets) || got.Sockets.Dir != c.dir {
			t.Errorf("%s: sockets %q in %q", c.name, got.Sockets.Agent.Paths, got.Sockets.Dir)
		}
		if want := c.getenv(EnvONNXRuntime); got.Backends.ONNXRuntime != want {
			t.Errorf("%s: ONNX Runtime is %q, want %q", c.name, got.Backends.ONNXRuntime, want)
		}
		if got.Backends.Force != c.backend || got.Host.CPUMask != c.mask {
			t.Errorf("%s: backend %q, mask %q", c.name, got.Backends.Force, got.Host.CPUMask)
		}
	}
}

func TestSocketsDirMovesSocketsConfiguredElsewhere(t *testing.T) {
	file := write(t, "c.yaml", "sockets: {agent: {paths: [/tmp/x.sock, y.sock]}}\n")
	got, err := Resolve(Flags{Config: file, SocketsDir: "/flag"}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/flag/agent.sock"}; !reflect.DeepEqual(got.Sockets.Agent.Paths, want) {
		t.Errorf("sockets %q, want %q", got.Sockets.Agent.Paths, want)
	}
}

func TestRelativePathsOfFlagsAreBelowTheWorkingDirectory(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Resolve(Flags{SocketsDir: "run", AgentSocket: "./a", Models: []string{"m=model"}}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(cwd, "run", "agent.sock"), filepath.Join(cwd, "a")}
	if !reflect.DeepEqual(got.Sockets.Agent.Paths, want) || got.Models[0].Path != filepath.Join(cwd, "model") {
		t.Errorf("sockets %q, models %+v", got.Sockets.Agent.Paths, got.Models)
	}
}

// The state directory is the flag's, else the file's, else the first that systemd made.
func TestStateDir(t *testing.T) {
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "c.yaml", "state_dir: /file\n")
	systemd := env(EnvState, "/var/lib/picket:/var/lib/other")
	for _, c := range []struct {
		flags  Flags
		getenv func(string) string
		want   string
	}{
		{Flags{}, noEnv, ""},
		{Flags{}, systemd, "/var/lib/picket"},
		{Flags{Config: file}, systemd, "/file"},
		{Flags{Config: file, StateDir: "/flag"}, systemd, "/flag"},
		{Flags{StateDir: "state"}, noEnv, filepath.Join(cwd, "state")},
	} {
		got, err := Resolve(c.flags, c.getenv)
		if err != nil || got.StateDir != c.want {
			t.Errorf("%+v: %q, %v, want %q", c.flags, got.StateDir, err, c.want)
		}
	}
	if _, err := Resolve(Flags{}, env(EnvState, "relative")); err == nil || err.Error() != `state_dir: "relative" must be an absolute path` {
		t.Errorf("a relative directory of the environment: %v", err)
	}
}

func TestModelFlags(t *testing.T) {
	file := write(t, "c.yaml", "model_defaults: {threads: 3}\nmodels: [{name: a, path: /file/a, threads: 2}]\n")
	got, err := Resolve(Flags{Config: file, Models: []string{"a=/flag/a", "b=/flag/b=c"}}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Models) != 2 {
		t.Fatalf("models %+v", got.Models)
	}
	a, b := got.Models[0], got.Models[1]
	if a.Path != "/flag/a" || a.Threads != 2 {
		t.Errorf("a model of the file: %+v", a)
	}
	if b.Name != "b" || b.Path != "/flag/b=c" || b.Threads != 3 {
		t.Errorf("a model of the command line: %+v", b)
	}
}

func TestSwitches(t *testing.T) {
	got, err := Resolve(Flags{Force: true, Unsigned: true, MaxMessage: "524288000"}, env(EnvIMDS, "off", EnvInstanceType, "c5.large"))
	if err != nil {
		t.Fatal(err)
	}
	if !got.Sockets.Force || !got.Unsigned || got.Limits.MaxMessage != 524288000 || got.Host.IMDS || got.Host.InstanceType != "c5.large" {
		t.Errorf("%+v", got)
	}
}

// A mistake is blamed on where it was made.
func TestMistakesOutsideTheFile(t *testing.T) {
	file := write(t, "c.yaml", "sockets: {dir: /file}\nbackends: {force: tvm}\nlimits: {max_message: 1GiB}\nmodels: []\n")
	for _, c := range []struct {
		flags  Flags
		getenv func(string) string
		want   string
	}{
		{Flags{Models: []string{"fraud"}}, noEnv, `--model "fraud" must be NAME=PATH, such as fraud=/var/lib/picket/models/fraud`},
		{Flags{Models: []string{"a=x", "b=x", "a=y"}}, noEnv, "--model: a is named twice; give one of the two another name"},
		{Flags{Models: []string{"=x"}}, noEnv, `--model "=x" must be NAME=PATH, such as fraud=/var/lib/picket/models/fraud`},
		{Flags{Models: []string{"-=/x"}}, noEnv, `models[0].name: "-" is not a model name: letters, digits and inner hyphens are allowed`},
		{Flags{MaxMessage: "lots"}, noEnv, `-m: "lots" is not a size: write a whole number with a unit, such as 80MiB`},
		{Flags{MaxMessage: "1"}, noEnv, `limits.max_message: 1B is outside 64KiB to 2147483647B`},
		{Flags{}, env(EnvBackend, "No such"), "backends.force: \"No such\" is not the name of a backend: `picket info` lists them"},
		{Flags{}, env(EnvSockets, "tcp://127.0.0.1:8080"), "PICKET_SOCKETS: tcp://127.0.0.1:8080 is where clients ask: the daemon's own ports are in tcp.listen"},
		{Flags{}, env(EnvIMDS, "maybe"), `PICKET_IMDS: "maybe" is neither on nor off`},
		{
			Flags{SocketsDir: "/" + strings.Repeat("d", 92)}, noEnv,
			`sockets.lane_stream.paths[0]: is 110 bytes long with its directory, at most 107 fit a Unix socket`,
		},
	} {
		c.flags.Config = file
		got, err := Resolve(c.flags, c.getenv)
		if err == nil || got != nil {
			t.Errorf("%+v: accepted", c.flags)
		} else if err.Error() != c.want {
			t.Errorf("got %s\nwant %s", err, c.want)
		}
	}
}

// TestModelsByName: where there is a directory of packages, a model's path may be a package's name.
func TestModelsByName(t *testing.T) {
	file := filepath.Join(t.TempDir(), "picketd.yaml")
	if err := os.WriteFile(file, []byte("packages: /p\nmodels:\n- {name: a, path: fraud@3}\n- {name: b, path: fraud}\n- {name: c, path: /d/fraud}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Resolve(Flags{Config: file, Models: []string{"d=other@1", "e=./other"}}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("other")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"fraud@3", "fraud", "/d/fraud", "other@1", here} {
		if c.Models[i].Path != want {
			t.Errorf("model %s has the path %q, want %q", c.Models[i].Name, c.Models[i].Path, want)
		}
	}
}
