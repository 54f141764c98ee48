//go:build cgo

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/load"
	"github.com/picket-ml/picket/examples/fraud/store"
	"github.com/picket-ml/picket/internal/testkit/postgres"
)

// kills is how often a process is killed, for each database. PICKET_TEST_KILLS changes it for a longer run.
func kills(t *testing.T) int {
	text := os.Getenv("PICKET_TEST_KILLS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("PICKET_TEST_KILLS is %q, and should be a number above 0", text)
	}
	return n
}

// TestKill sends transactions, each until it is answered, while processes are killed at random: Picket, the application server, the front-end, PostgreSQL. Every transaction that was answered must be stored, with
// the decision that was answered, and none may have two.
func TestKill(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { killAtRandom(t, nil) })
	t.Run("postgresql", func(t *testing.T) { killAtRandom(t, postgres.Start(t)) })
}

func killAtRandom(t *testing.T, server *postgres.Server) {
	dir := shortDir(t)
	daemon := picketd(t, dir)
	keys := filepath.Join(dir, "client.keys")
	if err := os.WriteFile(keys, []byte(clientKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := store.Options{Path: filepath.Join(dir, "fraud.db")}
	args := []string{"application", "--listen", "unix:" + filepath.Join(dir, "app.sock"), "--state", dir, "--sockets", dir, "--models", "model", "--client-keys", keys, "--any-time"}
	if server != nil {
		options = store.Options{DSN: server.NewDatabase(t)}
		args = append(args, "--dsn", options.DSN)
	}
	application := newProcess(t, "fraud", args...)
	application.start(t)
	address := freeAddress(t)
	front := newProcess(t, "fraud", "frontend", "--listen", address, "--application", "unix:"+filepath.Join(dir, "app.sock"), "--state", dir, "--rate", "-1")
	front.start(t)
	certificate := filepath.Join(dir, "frontend.pem")
	eventually(t, "the front-end has a certificate", func() bool { _, err := trust(certificate); return err == nil })
	tls, err := trust(certificate)
	if err != nil {
		t.Fatal(err)
	}
	const clients = 8
	transport := &http.Transport{TLSClientConfig: tls, MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	url := "https://" + address

	var stop atomic.Bool
	var mu sync.Mutex
	answered := map[string]api.Decision{}
	bodies := map[string][]byte{}
	simulation := generate.New(generate.Options{Customers: 200})
	var today []generate.Transaction
	next := func() (string, []byte) {
		mu.Lock()
		defer mu.Unlock()
		for len(today) == 0 {
			today = simulation.Day()
		}
		one := today[0]
		today = today[1:]
		text, err := json.Marshal(one.API(one.ID()))
		if err != nil {
			panic(err)
		}
		bodies[one.ID()] = text
		return one.ID(), text
	}
	ask := func(body []byte) (d api.Decision, ok bool) {
		status, _, text, err := load.Post(t.Context(), client, url+api.PathTransactions, clientKey, body)
		if err != nil || status != http.StatusOK {
			if err == nil && status != http.StatusServiceUnavailable {
				t.Errorf("status %d: %s", status, text)
			}
			return d, false
		}
		return d, json.Unmarshal(text, &d) == nil
	}
	var group sync.WaitGroup
	for range clients {
		group.Go(func() {
			for !stop.Load() {
				id, body := next()
				for d, ok := ask(body); ; d, ok = ask(body) {
					if ok {
						mu.Lock()
						answered[id] = d
						mu.Unlock()
						break
					}
					if stop.Load() { // nobody was told anything about this one
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	victims := []func(){
		func() { daemon.end(syscall.SIGKILL); daemon.start(t) },
		func() { application.end(syscall.SIGKILL); application.start(t) },
		func() { front.end(syscall.SIGKILL); front.start(t) },
	}
	if server != nil {
		victims = append(victims, func() {
			if err := server.Kill(); err != nil {
				t.Error(err)
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(answered) }
	for i := range kills(t) {
		// Each kill meets answers that flow.
		before := count()
		eventually(t, fmt.Sprintf("transactions are answered before kill %d", i), func() bool { return count() > before+50 })
		time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		victims[i%len(victims)]()
	}
	before := count()
	eventually(t, "transactions are answered after the last kill", func() bool { return count() > before+50 })
	stop.Store(true)
	group.Wait()

	for id, d := range answered {
		again, ok := ask(bodies[id])
		if !ok || again.Decided != d.Decided || again.Verdict != d.Verdict {
			t.Errorf("%s was answered %+v, and now %+v", id, d, again)
		}
	}
	application.end(syscall.SIGTERM)
	s, err := store.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	undecided := 0
	if err := s.History(t.Context(), time.Time{}, time.Time{}, func(p *store.Past) error {
		if !p.Decided {
			undecided++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	transactions, decisions, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if int(transactions) < len(answered) || decisions+int64(undecided) != transactions || undecided > clients {
		t.Errorf("%d were answered, %d are stored, %d decided, %d not", len(answered), transactions, decisions, undecided)
	}
	t.Logf("%d kills, %d transactions answered, %d stored, %d without an answer and a decision", kills(t), len(answered), transactions, undecided)
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
