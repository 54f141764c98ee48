//go:build cgo

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/fleet"
	"github.com/picket-ml/picket/internal/testkit/s3"
)

// fleetServer is a running `picket fleet serve`.
type fleetServer struct {
	t       *testing.T
	command *exec.Cmd
	devices string // address
	page    string

	mu  sync.Mutex
	log strings.Builder
}

func (s *fleetServer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *fleetServer) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// startFleetServer runs the program and waits until it listens.
func startFleetServer(t *testing.T, args ...string) *fleetServer {
	t.Helper()
	s := &fleetServer{t: t, command: process(context.Background(), append([]string{"fleet", "serve", "--interval", "200ms"}, args...)...)}
	s.command.Stderr = s
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	eventually(t, "the fleet's server listens", func() bool {
		for line := range strings.Lines(s.said()) {
			if _, address, ok := strings.Cut(line, "address="); ok {
				if strings.Contains(line, "for=devices") {
					s.devices = strings.Fields(address)[0]
				} else {
					s.page = strings.Fields(address)[0]
				}
			}
		}
		return s.devices != "" && s.page != ""
	}, s.said)
	return s
}

func (s *fleetServer) stop() {
	if s.command.ProcessState != nil {
		return
	}
	_ = s.command.Process.Signal(syscall.SIGTERM)
	if err := s.command.Wait(); err != nil {
		s.t.Errorf("ending the fleet's server: %v\n%s", err, s.said())
	}
}

// eventually waits for something that other processes do.
func eventually(t *testing.T, what string, is func() bool, why func() string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it is never so: %s\n%s", what, why())
		}
	}
}

// TestFleetFromNothingToARolloutAndBack: a fleet of three daemons with a real model in a real S3, and everything that an
// operator does to it.
func TestFleetFromNothingToARolloutAndBack(t *testing.T) {
	store := s3.Start(t)
	for _, v := range store.Env() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	t.Setenv("PICKET_FLEET", "s3://"+store.NewBucket(t)+"/fleets/pos")
	t.Setenv("PICKET_FLEET_KEYS", keys)
	_, artifact := compileFixture(t, trained)
	private, public := keyPair(t, dir, "signer")
	pack := func(version string) string {
		t.Helper()
		path := filepath.Join(dir, "sums-"+version+".tar.gz")
		if version == "4" {
			wrongAnswers(t, artifact, path)
		} else {
			must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", version, "-o", path)
		}
		return path
	}
	one, two, wrong := pack("1"), pack("2"), pack("4")

	must(t, exitDone, "fleet", "init", "pos")
	must(t, exitFailed, "fleet", "init", "pos") // it is begun
	if r := must(t, exitPolicy, "fleet", "rollout", one); !strings.Contains(r.stderr, "not signed") {
		t.Errorf("rolling out an unsigned package: %s", r.stderr)
	}
	for _, path := range []string{one, two, wrong} {
		must(t, exitDone, "package", "sign", path, "--key", private)
	}
	// One of the names is in the first stage, and one is not.
	names := []string{"", ""}
	for i := 0; names[0] == "" || names[1] == ""; i++ {
		name := fmt.Sprintf("till-%d", i)
		names[min(1, int(fleet.Position(name)/50))] = name
	}
	credentials := filepath.Join(dir, "devices.txt")
	must(t, exitDone, "fleet", "add", names[0], names[1], "--credentials", credentials)
	// The server has the online key alone.
	online := filepath.Join(dir, "online")
	for _, name := range []string{"online.pem", "root.json"} {
		data, err := os.ReadFile(filepath.Join(keys, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(online, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(online, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve := []string{"--keys", online, "--state", filepath.Join(dir, "server"), "--credentials", credentials, "--listen", "127.0.0.1:0", "--page", "localhost:0"}
	server := startFleetServer(t, serve...)

	device := func(name string) (sockets string, stop func()) {
		t.Helper()
		lines, err := os.ReadFile(credentials)
		if err != nil {
			t.Fatal(err)
		}
		own := filepath.Join(dir, name+".key")
		for line := range strings.Lines(string(lines)) {
			if strings.HasSuffix(strings.TrimSpace(line), " "+name) {
				if err := os.WriteFile(own, []byte(line), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		config := filepath.Join(dir, name+".yaml")
		text := fmt.Sprintf(`trust: {keys: [%s]}
state_dir: %s
fleet: {place: "%s", root: %s, name: pos, device: %s, interval: 1s, server: "http://%s", credentials: %s}
`, public, filepath.Join(dir, "state-"+name), os.Getenv("PICKET_FLEET"), filepath.Join(keys, "root.json"), name, server.devices, own)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return startDaemon(t, "--config", config)
	}
	var sockets []string
	for _, name := range names {
		s, _ := device(name)
		sockets = append(sockets, s)
	}
	version := func(sockets string) string {
		r := picket(t, "", "--sockets", sockets, "explain", "sums", "--json")
		var e explanation
		if r.code != exitDone || json.Unmarshal([]byte(r.stdout), &e) != nil || e.Package == nil {
			return ""
		}
		return e.Package.Version
	}
	status := func() string { return must(t, exitDone, "fleet", "status", "--server", "http://"+server.page).stdout }
	serves := func(what, first, second string) {
		t.Helper()
		eventually(t, what, func() bool { return version(sockets[0]) == first && version(sockets[1]) == second }, status)
	}
	state := func(want fleet.State) {
		t.Helper()
		eventually(t, "the rollout is "+string(want), func() bool {
			var s fleetStatus
			if err := json.Unmarshal([]byte(must(t, exitDone, "fleet", "status", "--json").stdout), &s); err != nil {
				t.Fatal(err)
			}
			g := s.Groups[0]
			r := g.Progress.Of("sums", g.Document.Models[0].Rollout.ID)
			return r != nil && r.State == want
		}, status)
	}

	must(t, exitDone, "fleet", "rollout", one, "--stages", "100", "--bake", "0s")
	serves("both devices serve version 1", "1", "1")
	state(fleet.Done)
	must(t, exitFailed, "fleet", "pause", "sums") // it is done

	// A package whose answers are wrong gets no further than the first stage.
	must(t, exitDone, "fleet", "rollout", wrong, "--stages", "50,100", "--bake", "0s")
	state(fleet.Halted)
	if s := status(); !strings.Contains(s, "does not give the answers") || !strings.Contains(s, names[0]) {
		t.Errorf("the status does not say what failed where:\n%s", s)
	}
	serves("both devices serve version 1 still", "1", "1")

	// A sound one, with a pause in the middle.
	must(t, exitDone, "fleet", "rollout", two, "--stages", "50,100", "--bake", "1h")
	serves("the first device serves version 2", "2", "1")
	must(t, exitDone, "fleet", "pause", "sums")
	state(fleet.Paused)
	must(t, exitFailed, "fleet", "rollout", one) // one is under way
	must(t, exitDone, "fleet", "resume", "sums") // and goes on
	must(t, exitDone, "fleet", "halt", "sums")   // and back, to an older version, which no other way may be loaded
	serves("both devices are back", "1", "1")    //
	must(t, exitDone, "fleet", "pin", "sums", two, "--device", names[1])
	serves("the pinned device serves version 2", "1", "2")
	must(t, exitDone, "fleet", "unpin", "sums", "--device", names[1])
	serves("the device follows again", "1", "1")

	// The server starts again and knows what it knew; the keys are changed; a rollout goes through.
	server.stop()
	for _, role := range []string{"root", "targets"} {
		must(t, exitDone, "fleet", "rotate", role)
	}
	server = startFleetServer(t, append(serve[:len(serve):len(serve)], "--listen", server.devices)...)
	must(t, exitDone, "fleet", "rollout", two, "--stages", "50,100", "--bake", "0s")
	serves("both devices serve version 2", "2", "2")
	state(fleet.Done)
	must(t, exitDone, "fleet", "refresh")

	page, err := fetchPage("http://" + server.page)
	if err != nil || !strings.Contains(page, names[0]) || !strings.Contains(page, `lang="en"`) {
		t.Errorf("the page says %v\n%s", err, page)
	}
	for _, args := range [][]string{{"rollout"}, {"rollout", two, "--stages", "5,4,100"}, {"rollout", two, "--stages", "5"}, {"rollout", two, "--stages", "x"}, {"add"}, {"add", "no name"}, {"serve"}} {
		must(t, exitUsage, append([]string{"fleet"}, args...)...)
	}
	must(t, exitUsage, "fleet", "status", "--place", "")
}

// The group need not be named where only one can be meant: at night it is a rollout that is to be ended, whatever its group is called.
func TestFleetGroupThatIsMeant(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PICKET_FLEET", "file://"+filepath.Join(dir, "fleet"))
	t.Setenv("PICKET_FLEET_KEYS", filepath.Join(dir, "keys"))
	_, artifact := compileFixture(t, trained)
	private, _ := keyPair(t, dir, "signer")
	var packages []string
	for _, version := range []string{"1", "2"} {
		path := filepath.Join(dir, "sums-"+version+".tar.gz")
		must(t, exitDone, "package", "build", artifact, "--name", "sums", "--version", version, "-o", path)
		must(t, exitDone, "package", "sign", path, "--key", private)
		packages = append(packages, path)
	}
	must(t, exitDone, "fleet", "init", "pos")
	must(t, exitDone, "fleet", "add", "till-1", "--group", "tills")
	must(t, exitDone, "fleet", "add", "shop-1", "--group", "shops")

	must(t, exitDone, "fleet", "rollout", packages[0], "--group", "tills")
	if r := must(t, exitFailed, "fleet", "rollout", packages[1], "--group", "tills"); !strings.Contains(r.stderr, "picket fleet halt sums --group tills,") {
		t.Errorf("a second rollout: %s", r.stderr)
	}
	fails(t, picket(t, "", "fleet", "pause", "products"), exitFailed, "no group has a model products")
	for _, verb := range []string{"pause", "resume", "halt"} {
		if r := must(t, exitDone, "fleet", verb, "sums"); !strings.Contains(r.stdout, "in group tills") {
			t.Errorf("%s in the only group that has the model: %s", verb, r.stdout)
		}
	}
	if r := must(t, exitDone, "fleet", "rollout", packages[0], "--group", "shops"); r.stderr != "" {
		t.Errorf("a rollout to a group that has a device says %s", r.stderr)
	}
	fails(t, picket(t, "", "fleet", "halt", "sums"), exitFailed, "the groups shops, tills have a model sums")
	must(t, exitDone, "fleet", "halt", "sums", "--group", "shops")

	// A pin is of use in the document of the device's own group alone.
	must(t, exitDone, "fleet", "pin", "sums", packages[1], "--device", "till-1")
	fails(t, picket(t, "", "fleet", "pin", "sums", packages[1], "--device", "till-9"), exitFailed, "no device till-9")
	var s fleetStatus
	if err := json.Unmarshal([]byte(must(t, exitDone, "fleet", "status", "--json").stdout), &s); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.Groups {
		if pins := len(g.Document.Pins); (g.Group == "tills") != (pins == 1) {
			t.Errorf("the group %s has %d pins", g.Group, pins)
		}
	}
	must(t, exitDone, "fleet", "unpin", "sums", "--device", "till-1")

	if r := must(t, exitDone, "fleet", "rollout", packages[0], "--group", "shosp"); !strings.Contains(r.stderr, "no device is in the group shosp yet") {
		t.Errorf("a rollout to a group of nobody says %q", r.stderr)
	}
}

func fetchPage(url string) (string, error) {
	r, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	return string(data), err
}
