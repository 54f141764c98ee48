//go:build cgo && linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentapi "github.com/picket-ml/picket/internal/api/agent"
	controlapi "github.com/picket-ml/picket/internal/api/control"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging"
)

// reloads is a daemon whose configuration a test rewrites.
type reloads struct {
	*process
	dir, file string
}

func startReloads(t *testing.T, text string, env ...string) *reloads {
	t.Helper()
	dir := t.TempDir()
	r := &reloads{dir: dir, file: filepath.Join(dir, "picketd.yaml")}
	r.write(t, text)
	r.process = launch(t, filepath.Join(dir, "agent.sock"), env, "--config", r.file)
	r.connect(t)
	return r
}

func (r *reloads) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.file, []byte("unsigned: true\nsockets: {dir: "+r.dir+"}\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// reload gives the daemon another configuration, and tells what came of it as text.
func (r *reloads) reload(t *testing.T, text string) string {
	t.Helper()
	r.write(t, text)
	out, err := r.control.Reload(t.Context(), &controlapi.ReloadRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return said(out)
}

func said(out *controlapi.ReloadResponse) string {
	var all []string
	for _, m := range out.GetModels() {
		one := strings.ToLower(strings.TrimPrefix(m.GetAction().String(), "RELOAD_ACTION_")) + " " + m.GetName()
		if m.GetError() != "" {
			one += " failed"
		}
		all = append(all, one)
	}
	for _, key := range out.GetChanged() {
		if key != "models" {
			all = append(all, key)
		}
	}
	for _, key := range out.GetNeedRestart() {
		all = append(all, "restart for "+key)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (r *reloads) loaded(t *testing.T) string {
	t.Helper()
	list, err := r.ListModels(t.Context(), &agentapi.ListModelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.GetModels() {
		names = append(names, m.GetName())
	}
	return strings.Join(names, " ")
}

func (r *reloads) reasons(t *testing.T) map[string]string {
	t.Helper()
	info, err := r.control.Info(t.Context(), &controlapi.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range info.GetDeclared() {
		all[m.GetName()] = m.GetReason()
	}
	return all
}

// copyModel copies the model of the tests, as a new artifact is put in an old one's
// place.
func copyModel(t *testing.T, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(fraudModel(t))); err != nil {
		t.Fatal(err)
	}
}

func TestReloadOfModels(t *testing.T) {
	r := startReloads(t, "")
	top := t.TempDir()
	a, b := filepath.Join(top, "a"), filepath.Join(top, "b")
	copyModel(t, a)
	copyModel(t, b)
	one := func(name, path, more string) string {
		return fmt.Sprintf("- {name: %s, path: %s%s}\n", name, path, more)
	}
	for _, step := range []struct {
		what, models string
		before       func()
		want, loaded string
	}{
		{"two are added", one("x", a, "") + one("y", b, ""), nil, "load x, load y", "x y"},
		{"nothing has changed", one("x", a, "") + one("y", b, ""), nil, "", "x y"},
		{"the order", one("y", b, "") + one("x", a, ""), nil, "", "x y"},
		{"a setting", one("y", b, ", max_queue: 9") + one("x", a, ""), nil, "replace y", "x y"},
		{"the path", one("y", a, ", max_queue: 9") + one("x", a, ""), nil, "replace y", "x y"},
		{"one is removed", one("x", a, ""), nil, "unload y", "x"},
		{"a client's own are left alone", one("x", a, ""), func() { r.load(t, "theirs", b) }, "", "theirs x"},
		{"and claimed", one("x", a, "") + one("theirs", b, ""), nil, "replace theirs", "theirs x"},
		{"a new artifact in the old one's place", one("x", a, ""), func() {
			copyModel(t, a+"new")
			rename(t, a, a+"old")
			rename(t, a+"new", a)
		}, "replace x, unload theirs", "x"},
		{"one file is new", one("x", a, ""), func() {
			copyFile(t, filepath.Join(b, "compiled.so"), filepath.Join(a, "new"))
			rename(t, filepath.Join(a, "new"), filepath.Join(a, "compiled.so"))
		}, "replace x", "x"},
		{"a client has unloaded one", one("x", a, ""), func() { r.unload(t, "x") }, "load x", "x"},
		{"a client has put another in its place", one("x", a, ""), func() { r.unload(t, "x"); r.load(t, "x", b) }, "replace x", "x"},
		{"a client's own under a name that goes", "", func() { r.unload(t, "x"); r.load(t, "x", b) }, "", "x"},
		{"one that is not there", one("z", top+"/nowhere", ""), nil, "load z failed", "x"},
	} {
		if step.before != nil {
			step.before()
		}
		if got := r.reload(t, "models:\n"+orNone(step.models)); got != step.want {
			t.Errorf("%s: %q was done, want %q\n%s", step.what, got, step.want, &r.stderr)
		}
		if got := r.loaded(t); got != step.loaded {
			t.Errorf("%s: %q are loaded, want %q", step.what, got, step.loaded)
		}
		if strings.Contains(step.loaded, "x") {
			r.checkScores(t, "x", 10)
		}
	}
	r.stop(t)
}

func orNone(models string) string {
	if models == "" {
		return "  []\n"
	}
	return models
}

func (r *reloads) load(t *testing.T, name, path string) {
	t.Helper()
	if _, err := r.LoadModel(t.Context(), &agentapi.LoadModelRequest{Name: name, Url: path}); err != nil {
		t.Fatal(err)
	}
}

func (r *reloads) unload(t *testing.T, name string) {
	t.Helper()
	if _, err := r.UnLoadModel(t.Context(), &agentapi.UnLoadModelRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A replacement that cannot be used leaves the model that is served.
func TestReloadOfADamagedModel(t *testing.T) {
	top := t.TempDir()
	path := filepath.Join(top, "m")
	copyModel(t, path)
	models := fmt.Sprintf("models: [{name: x, path: %s}]\n", path)
	r := startReloads(t, models)
	if err := os.WriteFile(filepath.Join(path, "new"), []byte("\x7fELF, or what is left of it"), 0o755); err != nil {
		t.Fatal(err)
	}
	rename(t, filepath.Join(path, "new"), filepath.Join(path, "compiled.so"))
	if got := r.reload(t, models); got != "replace x failed" {
		t.Errorf("%q was done", got)
	}
	r.checkScores(t, "x", 10)
	if reason := r.reasons(t)["x"]; reason == "" {
		t.Error("nothing says why the model is not the one that lies there")
	}
	// Mended, it is loaded without being asked for.
	copyFile(t, filepath.Join(fraudModel(t), "compiled.so"), filepath.Join(path, "new"))
	rename(t, filepath.Join(path, "new"), filepath.Join(path, "compiled.so"))
	for end := time.Now().Add(time.Minute); r.reasons(t)["x"] != ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the mended model is not loaded:\n%s", &r.stderr)
		}
	}
	r.checkScores(t, "x", 10)
	r.stop(t)
}

// A declared model that is not there at the start is loaded once it is, and the log
// does not fill meanwhile.
func TestDeclaredModelThatComesLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m")
	r := startReloads(t, fmt.Sprintf("models: [{name: x, path: %s}]\n", path))
	if reason := r.reasons(t)["x"]; !strings.Contains(reason, "nothing is there") {
		t.Errorf("the reason is %q", reason)
	}
	time.Sleep(2 * minPause) // for it to be looked at
	if n := strings.Count(r.stderr.String(), "nothing is there"); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, &r.stderr)
	}
	copyModel(t, path+"new")
	rename(t, path+"new", path)
	r.waitForLog(t, "model loaded")
	r.checkScores(t, "x", 10)
	if reason := r.reasons(t)["x"]; reason != "" {
		t.Errorf("the reason is %q", reason)
	}
	r.unload(t, "x")
	if reason := r.reasons(t)["x"]; !strings.Contains(reason, "unloaded by a client") {
		t.Errorf("the reason is %q", reason)
	}
	r.stop(t)
}

// A model that is declared by the name of a package is loaded when the first version of it comes, and a reload puts the
// highest one there is in its place.
func TestReloadOfAPackage(t *testing.T) {
	packages := filepath.Join(t.TempDir(), "packages")
	if err := os.Mkdir(packages, 0o755); err != nil {
		t.Fatal(err)
	}
	comes := func(version string) {
		t.Helper()
		file := filepath.Join(packages, packaging.FileName("fraud", version))
		if _, err := packaging.Build(t.Context(), packaging.BuildOptions{
			Name: "fraud", Version: version, Out: file + ".new", Variants: []packaging.BuildVariant{{Name: "any", Dir: fraudModel(t)}},
		}); err != nil {
			t.Fatal(err)
		}
		rename(t, file+".new", file)
	}
	text := fmt.Sprintf("packages: %s\nstate_dir: %s\nmodels: [{name: x, path: fraud}, {name: two, path: fraud@2}]\n", packages, filepath.Join(filepath.Dir(packages), "state"))
	r := startReloads(t, text)
	if reason := r.reasons(t)["x"]; !strings.Contains(reason, "nothing is there") {
		t.Errorf("the reason is %q", reason)
	}
	comes("1")
	r.waitForLog(t, "model loaded")
	r.checkScores(t, "x", 10)
	if got := r.reload(t, text); got != "load two failed" {
		t.Errorf("%q was done where nothing had changed", got)
	}
	comes("2")
	r.waitForLog(t, `"model loaded" model=two`) // by itself; the one that serves is left alone
	if n := strings.Count(r.stderr.String(), "model loaded"); n != 2 {
		t.Errorf("%d models were loaded:\n%s", n, &r.stderr)
	}
	if got := r.reload(t, text); got != "replace x" {
		t.Errorf("%q was done with a higher version", got)
	}
	if got := r.reload(t, text); got != "" {
		t.Errorf("%q was done where nothing had changed", got)
	}
	if !regexp.MustCompile(`model=x url=fraud .*version=2`).MatchString(r.stderr.String()) {
		t.Errorf("version 2 does not serve:\n%s", &r.stderr)
	}
	r.checkScores(t, "x", 10)
	r.stop(t)
}

func TestReloadOfSettings(t *testing.T) {
	r := startReloads(t, "")
	if got := r.reload(t, "log: {level: debug, format: json}\nshutdown: {grace: 1s}\nmodel_defaults: {max_queue: 5}\n"); got != "log.format, log.level, model_defaults.max_queue, shutdown.grace" {
		t.Errorf("%q was done", got)
	}
	r.waitForLog(t, `{"time":`)
	r.load(t, "x", fraudModel(t))
	r.waitForLog(t, `"model loaded","model":"x"`)
	// What cannot be changed now is named, each time.
	const fixed = "strict_tensors: true\nlimits: {max_connections: 7, max_message: 1MiB}\nbackends: {disable: [dlr]}\n"
	for range 2 {
		if got := r.reload(t, fixed); !strings.Contains(got, "restart for backends.disable, restart for limits.max_connections, restart for limits.max_message, restart for strict_tensors") {
			t.Errorf("%q was done", got)
		}
	}
	for end := time.Now().Add(time.Minute); strings.Count(r.stderr.String(), "at the next restart only") < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the log does not name the keys each time:\n%s", &r.stderr)
		}
	}
	// What is wrong changes nothing, and each mistake is logged and told.
	before := r.reload(t, "")
	r.write(t, "log: {level: loud}\nmodels: [{name: y}]\nnonsense: 1\n")
	_, err := r.control.Reload(t.Context(), &controlapi.ReloadRequest{})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "loud") || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("a wrong configuration: %v (after %q)", err, before)
	}
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	r.waitForLog(t, "nothing was changed")
	if got := r.loaded(t); got != "x" {
		t.Errorf("%q are loaded", got)
	}
	r.write(t, "model_defaults: {backend: abacus}\nshutdown: {grace: 2s}\n")
	if _, err := r.control.Reload(t.Context(), &controlapi.ReloadRequest{}); err == nil || !strings.Contains(err.Error(), "abacus") {
		t.Errorf("a backend that there is not: %v", err)
	}
	if got := r.reload(t, "shutdown: {grace: 2s}\n"); got != "shutdown.grace" {
		t.Errorf("%q was done: was the grace changed before?", got)
	}
	r.stop(t)
}

// Reloads that replace a model fail no request.
func TestReloadUnderLoad(t *testing.T) {
	model := func(queue int) string {
		return fmt.Sprintf("models: [{name: x, path: %s, max_queue: %d}]\n", fraudModel(t), queue)
	}
	r := startReloads(t, model(100))
	rows, want := testkit.Rows(10000, fraudFeatures)[:fraudFeatures], testkit.ReadF32(t, fraudPrediction)[:1]
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var answered atomic.Int64
	for range 3 {
		clients.Go(func() {
			for ctx.Err() == nil {
				out, err := r.Predict(t.Context(), predictRows("x", rows))
				if err == nil {
					err = sameScores(out, want)
				}
				if err != nil {
					t.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := range 20 {
		before := answered.Load()
		if got := r.reload(t, model(101+i)); got != "replace x" {
			t.Errorf("%q was done", got)
		}
		for end := time.Now().Add(time.Minute); answered.Load() < before+10 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
	}
	cancel()
	clients.Wait()
	if answered.Load() < 200 {
		t.Errorf("only %d requests were answered", answered.Load())
	}
	r.stop(t)
}

// The service manager is told of a reload, and of who the daemon is after a restart.
func TestServiceManagerLearnsOfChanges(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// next is the next message that starts so.
	next := func(prefix string) string {
		t.Helper()
		buffer := make([]byte, 4096)
		for {
			if err := l.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			n, err := l.Read(buffer)
			if err != nil {
				t.Fatalf("waiting for %q: %v", prefix, err)
			}
			if got := string(buffer[:n]); got != "WATCHDOG=1" || prefix == got {
				if !strings.HasPrefix(got, prefix) {
					t.Fatalf("the daemon said %q, want %q", got, prefix)
				}
				return got
			}
		}
	}
	r := startReloads(t, "", "NOTIFY_SOCKET="+filepath.Join(dir, "notify"), "WATCHDOG_USEC=1000000")
	next("READY=1")
	r.signal(t, syscall.SIGHUP)
	if got := next("RELOADING=1\n"); !regexp.MustCompile(`\nMONOTONIC_USEC=\d+\n`).MatchString(got) {
		t.Errorf("of a reload it said %q", got)
	}
	next("READY=1")
	reign := startReign(t, r.process)
	reign.restart(t)
	if got := next("MAINPID="); got != "MAINPID="+strconv.Itoa(reign.pid) {
		t.Errorf("of the restart it said %q, and the process is %d", got, reign.pid)
	}
	next("READY=1")
	next("WATCHDOG=1")
	reign.stop(t)
	next("STOPPING=1")
}
