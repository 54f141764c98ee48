//go:build cgo

package main

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/application"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/frontend"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/scoring"
	"github.com/picket-ml/picket/examples/fraud/store"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/postgres"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// clientKey is what the tests' clients bring, password the analyst's.
const (
	clientKey = "a-key-of-the-tests-0001"
	password  = "correct horse battery"
)

// binaries builds picketd and the application once and gives the folder. It lies in .cache, so that the next run builds only what has changed.
var binaries = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(testkit.ModuleRoot(), ".cache", "fraud")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", dir+"/", "./examples/fraud", "./cmd/picketd")
	build.Dir = testkit.ModuleRoot()
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building picketd and the application: %w\n%s", err, output)
	}
	return dir, nil
})

// process is a program that a test starts, kills, and starts again.
type process struct {
	name    string
	args    []string
	log     testkit.Output
	command *exec.Cmd
	ended   chan struct{}
}

func (p *process) start(t *testing.T) {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	p.command = exec.Command(filepath.Join(dir, p.name), p.args...)
	p.command.Stderr = &p.log
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	ended, command := make(chan struct{}), p.command
	p.ended = ended
	go func() {
		_ = command.Wait() // how it ended is in its log
		close(ended)
	}()
}

// end sends a signal and waits for the end.
func (p *process) end(signal syscall.Signal) {
	if p.command == nil {
		return
	}
	_ = p.command.Process.Signal(signal) // it may have ended
	<-p.ended
	p.command = nil
}

// newProcess is ended with the test, which shows its log if it fails.
func newProcess(t *testing.T, name string, args ...string) *process {
	p := &process{name: name, args: args}
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			text := p.log.String()
			t.Logf("the log of %s ends with:\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// shortDir is a folder whose path leaves room for a socket's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pf")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// picketd starts the daemon; its sockets are in dir.
func picketd(t *testing.T, dir string) *process {
	t.Helper()
	p := newProcess(t, "picketd", "--sockets", dir, "--unsigned")
	p.start(t)
	eventually(t, "picketd answers", func() bool { _, err := os.Stat(filepath.Join(dir, "control.sock")); return err == nil })
	return p
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen that %s", what)
		}
	}
}

// models copies the models of the repository with other thresholds, where from is not below 0.
func models(t *testing.T, challengeFrom, denyFrom float32) []*scoring.Model {
	t.Helper()
	list, err := scoring.ReadModels("model")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		if challengeFrom >= 0 {
			m.ChallengeFrom, m.DenyFrom = challengeFrom, denyFrom
		}
	}
	return list
}

// setup is an application in this process, between a real daemon and a real database, with a front-end before it.
type setup struct {
	sockets string
	options application.Options
	server  *application.Server
	url     string
	client  *http.Client
	log     *testkit.Output
}

// begin starts an application. change may alter its options.
func begin(t *testing.T, sockets string, database store.Options, change func(*application.Options)) *setup {
	t.Helper()
	s := &setup{sockets: sockets, log: &testkit.Output{}}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the application's log:\n%s", s.log.String())
		}
	})
	if database.DSN == "" && database.Path == "" {
		database.Path = filepath.Join(t.TempDir(), "fraud.db")
	}
	rules, err := scoring.ParseRules(scoring.DefaultRules())
	if err != nil {
		t.Fatal(err)
	}
	s.options = application.Options{
		Models: models(t, -1, -1), Rules: rules, Keys: []string{clientKey}, Secret: bytes.Repeat([]byte("secret"), 8), AnyTime: true, Demo: true, Log: log,
		// The tests share two processors with others; whether scores come in time is not what most of them are about.
		Guard: scoring.GuardOptions{Budget: 10 * time.Second},
	}
	closing := func(what string, close func() error) {
		t.Cleanup(func() {
			if err := close(); err != nil {
				t.Errorf("closing %s: %v", what, err)
			}
		})
	}
	if s.options.Store, err = store.Open(t.Context(), database); err != nil {
		t.Fatal(err)
	}
	closing("the store", s.options.Store.Close)
	s.options.Scorer = scoring.OverLane(filepath.Join(sockets, "lane.sock"), false)
	if s.options.Loader, err = scoring.NewLoader(filepath.Join(sockets, "control.sock")); err != nil {
		t.Fatal(err)
	}
	closing("the loader", s.options.Loader.Close)
	if change != nil {
		change(&s.options)
	}
	closing("the scorer", s.options.Scorer.Close)
	analyst := store.Analyst{Name: "ana", Salt: []byte("salt"), Iterations: 1000}
	if analyst.Hash, err = pbkdf2.Key(sha256.New, password, analyst.Salt, analyst.Iterations, sha256.Size); err != nil {
		t.Fatal(err)
	}
	if err := s.options.Store.SetAnalyst(t.Context(), analyst); err != nil {
		t.Fatal(err)
	}
	if s.server, err = application.New(t.Context(), s.options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.Close)
	behind := httptest.NewServer(s.server)
	t.Cleanup(behind.Close)
	front, err := frontend.New(frontend.Options{Applications: []string{behind.Listener.Addr().String()}, PerSecond: -1, Logins: 100, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	before := httptest.NewTLSServer(front)
	t.Cleanup(before.Close)
	t.Cleanup(s.server.CloseStreams)
	s.url, s.client = before.URL, before.Client()
	return s
}

// askOver has the application ask the daemon for scores over one of its interfaces.
func askOver(t *testing.T, o *application.Options, sockets, protocol string) {
	t.Helper()
	lane := o.Scorer
	var err error
	switch protocol {
	case "lane":
		return
	case "ring":
		o.Scorer = scoring.OverLane(filepath.Join(sockets, "lane.sock"), true)
	case "agent":
		o.Scorer, err = scoring.OverAgent(filepath.Join(sockets, "agent.sock"))
	case "oip":
		o.Scorer, err = scoring.OverOIP("unix:" + filepath.Join(sockets, "oip.sock"))
	default:
		t.Fatalf("there is no interface %q", protocol)
	}
	if err = errors.Join(err, lane.Close()); err != nil {
		t.Fatal(err)
	}
}

// call sends JSON and gives the answer's status and body.
func (s *setup) call(t *testing.T, method, path string, body any, headers map[string]string) (int, []byte) {
	t.Helper()
	status, text, err := s.try(method, path, body, headers)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}

func (s *setup) try(method, path string, body any, headers map[string]string) (int, []byte, error) {
	var reader io.Reader
	if body != nil {
		text, ok := body.([]byte)
		if !ok {
			var err error
			if text, err = json.Marshal(body); err != nil {
				return 0, nil, err
			}
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequest(method, s.url+path, reader)
	if err != nil {
		return 0, nil, err
	}
	for k, v := range headers {
		request.Header.Set(k, v)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, text, err
}

var asClient = map[string]string{"Authorization": "Bearer " + clientKey}

// submit sends a transaction and gives its decision.
func (s *setup) submit(t *testing.T, in api.Transaction) api.Decision {
	t.Helper()
	status, text := s.call(t, "POST", api.PathTransactions, in, asClient)
	if status != http.StatusOK {
		t.Fatalf("transaction %s: status %d: %s", in.ID, status, text)
	}
	return into[api.Decision](t, text)
}

func into[T any](t *testing.T, text []byte) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// login gives the client a cookie and the headers that its posts need.
func (s *setup) login(t *testing.T) map[string]string {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	s.client.Jar = jar
	status, text := s.call(t, "POST", api.PathLogin, api.Login{User: "ana", Password: password}, nil)
	if status != http.StatusOK {
		t.Fatalf("the login: status %d: %s", status, text)
	}
	return map[string]string{api.HeaderCSRF: into[api.Session](t, text).CSRF}
}

// simulated gives n transactions for clients, with what the simulation knows of them.
func simulated(n int, prefix string) ([]api.Transaction, []generate.Transaction) {
	simulation := generate.New(generate.Options{Seed: 11, Customers: 60})
	var list []api.Transaction
	var known []generate.Transaction
	for {
		for _, one := range simulation.Day() {
			if len(list) == n {
				return list, known
			}
			list, known = append(list, one.API(prefix+one.ID())), append(known, one)
		}
	}
}

// TestFlow sends transactions through the front-end, over each database and each of Picket's interfaces: each is decided by the model, with the score that the model gives for the profile that the features
// package makes of its history. Then an analyst looks at them.
func TestFlow(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	server := postgres.Start(t)
	for name, c := range map[string]struct {
		database store.Options
		protocol string
	}{
		"sqlite, lane":      {protocol: "lane"},
		"sqlite, ring":      {protocol: "ring"},
		"postgresql, agent": {database: store.Options{DSN: server.NewDatabase(t)}, protocol: "agent"},
		"sqlite, oip":       {protocol: "oip"},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t, sockets, c.database, func(o *application.Options) { askOver(t, o, sockets, c.protocol) })
			if over := s.options.Scorer.Name(); over != c.protocol {
				t.Fatalf("the daemon is asked over %s, want %s", over, c.protocol)
			}
			list, known := simulated(200, "")
			state, profile := features.New(), make([]float32, features.Count)
			model := s.options.Models[len(s.options.Models)-1]
			decisions := map[string]api.Decision{}
			for i := range list {
				d := s.submit(t, list[i])
				decisions[list[i].ID] = d
				of, err := features.Of(&list[i])
				if err != nil {
					t.Fatal(err)
				}
				state.Observe(&of, profile)
				want, err := s.options.Scorer.Score(t.Context(), profile)
				if err != nil {
					t.Fatal(err)
				}
				if d.Source != api.ByModel || d.Score == nil {
					t.Fatalf("transaction %d was not scored: %+v", i, d)
				}
				if d.Model != model.Version || *d.Score != want.Probability || d.Verdict != model.Verdict(want.Probability) {
					t.Fatalf("transaction %d: %+v, scored %v, want the score %v of version %s", i, d, *d.Score, want.Probability, model.Version)
				}
			}
			if again := s.submit(t, list[7]); again.Decided != decisions[list[7].ID].Decided || *again.Score != *decisions[list[7].ID].Score {
				t.Errorf("sent again, it was decided again: %+v", again)
			}
			other := list[7]
			other.Amount++
			if status, text := s.call(t, "POST", api.PathTransactions, other, asClient); status != http.StatusConflict {
				t.Errorf("another transaction of the same id: status %d: %s", status, text)
			}
			csrf := s.login(t)
			analystLooks(t, s, csrf, list[len(list)-1], known[0])
		})
	}
}

func analystLooks(t *testing.T, s *setup, csrf map[string]string, last api.Transaction, first generate.Transaction) {
	status, text := s.call(t, "GET", "/api/decisions?limit=3", nil, nil)
	if status != http.StatusOK {
		t.Fatalf("the list: status %d: %s", status, text)
	}
	list := into[api.Decisions](t, text)
	if len(list.Entries) != 3 || list.Entries[0].Transaction != last || list.Before == "" {
		t.Errorf("the list begins with %+v", list)
	}
	path := "/api/transactions/" + first.ID()
	_, text = s.call(t, "GET", path, nil, nil)
	page := into[api.Page](t, text)
	if page.Transaction != first.API(first.ID()) || len(page.Profile) != features.Count || page.Fraud != nil || *page.Profile[0].Value != float32(first.Amount)/100 {
		t.Errorf("the page is %+v", page)
	}
	_, text = s.call(t, "POST", path+"/truth", api.Truth{Fraud: true}, csrf)
	if page = into[api.Page](t, text); page.Fraud == nil || !*page.Fraud || page.By != "ana" {
		t.Errorf("with the ground truth, the page is %+v", page)
	}
	_, text = s.call(t, "GET", api.PathStatistics, nil, nil)
	if a := into[api.Statistics](t, text); a.Transactions != 200 || a.Latency.P50 == 0 || a.Breaker != "closed" {
		t.Errorf("the statistics are %+v", a)
	}
	for i := range s.options.Models { // down to the first and up again
		want := s.options.Models[i].Version
		status, text = s.call(t, "POST", api.PathModel, api.Swap{Version: want}, csrf)
		if status != http.StatusOK {
			t.Fatalf("another version: status %d: %s", status, text)
		}
		if state := into[api.ModelState](t, text); state.Current != want {
			t.Errorf("version %s is current, want %s", state.Current, want)
		}
		one := last
		one.ID = "with-version-" + want
		if d := s.submit(t, one); d.Model != want {
			t.Errorf("version %s scored, want %s", d.Model, want)
		}
	}
	if status, text = s.call(t, "POST", api.PathModel, api.Swap{Version: "99"}, csrf); status != http.StatusNotFound {
		t.Errorf("a version that is not there: status %d: %s", status, text)
	}
}

// TestSecondFactor asks for codes: right ones, wrong ones, used ones, and none in time.
func TestSecondFactor(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	s := begin(t, sockets, store.Options{}, func(o *application.Options) { o.Models = models(t, 0, 1) })
	s.login(t)
	list, _ := simulated(1, "c-")
	base := list[0]
	challenge := func(id string) api.Decision {
		t.Helper()
		one := base
		one.ID = id
		d := s.submit(t, one)
		if d.Verdict != api.Challenge || d.Status != api.Waiting || d.Factor == nil || d.Factor.Attempts != 3 {
			t.Fatalf("it was not challenged: %+v", d)
		}
		return d
	}
	answer := func(id, code string) api.Decision {
		t.Helper()
		status, text := s.call(t, "POST", "/api/challenges/"+id, api.Answer{Code: code}, asClient)
		if status != http.StatusOK {
			t.Fatalf("the answer: status %d: %s", status, text)
		}
		return into[api.Decision](t, text)
	}
	code := func() string {
		t.Helper()
		_, text := s.call(t, "GET", fmt.Sprintf("/api/customers/%d/one-time", base.Customer), nil, nil)
		return into[api.OneTimeCode](t, text).Code
	}
	wrong := func(right string) string { return right[1:] + string('0'+(right[0]-'0'+1)%10) }

	first := challenge("a")
	right := code()
	if wrong(right) != right {
		if d := answer("a", wrong(right)); d.Status != api.Waiting || d.Factor.Attempts != 2 || d.Factor.Refused == "" {
			t.Fatalf("after a wrong code: %+v", d)
		}
	}
	if d := answer("a", right); d.Status != api.Approved || d.Decided != first.Decided {
		t.Fatalf("after the right code: %+v", d)
	}
	if d := answer("a", right); d.Status != api.Approved { // such as a client whose first answer was lost
		t.Fatalf("after the right code once more: %+v", d)
	}
	challenge("b")
	if d := answer("b", right); d.Status != api.Waiting || d.Factor.Refused != "used" {
		t.Fatalf("after a code that was used: %+v", d)
	}
	for i, want := range []api.Status{api.Waiting, api.Denied, api.Denied} {
		if d := answer("b", right); d.Status != want {
			t.Fatalf("after attempt %d: %+v", i+2, d)
		}
	}
	if status, text := s.call(t, "POST", "/api/challenges/nobody", api.Answer{Code: "123456"}, asClient); status != http.StatusNotFound {
		t.Errorf("a code for no transaction: status %d: %s", status, text)
	}

	hasty := begin(t, sockets, store.Options{}, func(o *application.Options) { o.Models, o.Expiry = models(t, 0, 1), time.Millisecond })
	csrf := hasty.login(t)
	hasty.submit(t, base)
	eventually(t, "the challenge expires", func() bool {
		_, text := hasty.call(t, "GET", "/api/transactions/"+base.ID, nil, csrf)
		d := into[api.Page](t, text).Decision
		return d.Status == api.Denied && d.Factor.Refused == "expired"
	})
}

// TestSessions shows what analysts and others may do.
func TestSessions(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	s := begin(t, sockets, store.Options{}, nil)
	list, _ := simulated(1, "")
	expect := func(what string, want int, method, path string, body any, headers map[string]string) {
		t.Helper()
		if status, text := s.call(t, method, path, body, headers); status != want {
			t.Errorf("%s: status %d, want %d: %s", what, status, want, text)
		}
	}
	for _, path := range []string{"/api/transactions/x", api.PathDecisions, api.PathStream, api.PathStatistics, api.PathModel, api.PathWAN, api.PathCapture, api.PathSession, "/api/customers/1/one-time", api.PathSample} {
		expect("without a session", http.StatusUnauthorized, "GET", path, nil, nil)
		expect("with a client's key", http.StatusUnauthorized, "GET", path, nil, asClient)
	}
	expect("without a key", http.StatusUnauthorized, "POST", api.PathTransactions, list[0], nil)
	expect("with a wrong key", http.StatusUnauthorized, "POST", api.PathTransactions, list[0], map[string]string{"Authorization": "Bearer wrong"})
	expect("a wrong password", http.StatusUnauthorized, "POST", api.PathLogin, api.Login{User: "ana", Password: "wrong"}, nil)
	expect("a login from another site", http.StatusForbidden, "POST", api.PathLogin, api.Login{User: "ana", Password: password}, map[string]string{"Origin": "https://evil.example"})
	csrf := s.login(t)
	expect("a session", http.StatusOK, "GET", api.PathSession, nil, nil)
	expect("without the token", http.StatusForbidden, "POST", api.PathTransactions, list[0], nil)
	expect("with a wrong token", http.StatusForbidden, "POST", api.PathTransactions, list[0], map[string]string{api.HeaderCSRF: "x"})
	expect("from another site", http.StatusForbidden, "POST", api.PathTransactions, list[0], map[string]string{api.HeaderCSRF: csrf[api.HeaderCSRF], "Sec-Fetch-Site": "cross-site"})
	expect("with the token", http.StatusOK, "POST", api.PathTransactions, list[0], csrf)
	_, text := s.call(t, "GET", "/api/transactions/"+list[0].ID, nil, nil)
	if page := into[api.Page](t, text); page.Decision.Verdict == api.Approve { // a sample is of somebody who was approved
		expect("a sample", http.StatusOK, "GET", api.PathSample+"?story=abroad", nil, nil)
	}
	expect("an unknown story", http.StatusNotFound, "GET", api.PathSample+"?story=x", nil, nil)
	expect("there is no switch", http.StatusConflict, "POST", api.PathWAN, api.WAN{Up: false}, csrf)
	old := s.client.Jar
	expect("the logout", http.StatusNoContent, "POST", api.PathLogout, nil, csrf)
	s.client.Jar = old // the browser has forgotten the cookie; whoever has stolen it has not
	expect("after the logout", http.StatusUnauthorized, "GET", api.PathSession, nil, nil)
	for range 5 {
		expect("another name", http.StatusUnauthorized, "POST", api.PathLogin, api.Login{User: "eve", Password: "wrong"}, nil)
	}
	expect("one guess too many", http.StatusTooManyRequests, "POST", api.PathLogin, api.Login{User: "eve", Password: "wrong"}, nil)
	answer, err := s.client.Get(s.url + "/")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	for _, header := range []string{"Strict-Transport-Security", "Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
		if answer.Header.Get(header) == "" {
			t.Errorf("the header %s is missing", header)
		}
	}
}

// TestFailSafe takes Picket away: rules decide and say why, until it is back, which nobody has to tell the application.
func TestFailSafe(t *testing.T) {
	sockets := shortDir(t)
	daemon := picketd(t, sockets)
	s := begin(t, sockets, store.Options{}, func(o *application.Options) {
		o.Guard = scoring.GuardOptions{Budget: 500 * time.Millisecond, Failures: 5, Pause: 100 * time.Millisecond}
	})
	list, _ := simulated(2000, "")
	next := 0
	submit := func() api.Decision { next++; return s.submit(t, list[next-1]) }
	if d := submit(); d.Source != api.ByModel {
		t.Fatalf("with Picket: %+v", d)
	}
	daemon.end(syscall.SIGKILL)
	causes := map[string]int{}
	eventually(t, "the breaker opens", func() bool {
		d := submit()
		if d.Source != api.ByRules || d.Model != "" || d.Score != nil {
			t.Fatalf("without Picket: %+v", d)
		}
		causes[d.Cause]++
		return d.Cause == scoring.Open
	})
	if causes[scoring.Down]+causes[scoring.Late] == 0 {
		t.Errorf("the causes were %v", causes)
	}
	daemon.start(t)
	scores := func() bool { return submit().Source == api.ByModel }
	eventually(t, "the model scores again", scores)
	// One that is there and does not answer is worse than one that is gone.
	if err := daemon.command.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := sync.OnceValue(func() error { return daemon.command.Process.Signal(syscall.SIGCONT) })
	defer goOn() //nolint:errcheck // it is checked below, and only after a failure called here
	// The signal takes a moment to stop all threads. The first question that meets none is answered by rules, late.
	eventually(t, "rules decide while Picket hangs", func() bool { d := submit(); return d.Source == api.ByRules && d.Cause == scoring.Late })
	if err := goOn(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the model scores after that", scores)
}

// TestOneDecision sends the same transactions many times at once, to two application servers over one database, with retries: every answer to an id is the same, and the
// database has one decision for each.
func TestOneDecision(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	server := postgres.Start(t, "fsync=off") // the order of events is tried, not the disk
	dsn := server.NewDatabase(t)
	a := begin(t, sockets, store.Options{DSN: dsn, Server: "a"}, nil)
	b := begin(t, sockets, store.Options{DSN: dsn, Server: "b"}, nil)
	list, _ := simulated(60, "")
	var mu sync.Mutex
	answers := map[string]map[string]bool{}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			to := []*setup{a, b}[worker%2]
			for i := range list {
				one := list[(i+worker/2)%len(list)]
				status, text, err := to.try("POST", api.PathTransactions, one, asClient)
				if err != nil || status != http.StatusOK {
					t.Errorf("status %d: %s, %v", status, text, err)
					return
				}
				var d api.Decision
				if err := json.Unmarshal(text, &d); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if answers[one.ID] == nil {
					answers[one.ID] = map[string]bool{}
				}
				answers[one.ID][fmt.Sprint(d.Decided, *d.Score, d.Verdict)] = true
				mu.Unlock()
			}
		})
	}
	group.Wait()
	for id, different := range answers {
		if len(different) != 1 {
			t.Errorf("%s has the answers %v", id, different)
		}
	}
	n, m, err := a.options.Store.Counts(t.Context())
	if err != nil || int(n) != len(list) || int(m) != len(list) {
		t.Errorf("%d transactions and %d decisions are stored, want %d: %v", n, m, len(list), err)
	}
}

// TestRecovery stores transactions without decisions, as a crash leaves them: the next start decides each, with the profile that it had, and says so to who asks again.
func TestRecovery(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	path := filepath.Join(t.TempDir(), "fraud.db")
	before, err := store.Open(t.Context(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	list, _ := simulated(150, "")
	for i := range list {
		one, err := features.Of(&list[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := before.Put(list[i].ID, &one); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	s := begin(t, sockets, store.Options{Path: path}, nil)
	state, profile := features.New(), make([]float32, features.Count)
	for i := range list {
		one, err := features.Of(&list[i])
		if err != nil {
			t.Fatal(err)
		}
		state.Observe(&one, profile)
		want, err := s.options.Scorer.Score(t.Context(), profile)
		if err != nil {
			t.Fatal(err)
		}
		if d := s.submit(t, list[i]); !d.Recovered || d.Score == nil || *d.Score != want.Probability {
			t.Fatalf("transaction %d: %+v, want it recovered with the score %v", i, d, want.Probability)
		}
	}
}

// TestImport begins with a past that was decided elsewhere: profiles know it, and nobody decides about it again.
func TestImport(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	path := filepath.Join(t.TempDir(), "fraud.db")
	before, err := store.Open(t.Context(), store.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	simulation := generate.New(generate.Options{Seed: 11, Customers: 60})
	if err := errors.Join(importDays(t.Context(), before, simulation, 10), before.Close()); err != nil {
		t.Fatal(err)
	}
	s := begin(t, sockets, store.Options{Path: path}, nil)
	state, profile := features.New(), make([]float32, features.Count)
	again := generate.New(generate.Options{Seed: 11, Customers: 60})
	var first api.Transaction
	for range 10 {
		for _, one := range again.Day() {
			first = one.API(one.ID())
			state.Observe(&one.Transaction, profile)
			state.Label(&one.Transaction, one.Fraud())
		}
	}
	for _, one := range again.Day() {
		in := one.API(one.ID())
		of, err := features.Of(&in)
		if err != nil {
			t.Fatal(err)
		}
		state.Observe(&of, profile)
		want, err := s.options.Scorer.Score(t.Context(), profile)
		if err != nil {
			t.Fatal(err)
		}
		if d := s.submit(t, in); d.Score == nil || *d.Score != want.Probability {
			t.Fatalf("%s: %+v, want the score %v", in.ID, d, want.Probability)
		}
	}
	if status, text := s.call(t, "POST", api.PathTransactions, first, asClient); status != http.StatusConflict {
		t.Errorf("an imported transaction: status %d: %s", status, text)
	}
	csrf := s.login(t)
	status, text := s.call(t, "POST", "/api/transactions/"+first.ID+"/truth", api.Truth{Fraud: true}, csrf)
	if page := into[api.Page](t, text); status != http.StatusOK || page.Fraud == nil || !*page.Fraud || page.Decision.Verdict != "" {
		t.Errorf("an imported transaction turns out a fraud: status %d: %s", status, text)
	}
}

// TestHostile sends what should not be sent to every endpoint. Nothing may be answered with 500, and everything with one sentence.
func TestHostile(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	s := begin(t, sockets, store.Options{}, nil)
	csrf := s.login(t)
	good, _ := simulated(1, "")
	text, err := json.Marshal(good[0])
	if err != nil {
		t.Fatal(err)
	}
	bodies := [][]byte{
		{}, []byte("{}"), []byte("null"), []byte("[]"), []byte(`"x"`), []byte("{"), []byte("\x00\xff\xfe"), bytes.Repeat([]byte("["), 12_000), bytes.Repeat([]byte("x"), 1<<20),
		[]byte(`{"id":"a","unknown":1}`), []byte(`{"fraud":null}`), []byte(`{"fraud":"yes"}`), []byte(`{"code":"<script>"}`), []byte(`{"code":"１２３４５６"}`), []byte(`{"version":"../../etc"}`), []byte(`{"user":"' OR 1=1 --","password":"x"}`),
		append(bytes.Clone(text), text...), bytes.Replace(text, []byte(`"amount":`), []byte(`"amount":1e400,"x":`), 1), bytes.Replace(text, []byte(`"customer":`), []byte(`"customer":-`), 1),
		bytes.Replace(text, []byte(good[0].ID), []byte(`\u0000`), 1), bytes.Replace(text, []byte(good[0].ID), bytes.Repeat([]byte("é"), 40), 1),
	}
	posts := []string{api.PathTransactions, "/api/challenges/x", "/api/challenges/%00", "/api/transactions/x/truth", api.PathModel, api.PathWAN, api.PathLogin, "/api/nothing"}
	for _, path := range posts {
		for _, body := range bodies {
			status, answer := s.call(t, "POST", path, body, csrf)
			var e api.Error
			if status < 400 || status >= 500 || json.Unmarshal(answer, &e) != nil || e.Sentence == "" {
				t.Errorf("POST %s with %.60q: status %d: %s", path, body, status, answer)
			}
		}
	}
	for _, path := range []string{
		"/api/transactions/" + strings.Repeat("x", 3000), "/api/transactions/a%2fb", "/api/transactions/%27%20OR%201=1", "/api/transactions/%00", "/api/decisions?limit=0", "/api/decisions?limit=99999999999999999999", "/api/decisions?before=x",
		"/api/decisions?before=1.%27", "/api/decisions?verdict=%27", "/api/decisions/stream?sample=0", "/api/customers/0/one-time", "/api/customers/4294967296/one-time", "/api/sample?story=../x", "/api/", "/etc/passwd", "/..%2f..%2fetc/passwd",
	} {
		status, answer := s.call(t, "GET", path, nil, csrf)
		var list api.Decisions
		if path == "/api/decisions?before=1.%27" && status == http.StatusOK && json.Unmarshal(answer, &list) == nil && len(list.Entries) == 0 {
			continue // a place like any other: after the end
		}
		var e api.Error
		if status < 400 || status >= 500 || json.Unmarshal(answer, &e) != nil || e.Sentence == "" {
			t.Errorf("GET %s: status %d: %s", path, status, answer)
		}
	}
	for _, method := range []string{"PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"} {
		if status, answer := s.call(t, method, api.PathTransactions, nil, csrf); status < 400 || status >= 500 {
			t.Errorf("%s: status %d: %s", method, status, answer)
		}
	}
	if d := s.submit(t, good[0]); d.Source != api.ByModel {
		t.Errorf("afterwards, a good transaction: %+v", d)
	}
}

// TestStream watches decisions.
func TestStream(t *testing.T) {
	sockets := shortDir(t)
	picketd(t, sockets)
	s := begin(t, sockets, store.Options{}, nil)
	s.login(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, "GET", s.url+api.PathStream+"?sample=200", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Fatalf("the stream is %s", kind)
	}
	seen := map[string]int{}
	buffer := make([]byte, 64<<10)
	var rest string
	list, _ := simulated(200, "")
	for i := 0; seen["statistics"] < 2 || seen["decision"] < 5; i++ {
		if i < len(list) {
			s.submit(t, list[i])
		}
		n, err := answer.Body.Read(buffer)
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		rest += string(buffer[:n])
		for {
			event, more, found := strings.Cut(rest, "\n\n")
			if !found {
				break
			}
			rest = more
			name, data, _ := strings.Cut(event, "\ndata: ")
			name = strings.TrimPrefix(name, "event: ")
			seen[name]++
			switch name {
			case "decision":
				if e := into[api.Entry](t, []byte(data)); e.Decision.Transaction != e.Transaction.ID {
					t.Fatalf("an event says %s", data)
				}
			case "statistics":
				into[api.Statistics](t, []byte(data))
			default:
				t.Fatalf("an event of the name %q", name)
			}
		}
	}
}
