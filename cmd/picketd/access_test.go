package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/lane"
)

// callTask has this binary try everything in the folder of sockets that it names, and print how each went.
const callTask = "PICKETD_TEST_CALL"

// Users that the tests borrow; no account needs to have them.
const operatorUID, callerUID, strangerUID = 54331, 54332, 54333

// callEverything prints a line for each socket and each call that matters: its name and the code of the answer, or "no" where the
// kernel or the daemon does not let this user in.
func callEverything(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	say := func(what string, err error) {
		code := status.Code(err)
		said := code.String()
		if code == codes.Unavailable {
			said = "no"
		}
		fmt.Println(what, said)
	}
	for _, name := range []string{"agent", "oip", "control"} {
		conn, err := grpc.NewClient("unix://"+filepath.Join(dir, name+".sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fmt.Println(name, "client", err)
			return
		}
		if name != "oip" {
			_, err = agentapi.NewAgentClient(conn).ListModels(ctx, &agentapi.ListModelsRequest{})
			say(name+" list", err)
			_, err = agentapi.NewAgentClient(conn).LoadModel(ctx, &agentapi.LoadModelRequest{Name: "m", Url: "/nowhere"})
			say(name+" load", err)
			_, err = agentapi.NewAgentClient(conn).UnLoadModel(ctx, &agentapi.UnLoadModelRequest{Name: "m"})
			say(name+" unload", err)
			_, err = controlapi.NewControlClient(conn).Info(ctx, &controlapi.InfoRequest{})
			say(name+" info", err)
		}
		if name != "agent" {
			client := oipapi.NewGRPCInferenceServiceClient(conn)
			_, err = client.ServerLive(ctx, &oipapi.ServerLiveRequest{})
			say(name+" live", err)
			_, err = client.RepositoryModelLoad(ctx, &oipapi.RepositoryModelLoadRequest{ModelName: "m"})
			say(name+" repository-load", err)
			_, err = client.RepositoryModelUnload(ctx, &oipapi.RepositoryModelUnloadRequest{ModelName: "m"})
			say(name+" repository-unload", err)
			fmt.Println(name, "http-load", httpLoad(ctx, filepath.Join(dir, name+".sock")))
		}
		conn.Close()
	}
	for _, name := range []string{"lane", "lane-stream"} {
		client, err := lane.Dial(ctx, filepath.Join(dir, name+".sock"), lane.Options{Stream: name == "lane-stream"})
		if err == nil {
			client.Close()
			fmt.Println(name, "hello OK")
		} else {
			fmt.Println(name, "hello no")
		}
	}
}

// httpLoad is the status of a load over HTTP, "no" for none.
func httpLoad(ctx context.Context, path string) string {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, "POST", "http://picket/v2/repository/models/m/load", nil)
	if err != nil {
		return err.Error()
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "no"
	}
	answer.Body.Close()
	return fmt.Sprint(answer.StatusCode)
}

// calls runs callEverything as a user.
func calls(t *testing.T, dir string, uid uint32) map[string]string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: processes of other users are the question")
	}
	// Through /proc because the test binary lies in a folder that only its owner can enter.
	child := exec.Command("/proc/self/exe")
	child.Dir = "/"
	child.Env = []string{callTask + "=" + dir}
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := child.Output()
	if err != nil {
		t.Fatalf("calling as another user: %v", err)
	}
	answers := map[string]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		answers[fields[0]+" "+fields[1]] = fields[2]
	}
	return answers
}

// Who may do what on which socket, asked by processes of three users.
func TestWhoMayDoWhat(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "picketd-access-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "picketd.yaml")
	text := fmt.Sprintf(`
sockets:
  dir: %[1]s
  agent: {mode: 0666, allow_users: ["%[2]d", "%[3]d", root], control: false}
  oip: {mode: 0666, allow_groups: ["%[3]d", root]}
  lane: {mode: 0666, allow_users: ["%[3]d"]}
  lane_stream: {mode: 0660}
  control: {mode: 0666, allow_users: ["%[2]d"]}
`, dir, operatorUID, callerUID)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := launch(t, filepath.Join(dir, "agent.sock"), nil, "-c", file)
	p.connect(t)

	const ok, denied, absent, no = "OK", "PermissionDenied", "NotFound", "no"
	for _, c := range []struct {
		who  uint32
		want map[string]string
	}{
		{operatorUID, map[string]string{
			"agent list": ok, "agent load": denied, "agent unload": denied, "agent info": ok,
			"oip live": no, "oip repository-load": no, "oip repository-unload": no, "oip http-load": no,
			"control list": ok, "control load": absent, "control unload": absent, "control info": ok,
			"control live": ok, "control repository-load": absent, "control repository-unload": absent, "control http-load": "404",
			"lane hello": no, "lane-stream hello": no,
		}},
		{callerUID, map[string]string{
			"agent list": ok, "agent load": denied, "agent unload": denied, "agent info": ok,
			"oip live": ok, "oip repository-load": denied, "oip repository-unload": denied, "oip http-load": "403",
			"control list": no, "control load": no, "control unload": no, "control info": no,
			"control live": no, "control repository-load": no, "control repository-unload": no, "control http-load": no,
			"lane hello": ok, "lane-stream hello": no,
		}},
		{strangerUID, map[string]string{
			"agent list": no, "agent load": no, "agent unload": no, "agent info": no,
			"oip live": no, "oip repository-load": no, "oip repository-unload": no, "oip http-load": no,
			"control list": no, "control load": no, "control unload": no, "control info": no,
			"control live": no, "control repository-load": no, "control repository-unload": no, "control http-load": no,
			"lane hello": no, "lane-stream hello": no,
		}},
	} {
		got := calls(t, dir, c.who)
		for what, want := range c.want {
			if got[what] != want {
				t.Errorf("user %d, %s: %q, want %q", c.who, what, got[what], want)
			}
		}
		if len(got) != len(c.want) {
			t.Errorf("user %d: %d answers, want %d", c.who, len(got), len(c.want))
		}
	}
	// Whoever is told no is told what would have to change.
	_, err = p.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: "m"})
	if status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "sockets.agent.control") || !strings.Contains(err.Error(), "control.sock") {
		t.Errorf("unloading: %v", err)
	}
	log := p.stderr.String()
	for _, socket := range []string{"agent", "oip", "lane", "control"} {
		if path := filepath.Join(dir, socket+".sock"); !strings.Contains(log, "socket="+path+" refused=") {
			t.Errorf("the log does not say that %s has refused anybody:\n%s", path, log)
		}
	}
	if body := p.scrape(t, filepath.Join(dir, "oip.sock")); !strings.Contains(body, `picket_connections_refused_total{reason="not allowed",socket="`+filepath.Join(dir, "lane.sock")+`"} 2`) {
		t.Errorf("two were refused on the lane, and the metrics say\n%s", body)
	}
	p.stop(t)
}

// scrape is what the daemon answers at /metrics.
func (p *process) scrape(t *testing.T, path string) string {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://picket/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Nobody is let in by a name that the host does not know, and the daemon does not start without them.
func TestUnknownUsers(t *testing.T) {
	dir := t.TempDir()
	for key, name := range map[string]string{"allow_users": "no-such-user", "allow_groups": "no-such-group"} {
		file := filepath.Join(dir, key+".yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, "sockets: {dir: %s, lane: {%s: [%s]}}\n", dir, key, name), 0o600); err != nil {
			t.Fatal(err)
		}
		launch(t, "", nil, "-c", file).checkRefused(t, exitUsage, "looking up "+name+" of "+key)
	}
}

func TestModeOfTheControlSocket(t *testing.T) {
	dir := t.TempDir()
	p := startDaemon(t, dir)
	if info := isSocket(t, filepath.Join(dir, "control.sock")); info.Mode().Perm() != 0o600 {
		t.Errorf("control.sock has the mode %v", info.Mode())
	}
	p.stop(t)
}
