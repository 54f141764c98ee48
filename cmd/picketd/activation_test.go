package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	controlapi "github.com/picket-ml/picket/internal/api/control"
)

// passed is a listening socket for the daemon to be born with.
type passed struct {
	name string
	from interface{ File() (*os.File, error) }
}

// activate starts the daemon as a service manager would that has opened the sockets:
// a shell knows the number of the process that it becomes, as LISTEN_PID must have it.
func activate(t *testing.T, path string, sockets []passed, args ...string) *process {
	t.Helper()
	p := &process{path: path, exited: make(chan error, 1)}
	p.cmd = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary}, args...)...)
	var names []string
	for _, s := range sockets {
		f, err := s.from.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		names = append(names, s.name)
		p.cmd.ExtraFiles = append(p.cmd.ExtraFiles, f)
	}
	p.cmd.Env = []string{
		"PICKET_IMDS=off", "PATH=" + os.Getenv("PATH"), fmt.Sprintf("LISTEN_FDS=%d", len(sockets)), "LISTEN_FDNAMES=" + strings.Join(names, ":"),
	}
	p.run(t)
	return p
}

func listenUnixAt(t *testing.T, network, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	return l
}

func TestSocketActivation(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sockets := []passed{
		{"agent", listenUnixAt(t, "unix", at("a1"))}, {"lane", listenUnixAt(t, "unixpacket", at("l"))},
		{"agent", listenUnixAt(t, "unix", at("a2"))}, {"tcp", tcp.(*net.TCPListener)}, {"lane_stream", listenUnixAt(t, "unix", at("ls"))},
	}
	// Who waits already is served, too: that is what activation is for.
	early := make(chan error, 1)
	go func() {
		answer, err := http.Get("http://" + tcp.Addr().String() + "/livez")
		if err == nil {
			answer.Body.Close()
		}
		early <- err
	}()
	p := activate(t, at("a2"), sockets, "--sockets", at("run"))
	p.connect(t)
	if err := <-early; err != nil {
		t.Errorf("a client that came before the daemon: %v", err)
	}
	info, err := p.control.Info(t.Context(), &controlapi.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, s := range info.GetSockets() {
		listed = append(listed, s.GetProtocol()+" "+s.GetPath())
	}
	// What was not passed is opened as the configuration says.
	want := []string{"agent " + at("a1"), "agent " + at("a2"), "oip " + at("run/oip.sock"), "lane " + at("l"), "lane " + at("ls"), "control " + at("run/control.sock"), "oip " + tcp.Addr().String()}
	if !slices.Equal(listed, want) {
		t.Errorf("the daemon listens on %q, want %q", listed, want)
	}
	for name, network := range map[string]string{"a1": "unix", "l": "unixpacket", "ls": "unix", "run/oip.sock": "unix"} {
		c, err := net.Dial(network, at(name))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	p.stop(t)
	// The service manager's files are its own to remove.
	for _, name := range []string{"a1", "a2", "l", "ls"} {
		isSocket(t, at(name))
	}
	if _, err := os.Lstat(at("run/oip.sock")); err == nil {
		t.Error("the daemon has left its own socket")
	}
}

func TestSocketActivationRefusals(t *testing.T) {
	dir := t.TempDir()
	stream, packet := listenUnixAt(t, "unix", filepath.Join(dir, "s")), listenUnixAt(t, "unixpacket", filepath.Join(dir, "p"))
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, test := range []struct {
		socket passed
		says   string
	}{
		{passed{"lane", stream}, "ListenSequentialPacket="},
		{passed{"agent", packet}, "must be a Unix socket of type SOCK_STREAM"},
		{passed{"lane_stream", packet}, "must be a Unix socket of type SOCK_STREAM"},
		{passed{"oip", tcp.(*net.TCPListener)}, "must be a Unix socket"},
		{passed{"tcp", stream}, "must be a TCP socket"},
		{passed{"picketd.socket", stream}, `named "picketd.socket": name it one of agent, oip, lane, lane_stream`},
		{passed{"agent", conn.(*net.UnixConn)}, "does not listen"},
	} {
		activate(t, "", []passed{test.socket}, "--sockets", dir).checkRefused(t, exitFailed, test.says)
	}
	// Sockets that were passed to another process are none of the daemon's business.
	p := launch(t, filepath.Join(dir, "agent.sock"), []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=nonsense", "LISTEN_PID=1"}, "--sockets", dir)
	p.connect(t)
	p.stop(t)
}

// systemd's own program passes the sockets as systemd does.
func TestSystemdActivates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.sock")
	p := &process{path: path, exited: make(chan error, 1)}
	p.cmd = exec.Command("systemd-socket-activate", "--listen="+path, "--fdname=agent", "--setenv=PICKET_IMDS=off", binary, "--sockets", filepath.Join(dir, "run"))
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	p.run(t)
	for end := time.Now().Add(time.Minute); ; time.Sleep(2 * time.Millisecond) {
		// It starts the daemon once a client has come.
		if c, err := net.Dial("unix", path); err == nil {
			defer c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nobody listens:\n%s", &p.stderr)
		}
	}
	p.connect(t)
	if sockets := regexp.MustCompile(`msg=ready.*`).FindString(p.stderr.String()); !strings.Contains(sockets, path) || strings.Contains(sockets, "run/agent.sock") {
		t.Errorf("the daemon says %q", sockets)
	}
	p.stop(t)
	isSocket(t, path)
}
