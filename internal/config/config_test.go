package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, name, contents string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(contents), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func noEnv(string) string { return "" }

func TestExampleIsTheDefaultsAndComplete(t *testing.T) {
	got, err := Load("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	// The example shows empty lists as [], which a file without the key has as none.
	want.Models, want.ModelRoots, want.Backends.Disable, want.TCP.Listen = []Model{}, []string{}, []string{}, []string{}
	want.Trust = Trust{Keys: []string{}, Roots: []string{}, Names: []string{}, Packages: []string{}, Rollback: []string{}, Expired: "known"}
	want.GPU.Devices = []string{}
	want.Tracing.Resource, want.Tracing.Headers = []string{}, []string{}
	want.Capture.Recipients, want.Capture.Format.Models, want.Capture.Upload.Windows = []string{}, []ModelFormat{}, []string{}
	want.Capture.Residency.Destinations, want.Capture.Residency.Models = []AllowedDestination{}, []ModelResidency{}
	for _, s := range []*Socket{&want.Sockets.Agent.Socket, &want.Sockets.OIP.Socket, &want.Sockets.Lane, &want.Sockets.LaneStream, &want.Sockets.Control} {
		s.AllowUsers, s.AllowGroups = []string{}, []string{}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the example says\n%+v\nthe defaults are\n%+v", got, want)
	}

	data, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, lines, err := parse("example.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	var missing func(value reflect.Value, path string)
	missing = func(value reflect.Value, path string) {
		fields := map[string]reflect.Value{}
		keysOf(value, fields)
		for key, field := range fields {
			inner := strings.TrimPrefix(path+"."+key, ".")
			if lines[inner] == 0 {
				t.Errorf("the example does not show %s", inner)
			}
			if field.Kind() == reflect.Struct {
				missing(field, inner)
			}
		}
	}
	missing(reflect.ValueOf(Default()).Elem(), "")
}

func TestDefaultsAreValid(t *testing.T) {
	c, err := Resolve(Flags{}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Sockets.Agent.Paths; len(got) != 1 || got[0] != "/run/picket/agent.sock" {
		t.Errorf("agent sockets %q", got)
	}
}

func TestYAML(t *testing.T) {
	path := write(t, "picketd.conf", `
sockets:
  dir: /run/other
  agent: {paths: [a.sock, /tmp/b.sock], mode: 0o600, group: wheel, control: false}
  oip: {control: true, allow_users: [web, "1001", svc@bank.example], allow_groups: [front]}
models:
  - {name: one, path: /m/one, gpus: "GPU-a,MIG-b"}
  - name: two
    path: /m/two
    threads: 4
    expected_rows: 64
    batch_delay: 250us
    priority: low
    cores: 0-1,3
    provider: cuda:1
model_defaults: {threads: 2, timeout: 1m30s, cores: 2}
model_roots: [/m]
state_dir: /var/lib/picket
unsigned: true
backends: {force: treelite, disable: [dlr], libdlr: /opt/libdlr.so, libdlr_aligned: true, libdlr_pinned: 1MiB, onnxruntime: /opt/libonnxruntime.so}
gpu: {devices: [GPU-a, MIG-b], library: /opt/libcuda.so.1, memory: 4GiB, pinned: 0B, wait: sleep, watch: 1m}
limits: {max_message: 100MB}
log: {level: debug, format: json}
host: {imds: false, instance_type: m5.4xlarge}
`)
	got, err := Resolve(Flags{Config: path}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Sockets.Dir = "/run/other"
	want.Sockets.Agent = ControlSocket{Socket: Socket{Paths: []string{"/run/other/a.sock", "/tmp/b.sock"}, Mode: 0o600, Group: "wheel"}}
	want.Sockets.OIP.Control, want.Sockets.OIP.AllowUsers, want.Sockets.OIP.AllowGroups = true, []string{"web", "1001", "svc@bank.example"}, []string{"front"}
	want.Sockets.Control.Paths = []string{"/run/other/control.sock"}
	want.Sockets.OIP.Paths = []string{"/run/other/oip.sock"}
	want.Sockets.Lane.Paths, want.Sockets.LaneStream.Paths = []string{"/run/other/lane.sock"}, []string{"/run/other/lane-stream.sock"}
	want.ModelDefaults.Threads, want.ModelDefaults.Timeout, want.ModelDefaults.Cores = 2, 90*time.Second, "2"
	one := Model{Name: "one", Path: "/m/one", Run: want.ModelDefaults}
	one.GPUs = "GPU-a,MIG-b"
	two := Model{Name: "two", Path: "/m/two", Run: want.ModelDefaults}
	two.Threads, two.ExpectedRows, two.BatchDelay = 4, 64, 250*time.Microsecond
	two.Priority, two.Cores, two.Provider = "low", "0-1,3", "cuda:1"
	want.Models = []Model{one, two}
	want.ModelRoots, want.StateDir = []string{"/m"}, "/var/lib/picket"
	want.Unsigned = true
	want.Backends = Backends{Force: "treelite", Disable: []string{"dlr"}, LibDLR: "/opt/libdlr.so", LibDLRAligned: true, LibDLRPinned: 1 << 20, ONNXRuntime: "/opt/libonnxruntime.so"}
	want.GPU = GPU{Devices: []string{"GPU-a", "MIG-b"}, Library: "/opt/libcuda.so.1", Memory: 4 << 30, Wait: "sleep", Watch: time.Minute}
	want.Limits.MaxMessage = 100_000_000
	want.Log = Log{Level: slog.LevelDebug, Format: "json"}
	want.Host = Host{InstanceType: "m5.4xlarge"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// Each mistake is one sentence that names the file, the line and the key.
func TestMistakes(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"sokets: {}", `line 1: unknown key "sokets", did you mean sockets?`},
		{"\nlimits:\n  max_conections: 3", `line 3: limits: unknown key "max_conections", did you mean max_connections?`},
		{"log: {colour: true}", `line 1: log: unknown key "colour", known here are format, level`},
		{"models:\n- name: a\n  path: /a\n  instnaces: 2", `line 4: models[0]: unknown key "instnaces", did you mean instances?`},
		{"unsigned: yes", `line 1: unsigned: "yes" is neither true nor false`},
		{"unsigned:", `line 1: unsigned: no value given: remove the key to have the default`},
		{"unsigned: true\nunsigned: false", `line 2: unsigned: given twice, first on line 1`},
		{"shutdown: {grace: 10}", `line 1: shutdown.grace: "10" is not a duration: write a number with a unit, such as 10s or 500us`},
		{"shutdown: {grace: -1s}", `line 1: shutdown.grace: -1s is outside 0s to 1h0m0s`},
		{"limits: {max_message: 80 megs}", `line 1: limits.max_message: "80 megs" is not a size: write a whole number with a unit, such as 80MiB`},
		{"limits: {max_message: 4KiB}", `line 1: limits.max_message: 4KiB is outside 64KiB to 2147483647B`},
		{"limits: {max_connections: 0}", `line 1: limits.max_connections: 0 is outside 1 to 1000000`},
		{"models: [{name: a, path: fraud@3}]", `line 1: models[0].path: "fraud@3" must be an absolute path`},
		{"packages: /p\nmodels: [{name: a, path: fraud/3}]", `line 2: models[0].path: "fraud/3" must be an absolute path`},
		{"packages: models", `line 1: packages: "models" must be an absolute path`},
		{"trust: {keys: [key.pem]}", `line 1: trust.keys[0]: "key.pem" must be an absolute path`},
		{"trust: {roots: [/root.pem]}", `line 1: trust.names: is empty, so nobody that the roots vouch for may sign: name who may, or "*" for all`},
		{"trust: {names: [\"\"]}", `line 1: trust.names[0]: is empty`},
		{"trust: {revoked: list}", `line 1: trust.revoked: "list" must be an absolute path`},
		{"trust: {packages: [sha256:12]}", `line 1: trust.packages[0]: "sha256:12" is no digest: write sha256: and 64 hexadecimal digits`},
		{"trust: {rollback: [fraud-3]}", `line 1: trust.rollback[0]: "fraud-3" is no package: write its name, @ and the version, such as fraud@3`},
		{"trust: {expired: never}", `line 1: trust.expired: "never" is none of known, refuse and allow`},
		{"sockets: {agent: {mode: 660}}", `line 1: sockets.agent.mode: "660" is not a file mode: write three octal digits after a zero, such as 0660`},
		{"sockets: {agent: {mode: 0060}}", `line 1: sockets.agent.mode: 0060 would lock out the daemon's own user`},
		{"sockets: {agent: {paths: []}}", `line 1: sockets.agent.paths: is empty: picket could not talk to the daemon; tcp.agent would be another way`},
		{"tcp: {agent: true}", `line 1: tcp.agent: needs tcp.listen, which says on which ports`},
		{"sockets: {agent: {paths: agent.sock}}", `line 1: sockets.agent.paths: must be a list, with "- " before each entry or in [ ]`},
		{"sockets: {agent: {paths: [a, ./a]}}", `line 1: sockets.agent.paths[1]: "./a" is listed twice`},
		{"sockets: {agent: {paths: ['@a']}}", `line 1: sockets.agent.paths[0]: "@a" has no file and so no file mode: use a path`},
		{"sockets: {dir: run}", `line 1: sockets.dir: "run" must be an absolute path`},
		{"tcp: {listen: [localhost]}", `line 1: tcp.listen[0]: "localhost" is not an address with a port, such as 127.0.0.1:8080`},
		{"tcp: {certificate: /c.pem}", "line 1: tcp.key: and tcp.certificate need each other"},
		{"tcp: {client_ca: /ca.pem}", "line 1: tcp.client_ca: needs tcp.certificate and tcp.key: without encryption clients show no certificate"},
		{"tcp: {certificate: c.pem, key: /k.pem}", `line 1: tcp.certificate: "c.pem" must be an absolute path`},
		{"sockets: {oip: {paths: [agent.sock]}}", `line 1: sockets.oip.paths[0]: "agent.sock" is listed twice`},
		{"sockets: {control: {paths: [agent.sock]}}", `line 1: sockets.control.paths[0]: "agent.sock" is listed twice`},
		{"sockets: {lane: {control: true}}", `line 1: sockets.lane: unknown key "control", known here are allow_groups, allow_users, group, mode, paths`},
		{"sockets: {oip: {control: 1}}", `line 1: sockets.oip.control: "1" is neither true nor false`},
		{"sockets: {lane: {allow_users: [a, 'b c']}}", `line 1: sockets.lane.allow_users[1]: "b c" is not the name or number of a user`},
		{"sockets: {control: {allow_groups: ['']}}", `line 1: sockets.control.allow_groups[0]: "" is not the name or number of a group`},
		{"sockets: {agent: {allow_users: root}}", `line 1: sockets.agent.allow_users: must be a list, with "- " before each entry or in [ ]`},
		{"limits: {max_connections_per_user: -1}", `line 1: limits.max_connections_per_user: -1 is outside 0 to 1000000`},
		{"sockets: {lane: {paths: [agent.sock]}}", `line 1: sockets.lane.paths[0]: "agent.sock" is listed twice`},
		{"limits: {max_in_flight: 1kB}", "line 1: limits.max_in_flight: 1000B is outside 64KiB to 1024GiB"},
		{"sockets: {dir: /" + strings.Repeat("d", 92) + "}", `sockets.lane_stream.paths[0]: is 110 bytes long with its directory, at most 107 fit a Unix socket`},
		{"models:\n- name: a", `line 2: models[0].path: is missing`},
		{"models:\n- path: /a", `line 2: models[0].name: is missing`},
		{"models:\n- {name: a-, path: /a}", `line 2: models[0].name: "a-" is not a model name: letters, digits and inner hyphens are allowed`},
		{"models:\n- {name: a, path: /a}\n- {name: a, path: /b}", `line 3: models[1].name: "a" is used by two models`},
		{"models:\n- {name: a, path: a}", `line 2: models[0].path: "a" must be an absolute path`},
		{"models:\n- {name: a, path: /a, threads: -1}", `line 2: models[0].threads: -1 is outside 0 to 1024`},
		{"model_defaults: {expected_rows: 0}", `line 1: model_defaults.expected_rows: 0 is outside 1 to 1048576`},
		{"model_defaults: {priority: urgent}", `line 1: model_defaults.priority: "urgent" is neither high, normal nor low`},
		{"model_defaults: {cores: 0..3}", `line 1: model_defaults.cores: "0..3" is not a list of CPUs, such as 0-3,6`},
		{"models:\n- {name: a, path: /a, cores: \"-1\"}", `line 2: models[0].cores: "-1" is not a list of CPUs, such as 0-3,6`},
		{"state_dir: state", `line 1: state_dir: "state" must be an absolute path`},
		{"models:\n- {name: a, path: /a, threads: many}", `line 2: models[0].threads: "many" is not a whole number`},
		{"model_roots: [models]", `line 1: model_roots[0]: "models" must be an absolute path`},
		{"backends: {force: dlr, disable: [dlr]}", `line 1: backends.force: "dlr" is also disabled, so no model could run`},
		{"backends: {onnxruntime: libonnxruntime.so}", `line 1: backends.onnxruntime: "libonnxruntime.so" must be an absolute path`},
		{"model_defaults: {provider: rocm}", `line 1: model_defaults.provider: "rocm" is neither auto, cpu, openvino, cuda nor tensorrt, which may have the number of a GPU, as in cuda:1`},
		{"model_defaults: {gpus: GPU-1, provider: cuda:1}", `line 1: model_defaults.gpus: names GPUs, and so does provider: "cuda:1"; leave its number out`},
		{"model_defaults: {gpus: some}", `line 1: model_defaults.gpus: "some" is neither all nor a list of UUIDs of GPUs or MIG instances with commas between them, such as nvidia-smi -L prints`},
		{"model_defaults: {provider: cpu:1}", `line 1: model_defaults.provider: "cpu:1" is neither auto, cpu, openvino, cuda nor tensorrt, which may have the number of a GPU, as in cuda:1`},
		{"backends: {libdlr_pinned: 1MiB}", "line 1: backends.libdlr_pinned: needs backends.libdlr_aligned: true"},
		{"backends: {libdlr_aligned: true, libdlr_pinned: 1024GiB}", "line 1: backends.libdlr_pinned: is 1024GiB, it must be from 0B to 16GiB"},
		{"backends: {force: TVM!}", "line 1: backends.force: \"TVM!\" is not the name of a backend: `picket info` lists them"},
		{"gpu: {devices: [0]}", `line 1: gpu.devices[0]: "0" is no UUID of a GPU or a MIG instance, such as nvidia-smi -L prints`},
		{"gpu: {library: libcuda.so.1}", `line 1: gpu.library: "libcuda.so.1" must be an absolute path`},
		{"gpu: {wait: never}", `line 1: gpu.wait: is "never", it must be auto, spin or sleep`},
		{"gpu: {watch: 1ms}", "line 1: gpu.watch: is 1ms, it must be 0s or from 1s to 1h0m0s"},
		{"gpu: {memory: 99999GiB}", "line 1: gpu.memory: is 99999GiB, it must be from 0B to 16384GiB"},
		{"log: {level: loud}", `line 1: log.level: "loud" is not a log level: use debug, info, warn or error`},
		{"log: {format: xml}", `line 1: log.format: "xml" is neither text nor json`},
		{"log: &l {level: info}\nhost: *l", `line 2: host: aliases are not supported, write the value out`},
		{"state_dir: /s\nfleet: {name: pos}", `line 2: fleet.place: is missing, without which the rest of fleet has no effect`},
		{"fleet: {place: 's3://bucket/p', root: /r, name: pos, device: d}", `line 1: fleet: needs state_dir, in which what the device serves is kept`},
		{"state_dir: /s\nfleet: {place: here, root: /r, name: pos, device: d}", `line 2: fleet.place: "here" is no place in S3: write s3://bucket/prefix`},
		{"state_dir: /s\nfleet: {place: 'file://here', root: /r, name: pos, device: d}", `line 2: fleet.place: "file://here" must be file:// and an absolute path`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', root: /r, name: pos, device: a/b}", `line 2: fleet.device: "a/b" is no name: 1 to 63 letters, digits and inner hyphens`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', root: r, name: pos, device: d}", `line 2: fleet.root: "r" must be an absolute path`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', name: pos, device: d}", `line 2: fleet.root: is missing: the fleet's root document says whom to believe`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', name: pos, device: d, server: 'ftp://x', credentials: /c}", `line 2: fleet.server: must begin with https:// or http:// and name a host, such as https://fleet.example:8443`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', root: /r, name: pos, device: d, server: 'https://x'}", `line 2: fleet.credentials: is missing: the server knows devices by their keys`},
		{"state_dir: /s\nfleet: {place: 's3://bucket', root: /r, name: pos, device: d, interval: 10ms}", `line 2: fleet.interval: 10ms is outside 1s to 24h0m0s`},
		{"- a", `line 1: must be a list of "key: value" lines`},
		{"a: [", `not YAML: line 1: did not find expected node content`},
	} {
		path := write(t, "c.yaml", c.yaml)
		got, err := Load(path)
		if err == nil || got != nil {
			t.Errorf("%q: accepted as %+v, %v", c.yaml, got, err)
			continue
		}
		want := path + ": " + c.want
		if strings.HasPrefix(c.want, "sockets.lane_stream.paths[0]: is 110") {
			// The path is a default; only the directory is in the file.
			want = path + ": line 1: " + c.want
		}
		if err.Error() != want {
			t.Errorf("%q:\n got %s\nwant %s", c.yaml, err, want)
		}
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	_, err := Load(write(t, "c.yaml", "limits: {max_connections: 0}\nlog: {format: xml}\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("want two lines, got: %v", err)
	}
	_, err = Load(write(t, "c.yaml", "one: 1\nlog: {two: 2}\nunsigned: 3\n"))
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("want three lines, got: %v", err)
	}
}

func TestMistakesAreBounded(t *testing.T) {
	_, err := Load(write(t, "c.yaml", strings.Repeat("x: 1\n", 100_000)))
	if err == nil || strings.Count(err.Error(), "\n") != maxWarnings {
		t.Errorf("want %d lines, got %.200v", maxWarnings+1, err)
	}
}

func TestEmptyYAMLIsTheDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		got, err := Load(write(t, "c.yaml", text))
		if text == "---\n" {
			// A document that is there and empty is a null, which no key may be either.
			if err == nil {
				t.Errorf("%q was accepted", text)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "absent.yaml"), dir} {
		if c, err := Load(path); err == nil || c != nil {
			t.Errorf("%s: %v, %v", path, c, err)
		}
	}
	big := write(t, "big.yaml", "# "+strings.Repeat("x", maxFileSize))
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger than 1MiB") {
		t.Errorf("a file above the limit: %v", err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "80MiB": 80 << 20, "80 MiB": 80 << 20, "524288000": 524288000, "1kB": 1000, "3GB": 3e9, "7B": 7,
		"8589934591GiB": 8589934591 << 30,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%q: %s does not read back: %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "8589934592GiB", "1mib", "1TiB", "0x10", "1_000", " 1"} {
		if got, err := ParseSize(text); err == nil || got != 0 {
			t.Errorf("%q: accepted as %d", text, got)
		}
	}
}
