package frontend_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/frontend"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// application answers with its name, and counts.
func application(t *testing.T, name string) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	count := new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.PathHealth {
			return
		}
		count.Add(1)
		body, _ := io.ReadAll(r.Body)
		w.Header().Set(api.HeaderLatency, name) // a header that comes through
		w.Header().Set("X-Host", r.Host)
		w.Header().Set("X-Forwarded", strings.Join(r.Header.Values("X-Forwarded-For"), ","))
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s, count
}

func front(t *testing.T, o frontend.Options) *httptest.Server {
	t.Helper()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := frontend.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	return server
}

func post(t *testing.T, s *httptest.Server, path, body string) *http.Response {
	t.Helper()
	answer, err := s.Client().Post(s.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	answer.Body = io.NopCloser(bytes.NewReader(text))
	return answer
}

// TestBalance shows that customers are spread, that each stays where it is, and that all are served when a server goes.
func TestBalance(t *testing.T) {
	var addresses []string
	var servers []*httptest.Server
	for i := range 3 {
		s, _ := application(t, fmt.Sprint(i))
		servers, addresses = append(servers, s), append(addresses, s.Listener.Addr().String())
	}
	s := front(t, frontend.Options{Applications: addresses, PerSecond: -1})
	of := map[int]string{}
	used := map[string]int{}
	ask := func(customer int) string {
		t.Helper()
		body := fmt.Sprintf(`{"id":"x","customer":%d}`, customer)
		answer := post(t, s, api.PathTransactions, body)
		text, _ := io.ReadAll(answer.Body)
		if answer.StatusCode != http.StatusOK || string(text) != body {
			t.Fatalf("customer %d: status %d, %s", customer, answer.StatusCode, text)
		}
		return answer.Header.Get(api.HeaderLatency)
	}
	for customer := range 120 {
		of[customer] = ask(customer)
		used[of[customer]]++
	}
	if len(used) != 3 {
		t.Errorf("only %v were used", used)
	}
	for customer := range 120 {
		if now := ask(customer); now != of[customer] {
			t.Errorf("customer %d moved from %s to %s", customer, of[customer], now)
		}
	}
	servers[1].Close()
	for customer := range 120 {
		now := ask(customer)
		if now == "1" || of[customer] != "1" && now != of[customer] {
			t.Errorf("customer %d moved from %s to %s when 1 went", customer, of[customer], now)
		}
	}
}

// TestNobody shows what clients are told when no application server is there.
func TestNobody(t *testing.T) {
	gone, _ := application(t, "gone")
	address := gone.Listener.Addr().String()
	gone.Close()
	s := front(t, frontend.Options{Applications: []string{address, "unix:" + filepath.Join(t.TempDir(), "no.sock")}})
	answer := post(t, s, api.PathTransactions, "{}")
	var e api.Error
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || json.NewDecoder(answer.Body).Decode(&e) != nil || e.Sentence == "" {
		t.Errorf("status %d, %+v", answer.StatusCode, e)
	}
}

// TestLimits shows that an address that asks too much is told so, and what is too large.
func TestLimits(t *testing.T) {
	behind, count := application(t, "a")
	address := behind.Listener.Addr().String()
	s := front(t, frontend.Options{Applications: []string{address}, PerSecond: 0.001, Burst: 5, Logins: 2})
	statuses := map[int]int{}
	for range 9 {
		statuses[post(t, s, api.PathTransactions, "{}").StatusCode]++
	}
	if statuses[http.StatusOK] != 5 || statuses[http.StatusTooManyRequests] != 4 || count.Load() != 5 {
		t.Errorf("the statuses were %v, and %d came through", statuses, count.Load())
	}
	open := front(t, frontend.Options{Applications: []string{address}, Logins: 2})
	clear(statuses)
	for range 4 {
		statuses[post(t, open, api.PathLogin, "{}").StatusCode]++
	}
	if statuses[http.StatusOK] != 2 || statuses[http.StatusTooManyRequests] != 2 {
		t.Errorf("logins were answered %v", statuses)
	}
	if answer := post(t, open, api.PathTransactions, strings.Repeat("x", 1<<20)); answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: status %d", answer.StatusCode)
	}
}

// TestHeaders shows that clients cannot say where they come from, and that every answer is guarded.
func TestHeaders(t *testing.T) {
	behind, _ := application(t, "a")
	pages := fstest.MapFS{"index.html": {Data: []byte("<h1>Hello</h1>")}, "assets/x.js": {Data: []byte("1")}}
	s := front(t, frontend.Options{Applications: []string{behind.Listener.Addr().String()}, Pages: http.FileServerFS(pages)})
	request, err := http.NewRequest("GET", s.URL+api.PathDecisions, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Forwarded-For", "10.0.0.1")
	answer, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if got := answer.Header.Get("X-Forwarded"); got != "127.0.0.1" {
		t.Errorf("the application was told that the client is %q", got)
	}
	if got := answer.Header.Get("X-Host"); got != s.Listener.Addr().String() {
		t.Errorf("the application was told the host %q", got)
	}
	for path, want := range map[string]int{"/": 200, "/assets/x.js": 200, "/nothing": 404, "/../frontend.go": 404, "/api/decisions": 200} {
		answer, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: status %d, want %d", path, answer.StatusCode, want)
		}
		for _, header := range []string{"Strict-Transport-Security", "Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"} {
			if answer.Header.Get(header) == "" {
				t.Errorf("%s: the header %s is missing", path, header)
			}
		}
	}
}

// TestPass shows what an application server is told of a transaction: what it looks at, and who has sent it; nothing that a client made up.
func TestPass(t *testing.T) {
	var got http.Header
	var host string
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == api.PathHealth {
			return
		}
		got, host = r.Header, r.Host
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(behind.Close)
	s := front(t, frontend.Options{Applications: []string{behind.Listener.Addr().String()}})
	request, err := http.NewRequest("POST", s.URL+api.PathTransactions+"?x=1", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	passed := map[string]string{"Authorization": "Bearer x", "Content-Type": "application/json", "Cookie": "c=d", "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", api.HeaderCSRF: "token"}
	for name, value := range passed {
		request.Header.Set(name, value)
	}
	for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Evil"} {
		request.Header.Set(name, "10.0.0.1")
	}
	request.Header.Set("Connection", "X-Evil")
	answer, err := s.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") != "7" || answer.Header.Get("Set-Cookie") != "" || answer.Header.Get("Content-Security-Policy") == "" {
		t.Errorf("the answer is %d with %v", answer.StatusCode, answer.Header)
	}
	for name, value := range passed {
		if got.Get(name) != value {
			t.Errorf("the application was told %s: %q, want %q", name, got.Get(name), value)
		}
	}
	for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Evil", "User-Agent"} {
		if got.Get(name) != "" {
			t.Errorf("the application was told %s: %q", name, got.Get(name))
		}
	}
	if got.Get("X-Forwarded-For") != "127.0.0.1" || len(got.Values("X-Forwarded-For")) != 1 || host != s.Listener.Addr().String() {
		t.Errorf("the application was told that %v asks %s", got.Values("X-Forwarded-For"), host)
	}
}

// TestBusy shows that no more requests are under way than may be.
func TestBusy(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	behind := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.PathHealth {
			entered <- struct{}{}
			<-release
		}
	}))
	t.Cleanup(behind.Close)
	s := front(t, frontend.Options{Applications: []string{behind.Listener.Addr().String()}, Outstanding: 1})
	var group sync.WaitGroup
	group.Go(func() {
		if answer, err := s.Client().Get(s.URL + api.PathDecisions); err != nil || answer.StatusCode != http.StatusOK {
			t.Errorf("the first: %v", err)
		} else {
			answer.Body.Close()
		}
	})
	<-entered
	if answer := post(t, s, api.PathTransactions, "{}"); answer.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("the second: status %d", answer.StatusCode)
	}
	close(release)
	group.Wait()
}

// TestCertificate makes one and speaks TLS with it; old versions are refused.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	if err := frontend.SelfSigned(cert, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	server := frontend.HTTP(http.NotFoundHandler(), pair)
	if server.TLSConfig.MinVersion < tls.VersionTLS12 || server.ReadHeaderTimeout == 0 || server.ReadTimeout == 0 || server.WriteTimeout == 0 || server.IdleTimeout == 0 {
		t.Error("the server has no limits")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]frontend.Options{"no application": {}, "no address": {Applications: []string{"somewhere"}}} {
		if s, err := frontend.New(o); err == nil {
			s.Close()
			t.Errorf("%s was accepted", name)
		}
	}
}
