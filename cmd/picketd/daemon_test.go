package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
)

func TestStartAndStop(t *testing.T) {
	dir := t.TempDir()
	p := startDaemon(t, dir)
	info, err := p.control.Info(t.Context(), &controlapi.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if info.GetVersion() != "test-build" || info.GetPid() != int64(p.cmd.Process.Pid) || info.GetUptimeSeconds() <= 0 {
		t.Errorf("Info answers %v", info)
	}
	want := []*controlapi.Socket{
		{Protocol: "agent", Path: p.path}, {Protocol: "oip", Path: filepath.Join(dir, "oip.sock")},
		{Protocol: "lane", Path: filepath.Join(dir, "lane.sock")}, {Protocol: "lane", Path: filepath.Join(dir, "lane-stream.sock")},
		{Protocol: "control", Path: filepath.Join(dir, "control.sock")},
	}
	if !slices.EqualFunc(info.GetSockets(), want, func(a, b *controlapi.Socket) bool { return proto.Equal(a, b) }) {
		t.Errorf("Info lists the sockets %v", info.GetSockets())
	}
	host := map[string]any{}
	if err := json.Unmarshal(info.GetHostJson(), &host); err != nil || host["cpu"] == nil {
		t.Errorf("Info describes the host as %s, %v", info.GetHostJson(), err)
	}
	p.stop(t)
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("the daemon left %v, %v", left, err)
	}
}

func TestVersionAndHelp(t *testing.T) {
	out, err := exec.Command(binary, "--version").Output()
	if err != nil || string(out) != "picketd test-build\n" {
		t.Errorf("--version prints %q, %v", out, err)
	}
	help := exec.Command(binary, "--help")
	var said strings.Builder
	help.Stderr = &said
	printed, err := help.Output()
	if err != nil || said.Len() != 0 {
		t.Errorf("--help says %q on standard error, %v", &said, err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, arg := range []string{"--help", "--version"} {
		nowhere := exec.Command(binary, arg)
		var complaint strings.Builder
		nowhere.Stdout, nowhere.Stderr = full, &complaint
		if err := nowhere.Run(); err == nil || complaint.String() != "picketd: writing the output: no space left on device\n" {
			t.Errorf("%s on a full disk ends with %v, and says %q", arg, err, &complaint)
		}
	}
	for _, flag := range []string{"--config", "-c,", "--sockets DIR", "-a,", "-f,", "--unsigned", "--model NAME=PATH", "--version"} {
		if !strings.Contains(string(printed), flag) {
			t.Errorf("--help does not explain %s:\n%s", flag, printed)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("sockets: {forse: true}\nunsigned: perhaps\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"serve"}, `"serve"`},
		{[]string{"--bogus"}, "--bogus"},
		{[]string{"--model", "fraud"}, "NAME=PATH"},
		{[]string{"--model", "a_b=/tmp"}, "a_b"},
		{[]string{"--model", "a=/tmp", "--model", "a=/var"}, "a is named twice"},
		{[]string{"-a", ""}, "--agent-socket"},
		{[]string{"--config="}, "--config"},
		{[]string{"-m", "many"}, "many"},
		{[]string{"-c", filepath.Join(dir, "nowhere.yaml")}, "no such file"},
		{[]string{"-c", bad}, "did you mean force?"},
		{[]string{"-c", bad}, "perhaps"},
	} {
		p := launch(t, "", nil, append([]string{"--sockets", dir}, test.args...)...)
		p.checkRefused(t, exitUsage, test.says)
	}
	// Mistakes that are found out when the sockets are made.
	for text, says := range map[string]string{
		"sockets: {agent: {group: nobodys-group}}":                                                          "group nobodys-group: this host does not know it",
		"tcp: {listen: ['127.0.0.1:0'], certificate: /nowhere.pem, key: /nowhere.key}\nhost: {imds: false}": "/nowhere.pem",
	} {
		file := filepath.Join(t.TempDir(), "picketd.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		launch(t, "", nil, "--sockets", t.TempDir(), "--config", file).checkRefused(t, exitUsage, says)
	}
	for says, args := range map[string][]string{
		`"now" was given; see picketd health --help`: {"now"},
		"see picketd health --help":                  {"--bogus"},
		"names no port":                              {"--sockets", "tcp://host"},
		"--sockets was given an empty value":         {"--sockets="},
	} {
		launch(t, "", nil, append([]string{"health"}, args...)...).checkRefused(t, exitUsage, says)
	}
	launch(t, "", []string{"PICKET_CPU_MASK=nonsense"}, "--sockets", dir).checkRefused(t, exitUsage, "nonsense")
	launch(t, "", []string{"PICKET_BACKEND=abacus"}, "--sockets", dir).checkRefused(t, exitUsage, "there are treelite")
	launch(t, "", nil, "--sockets", filepath.Join(bad, "dir")).checkRefused(t, exitFailed, "making the folder")
}

func TestSocketModeAndGroup(t *testing.T) {
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = 12345 // only root may give files to groups it is not in
	}
	for _, umask := range []int{0, 0o077, 0o777} {
		dir := t.TempDir()
		file := filepath.Join(dir, "c.yaml")
		text := fmt.Sprintf("sockets:\n  dir: %s\n  agent: {paths: [a.sock, run/b.sock], mode: 0622, group: \"%d\"}\n", dir, gid)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
			t.Fatal(err)
		}
		old := unix.Umask(umask)
		p := launch(t, filepath.Join(dir, "run", "b.sock"), nil, "-c", file)
		unix.Umask(old)
		p.connect(t)
		for _, name := range []string{"a.sock", "run/b.sock"} {
			info := isSocket(t, filepath.Join(dir, name))
			if owner := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o622 || owner.Gid != uint32(gid) {
				t.Errorf("umask %04o: %s has the mode %v and the group %d", umask, name, info.Mode(), owner.Gid)
			}
		}
		p.stop(t)
	}
}

func TestRestartAfterKill(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		p := startDaemon(t, dir)
		p.signal(t, syscall.SIGKILL)
		if code := p.wait(t); code != -1 {
			t.Fatalf("killed, the daemon ended with %d", code)
		}
		if _, err := os.Lstat(p.path); err != nil {
			t.Fatalf("a killed daemon leaves its socket; this test wants it: %v", err)
		}
		if _, err := net.Dial("unix", p.path); err == nil {
			t.Fatal("somebody answers for the killed daemon")
		}
	}
	startDaemon(t, dir).stop(t)
}

func TestTwoDaemonsOnOneSocket(t *testing.T) {
	dir := t.TempDir()
	first := startDaemon(t, dir)
	launch(t, first.path, nil, "--sockets", dir).checkRefused(t, exitFailed, "another picketd serves "+first.path)
	first.checkAnswers(t)

	second := startDaemon(t, dir, "-f")
	firstPID := int64(first.cmd.Process.Pid)
	if info, err := second.control.Info(t.Context(), &controlapi.InfoRequest{}); err != nil || info.GetPid() == firstPID {
		t.Errorf("after -f, %v answers, %v", info.GetPid(), err)
	}
	first.checkAnswers(t) // over the connection it has
	first.stop(t)
	second.checkAnswers(t)
	launch(t, first.path, nil, "--sockets", dir).checkRefused(t, exitFailed, "another picketd serves")
	second.stop(t)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the daemons left %v, %v", left, err)
	}
}

// Of many daemons started at once over a stale socket, one serves.
func TestManyDaemonsAtOnce(t *testing.T) {
	dir := t.TempDir()
	stale := startDaemon(t, dir)
	stale.signal(t, syscall.SIGKILL)
	stale.wait(t)
	const many = 6
	var all [many]*process
	for i := range all {
		all[i] = launch(t, stale.path, nil, "--sockets", dir)
	}
	var winner *process
	for _, p := range all {
		for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			if strings.Contains(p.stderr.String(), "msg=ready") {
				if winner != nil {
					t.Error("two daemons serve one socket")
				}
				winner = p
				break
			}
			if strings.Contains(p.stderr.String(), "another picketd serves") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("neither ready nor refused:\n%s", &p.stderr)
			}
		}
	}
	if winner == nil {
		t.Fatal("no daemon serves")
	}
	winner.connect(t)
	winner.stop(t)
}

func TestSomethingElseInTheSocketsPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {"-f"}} {
		launch(t, path, nil, append([]string{"--sockets", dir}, args...)...).checkRefused(t, exitFailed, "no socket")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Fatalf("the file reads %q, %v", data, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}

	// A program that knows nothing of our lock.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	launch(t, path, nil, "--sockets", dir).checkRefused(t, exitFailed, "another process answers")
	startDaemon(t, dir, "-f").stop(t)
}

func TestLegacyCommandLine(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sagemaker_edge_config.json")
	if err := os.WriteFile(file, []byte(`{"sagemaker_edge_core_device_name": "d", "sagemaker_edge_core_region": "us-west-2"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "edge_agent")
	p := launch(t, path, nil, "-a", path, "-c", file, "-f")
	p.connect(t)
	p.stop(t)
}

func TestUnsignedPackagesAreRefused(t *testing.T) {
	p := startDaemon(t, t.TempDir())
	if !strings.Contains(p.stderr.String(), "every package will be refused") {
		t.Errorf("the log does not say at start that no package will do:\n%s", &p.stderr)
	}
	_, err := p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "fraud", Url: t.TempDir()})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("LoadModel of an unsigned package: %v", err)
	}
	p.stop(t)
}

// A model that cannot be loaded is left out; it does not keep the daemon from
// starting.
func TestModelThatDoesNotLoadAtStart(t *testing.T) {
	p := startDaemon(t, t.TempDir(), "--unsigned", "--model", "fraud=/nowhere/at/all")
	if !strings.Contains(p.stderr.String(), "packages without a signature are accepted") {
		t.Errorf("the log does not say at start that the daemon takes unsigned packages:\n%s", &p.stderr)
	}
	if !strings.Contains(p.stderr.String(), "level=ERROR") || !strings.Contains(p.stderr.String(), "nothing is there") {
		t.Errorf("the log does not say what happened:\n%s", &p.stderr)
	}
	p.stop(t)
}

func TestServiceManager(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := launch(t, filepath.Join(dir, "agent.sock"), []string{
		"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"), "WATCHDOG_USEC=20000",
	}, "--sockets", dir)
	next := func() string {
		buffer := make([]byte, 4096)
		if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := l.Read(buffer)
		if err != nil {
			t.Fatalf("no word from the daemon: %v\n%s", err, &p.stderr)
		}
		return string(buffer[:n])
	}
	if got := next(); !strings.HasPrefix(got, "READY=1") {
		t.Errorf("the daemon said first %q", got)
	}
	p.connect(t)
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("the daemon said %q", got)
		}
	}
	p.signal(t, syscall.SIGTERM)
	for got := ""; got != "STOPPING=1"; {
		if got = next(); got != "WATCHDOG=1" && got != "STOPPING=1" {
			t.Errorf("the daemon said %q", got)
		}
	}
	if code := p.wait(t); code != exitDone {
		t.Errorf("the daemon ended with %d", code)
	}
}

// A daemon whose log nobody reads any more serves on.
func TestLogReaderGoesAway(t *testing.T) {
	dir := t.TempDir()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{path: filepath.Join(dir, "agent.sock"), cmd: exec.Command(binary, "--sockets", dir), exited: make(chan error, 1)}
	p.cmd.Env = []string{"PICKET_IMDS=off"}
	p.cmd.Stderr = w
	p.run(t)
	w.Close()
	buffer := make([]byte, 1<<16)
	for text := ""; !strings.Contains(text, "msg=ready"); {
		n, err := r.Read(buffer)
		if err != nil {
			t.Fatalf("%v after %q", err, text)
		}
		text += string(buffer[:n])
	}
	r.Close()
	fmt.Fprint(&p.stderr, "msg=ready")
	p.connect(t)
	// Refusals are logged.
	_, err = p.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: "a", Url: "/nowhere"})
	if status.Code(err) != codes.NotFound {
		t.Error(err)
	}
	p.checkAnswers(t)
	p.stop(t)
}

func isSocket(t *testing.T, path string) fs.FileInfo {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != fs.ModeSocket {
		t.Fatalf("%s is %v, %v", path, info, err)
	}
	return info
}
