package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/api"
	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/examples/fraud/store"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/internal/testkit/postgres"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// TestStores runs every scenario on SQLite and on a real PostgreSQL, each in a database of its own.
func TestStores(t *testing.T) {
	server := postgres.Start(t, "fsync=off") // that commits outlive a kill is TestKill's
	for name, scenario := range map[string]func(*testing.T, store.Options){
		"what is stored comes back":    comesBack,
		"the first wins":               firstWins,
		"one decision of many servers": oneOfMany,
		"a decision of another":        anothersDecision,
		"list":                         list,
		"history":                      history,
		"import":                       imports,
		"challenge":                    challenge,
		"attempts at once":             attemptsAtOnce,
		"expiry":                       expiry,
		"truth":                        truth,
		"outcomes":                     outcomes,
		"analysts and sessions":        analysts,
		"busy":                         busy,
		"opened by two at once":        openedByTwo,
		"closed":                       closed,
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("sqlite", func(t *testing.T) { scenario(t, store.Options{Path: filepath.Join(t.TempDir(), "fraud.db")}) })
			t.Run("postgresql", func(t *testing.T) { scenario(t, store.Options{DSN: server.NewDatabase(t)}) })
		})
	}
}

func open(t *testing.T, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// some gives simulated transactions under ids of their own.
func some(n int) ([]string, []features.Transaction) {
	simulation := generate.New(generate.Options{Customers: 50})
	var ids []string
	var list []features.Transaction
	for len(list) < n {
		for _, one := range simulation.Day() {
			id := fmt.Sprintf("t-%d", len(ids))
			one.Key = features.Key(id)
			ids, list = append(ids, id), append(list, one.Transaction)
		}
	}
	return ids[:n], list[:n]
}

// outcomes are kept until Picket was told, with the change that makes them, and the last of a kind counts.
func outcomes(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(5)
	now := time.Now().UTC().Truncate(time.Microsecond)
	for i, id := range ids {
		put(t, s, id, &list[i])
		d := decision(id, api.Challenge, now)
		if i == 4 { // by rules: nothing was captured
			d.Inference, d.Source = "", api.ByRules
		}
		if i == 3 {
			d.Factor.Expires = now.Add(-time.Second)
		}
		decide(t, s, d)
	}
	ctx := t.Context()
	if approved, err := s.Complete(ctx, ids[0], list[0].Customer, 1); !approved || err != nil {
		t.Fatal(approved, err)
	}
	for range 3 {
		if taken, err := s.Attempt(ctx, ids[1], now); !taken || err != nil {
			t.Fatal(taken, err)
		}
		if err := s.Refuse(ctx, ids[1], "wrong"); err != nil {
			t.Fatal(err)
		}
	}
	if expired, err := s.Expire(ctx, now); err != nil || len(expired) != 1 {
		t.Fatal(expired, err)
	}
	for _, one := range []struct {
		id    string
		fraud bool
		at    time.Time
	}{{ids[2], false, now}, {ids[2], true, now.Add(time.Second)}, {ids[4], true, now}} {
		if err := s.SetTruth(ctx, one.id, store.Truth{Fraud: one.fraud, At: one.at, Analyst: "ana"}); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		ids[0]: `factor {"second_factor":"passed"}`, ids[1]: `factor {"second_factor":"failed"}`, ids[2]: `fraud {"fraud":true,"by":"analyst"}`, ids[3]: `factor {"second_factor":"expired"}`,
	}
	waiting, err := s.Outcomes(ctx, 10)
	if err != nil || len(waiting) != len(want) {
		t.Fatalf("%d outcomes wait: %+v, %v", len(waiting), waiting, err)
	}
	for _, one := range waiting {
		if got := one.Kind + " " + one.JSON; got != want[one.ID] || one.Model != "1" || one.Inference != "aa-"+one.ID || one.At.IsZero() {
			t.Errorf("%+v, want %s", one, want[one.ID])
		}
	}
	// One changes while the others are told: it is told again.
	if err := s.SetTruth(ctx, ids[2], store.Truth{Fraud: false, At: now.Add(time.Minute), Analyst: "ana"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Told(ctx, waiting); err != nil {
		t.Fatal(err)
	}
	waiting, err = s.Outcomes(ctx, 10)
	if err != nil || len(waiting) != 1 || waiting[0].JSON != `{"fraud":false,"by":"analyst"}` {
		t.Fatalf("%+v, %v", waiting, err)
	}
	if n, err := s.ForgetOutcomes(ctx, now.Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("%d were given up, %v", n, err)
	}
}

func decision(id string, verdict api.Verdict, at time.Time) *store.Decision {
	score := float32(0.25)
	d := &store.Decision{Decision: api.Decision{
		Transaction: id, Verdict: verdict, Status: api.Approved, Score: &score, Source: api.ByModel, Model: "1", Inference: "aa-" + id, Decided: at.UTC().Truncate(time.Microsecond), ScoreMicroseconds: 80, Microseconds: 120,
		Reasons: []api.Reason{{Feature: "amount", Text: "amount", Value: &score, Contribution: -1.5}, {Feature: "rule", Text: "größer"}},
	}, Profile: make([]float32, features.Count)}
	d.Profile[3] = 7.5
	switch verdict {
	case api.Deny:
		d.Status = api.Denied
	case api.Challenge:
		d.Status, d.Factor = api.Waiting, &api.Factor{Expires: d.Decided.Add(time.Minute), Attempts: 3}
	}
	return d
}

func put(t *testing.T, s *store.Store, id string, one *features.Transaction) bool {
	t.Helper()
	w, err := s.Put(id, one)
	if err != nil {
		t.Fatal(err)
	}
	return wait(t, w)
}

func decide(t *testing.T, s *store.Store, d *store.Decision) bool {
	t.Helper()
	w, err := s.Decide(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	return wait(t, w)
}

func wait(t *testing.T, w store.Write) bool {
	t.Helper()
	inserted, err := w.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inserted
}

func find(t *testing.T, s *store.Store, id string) *store.Record {
	t.Helper()
	r, err := s.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func comesBack(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(60)
	var want []*store.Decision
	var writes []store.Write
	for i, id := range ids {
		w, err := s.Put(id, &list[i])
		if err != nil {
			t.Fatal(err)
		}
		d := decision(id, []api.Verdict{api.Approve, api.Challenge, api.Deny}[i%3], time.Now())
		if i%7 == 0 {
			d.Score, d.Source, d.Cause, d.Model, d.Recovered = nil, api.ByRules, "late", "", true
		}
		if i%5 == 0 {
			d.Profile[4] = float32(math.Inf(-1))
			d.Reasons = nil
		}
		dw, err := s.Decide(d, &w)
		if err != nil {
			t.Fatal(err)
		}
		writes, want = append(writes, w, dw), append(want, d)
	}
	for i, w := range writes {
		if !wait(t, w) {
			t.Fatalf("write %d found its row there", i)
		}
	}
	// Another process reads the same.
	again := open(t, o)
	for i, id := range ids {
		r := find(t, again, id)
		if r.Transaction != list[i] || r.ID != id {
			t.Fatalf("%+v came back as %+v", list[i], r.Transaction)
		}
		if !reflect.DeepEqual(r.Decision, want[i]) {
			t.Fatalf("%+v came back as %+v", want[i], r.Decision)
		}
	}
	if _, err := s.Find(t.Context(), "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("looking for what is not there: %v", err)
	}
	if n, m, err := s.Counts(t.Context()); err != nil || n != 60 || m != 60 {
		t.Fatalf("%d transactions and %d decisions: %v", n, m, err)
	}
	if s.Commits().Max == 0 {
		t.Error("no commit was timed")
	}
}

func firstWins(t *testing.T, o store.Options) {
	s := open(t, o)
	_, list := some(2)
	if !put(t, s, "a", &list[0]) || put(t, s, "a", &list[0]) || put(t, s, "a", &list[1]) {
		t.Fatal("not the first of an id, and only it, was inserted")
	}
	if !decide(t, s, decision("a", api.Deny, time.Now())) || decide(t, s, decision("a", api.Approve, time.Now())) {
		t.Fatal("not the first decision, and only it, was inserted")
	}
	if r := find(t, s, "a"); r.Decision.Verdict != api.Deny || r.Transaction.Amount != list[0].Amount {
		t.Fatalf("stored is %+v", r)
	}
}

// oneOfMany lets servers decide about the same transactions at once, each with another verdict of its own. Each id must have one decision, and exactly one server must
// believe that it was its own.
func oneOfMany(t *testing.T, o store.Options) {
	const servers, n = 4, 40
	ids, list := some(n)
	won := make([][]bool, servers)
	var group sync.WaitGroup
	for i := range servers {
		o.Server = fmt.Sprint("server", i)
		s := open(t, o)
		won[i] = make([]bool, n)
		group.Go(func() {
			for j, id := range ids {
				w, err := s.Put(id, &list[j])
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.Wait(context.Background()); err != nil {
					t.Error(err)
					return
				}
				d := decision(id, api.Approve, time.Now())
				d.Model = fmt.Sprint(i)
				if w, err = s.Decide(d, nil); err != nil {
					t.Error(err)
					return
				}
				if won[i][j], err = w.Wait(context.Background()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	s := open(t, o)
	for j, id := range ids {
		winners := 0
		for i := range servers {
			if won[i][j] {
				winners++
				if r := find(t, s, id); r.Decision.Model != fmt.Sprint(i) {
					t.Fatalf("%s: server %d believes that it decided, stored is the decision of %s", id, i, r.Decision.Model)
				}
			}
		}
		if winners != 1 {
			t.Fatalf("%s: %d servers believe that they decided", id, winners)
		}
	}
}

// anothersDecision shows that a decision is not stored when its transaction turns out to be another.
func anothersDecision(t *testing.T, o store.Options) {
	s := open(t, o)
	_, list := some(2)
	put(t, s, "a", &list[0])
	w, err := s.Put("a", &list[1])
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Decide(decision("a", api.Approve, time.Now()), &w)
	if err != nil {
		t.Fatal(err)
	}
	if wait(t, w) || wait(t, d) {
		t.Fatal("a second transaction of one id, or the decision about it, was stored")
	}
	if r := find(t, s, "a"); r.Decision != nil {
		t.Fatalf("the first transaction has the second's decision %+v", r.Decision)
	}
}

func list(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(25)
	began := time.Now()
	for i, id := range ids {
		put(t, s, id, &list[i])
		// Some at one moment, so that the place in the list needs the id.
		decide(t, s, decision(id, []api.Verdict{api.Approve, api.Deny}[i%2], began.Add(time.Duration(i/4)*time.Second)))
	}
	for verdict, want := range map[api.Verdict]int{"": 25, api.Deny: 12, api.Challenge: 0} {
		seen := map[string]bool{}
		q := store.Query{Limit: 4, Verdict: verdict}
		last := time.Unix(1<<40, 0)
		for {
			part, next, err := s.List(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range part {
				if seen[r.ID] || r.Decision.Decided.After(last) || verdict != "" && r.Decision.Verdict != verdict {
					t.Fatalf("%s is out of place", r.ID)
				}
				seen[r.ID], last = true, r.Decision.Decided
			}
			if next == "" {
				break
			}
			if !store.IsPlace(next) {
				t.Fatalf("%q is no place", next)
			}
			q.Before = next
		}
		if len(seen) != want {
			t.Errorf("verdict %q: %d of %d were listed", verdict, len(seen), want)
		}
	}
	for _, bad := range []string{"x", "1", "1.", ".a", "99999999999999999999.a", "1' OR 1=1"} {
		if store.IsPlace(bad) {
			t.Errorf("%q is taken for a place", bad)
		}
	}
}

// imports stores a past twice, among transactions of today: it is decided, as far as History says, and known to be imported; its frauds are known.
func imports(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(80)
	own, err := s.Put(ids[79], &list[79])
	if err != nil {
		t.Fatal(err)
	}
	wait(t, own)
	past := make([]store.Past, 79)
	for i := range past {
		past[i] = store.Past{ID: ids[i], Transaction: list[i], Fraud: i%7 == 0}
	}
	for _, want := range []int{79, 0} {
		if n, err := s.Import(t.Context(), past); err != nil || n != want {
			t.Fatalf("%d are new, want %d: %v", n, want, err)
		}
	}
	if n, err := s.Import(t.Context(), []store.Past{{ID: ids[79], Transaction: list[79], Fraud: true}}); err != nil || n != 0 {
		t.Fatalf("one that is there is imported: %d, %v", n, err)
	}
	seen := 0
	if err := s.History(t.Context(), time.Time{}, time.Time{}, func(p *store.Past) error {
		i := slices.Index(ids, p.ID)
		if i < 0 || p.Transaction != list[i] || p.Decided != (i < 79) || p.Fraud != (i%7 == 0 || i == 79) {
			return fmt.Errorf("history has %+v at %d", p, i)
		}
		seen++
		return nil
	}); err != nil || seen != 80 {
		t.Fatalf("history has %d: %v", seen, err)
	}
	for id, want := range map[string]bool{ids[3]: true, ids[79]: false} {
		if r, err := s.Find(t.Context(), id); err != nil || r.Imported != want || r.Decision != nil {
			t.Errorf("%s is %+v, %v", id, r, err)
		}
	}
	o.Server = "import"
	if again, err := store.Open(t.Context(), o); err == nil {
		_ = again.Close()
		t.Error("a server is called as imports are")
	}
}

func history(t *testing.T, o store.Options) {
	s := open(t, o)
	if at, _, err := s.Last(t.Context()); err != nil || !at.IsZero() {
		t.Fatalf("an empty database has a last transaction: %v %v", at, err)
	}
	ids, list := some(80)
	for i, id := range ids {
		w, err := s.Put(id, &list[i])
		if err != nil {
			t.Fatal(err)
		}
		if i == len(ids)-1 {
			wait(t, w)
		}
	}
	decide(t, s, decision(ids[7], api.Approve, time.Now()))
	if err := s.SetTruth(t.Context(), ids[8], store.Truth{Fraud: true, At: time.Now(), Analyst: "ana"}); err != nil {
		t.Fatal(err)
	}
	next, from := 10, time.UnixMilli(list[10].At)
	err := s.History(t.Context(), from, time.Time{}, func(p *store.Past) error {
		if p.ID != ids[next] || p.Transaction != list[next] || p.Server != "a" {
			return fmt.Errorf("%s came, want %s", p.ID, ids[next])
		}
		next++
		return nil
	})
	if err != nil || next != 80 {
		t.Fatalf("history ended before %d: %v", next, err)
	}
	var decided, frauds []string
	if err := s.History(t.Context(), time.Time{}, time.Time{}, func(p *store.Past) error {
		if p.Decided {
			decided = append(decided, p.ID)
		}
		if p.Fraud {
			frauds = append(frauds, p.ID)
		}
		return nil
	}); err != nil || !reflect.DeepEqual(decided, ids[7:8]) || !reflect.DeepEqual(frauds, ids[8:9]) {
		t.Fatalf("decided %v, frauds %v: %v", decided, frauds, err)
	}
	if at, stored, err := s.Last(t.Context()); err != nil || at.UnixMilli() != list[79].At || time.Since(stored) > time.Minute {
		t.Fatalf("last is %v, stored %v: %v", at, stored, err)
	}
}

func challenge(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(3)
	now := time.Now()
	for i, id := range ids {
		put(t, s, id, &list[i])
		decide(t, s, decision(id, api.Challenge, now))
	}
	attempt := func(id string, want bool) {
		t.Helper()
		if got, err := s.Attempt(t.Context(), id, now); err != nil || got != want {
			t.Fatalf("an attempt at %s: %v, %v", id, got, err)
		}
	}
	status := func(id string, want api.Status, attempts int, refused string) {
		t.Helper()
		d := find(t, s, id).Decision
		if d.Status != want || d.Factor.Attempts != attempts || d.Factor.Refused != refused {
			t.Fatalf("%s is %s with %+v, want %s with %d attempts, refused %q", id, d.Status, d.Factor, want, attempts, refused)
		}
	}
	complete := func(id string, step int64, want bool) {
		t.Helper()
		if got, err := s.Complete(t.Context(), id, 77, step); err != nil || got != want {
			t.Fatalf("completing %s: %v, %v", id, got, err)
		}
	}
	attempt(ids[0], true)
	if err := s.Refuse(t.Context(), ids[0], "wrong"); err != nil {
		t.Fatal(err)
	}
	status(ids[0], api.Waiting, 2, "wrong")
	attempt(ids[0], true)
	complete(ids[0], 1000, true)
	status(ids[0], api.Approved, 1, "")
	attempt(ids[0], false) // it waits no more
	complete(ids[0], 1001, false)

	attempt(ids[1], true)
	complete(ids[1], 1000, false) // the step was used, for another transaction
	if err := s.Refuse(t.Context(), ids[1], "used"); err != nil {
		t.Fatal(err)
	}
	status(ids[1], api.Waiting, 2, "used")
	for range 2 {
		attempt(ids[1], true)
		if err := s.Refuse(t.Context(), ids[1], "wrong"); err != nil {
			t.Fatal(err)
		}
	}
	status(ids[1], api.Denied, 0, "wrong")
	complete(ids[1], 1002, false)
	status(ids[1], api.Denied, 0, "wrong")
	if got, err := s.Attempt(t.Context(), ids[2], now.Add(2*time.Minute)); err != nil || got {
		t.Fatalf("an attempt after its time: %v, %v", got, err)
	}
	attempt("nobody", false)
}

// attemptsAtOnce sends codes in parallel: no more are looked at than there are attempts.
func attemptsAtOnce(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(1)
	put(t, s, ids[0], &list[0])
	decide(t, s, decision(ids[0], api.Challenge, time.Now()))
	var taken int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			got, err := s.Attempt(context.Background(), ids[0], time.Now())
			if err != nil {
				t.Error(err)
			}
			if got {
				mu.Lock()
				taken++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if taken != 3 {
		t.Fatalf("%d attempts were taken, of 3", taken)
	}
}

func expiry(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(3)
	now := time.Now()
	for i, id := range ids {
		put(t, s, id, &list[i])
		decide(t, s, decision(id, api.Challenge, now.Add(time.Duration(i)*time.Hour)))
	}
	got, err := s.Expire(t.Context(), now.Add(10*time.Minute))
	if err != nil || !reflect.DeepEqual(got, ids[:1]) {
		t.Fatalf("expired %v: %v", got, err)
	}
	if d := find(t, s, ids[0]).Decision; d.Status != api.Denied || d.Factor.Refused != "expired" {
		t.Fatalf("what expired is %+v", d)
	}
	if got, err := s.Expire(t.Context(), now.Add(10*time.Minute)); err != nil || len(got) != 0 {
		t.Fatalf("expired again: %v: %v", got, err)
	}
}

func truth(t *testing.T, o store.Options) {
	s := open(t, o)
	ids, list := some(1)
	put(t, s, ids[0], &list[0])
	decide(t, s, decision(ids[0], api.Approve, time.Now()))
	if find(t, s, ids[0]).Truth != nil {
		t.Fatal("the truth is known already")
	}
	for _, fraud := range []bool{true, false} {
		if err := s.SetTruth(t.Context(), ids[0], store.Truth{Fraud: fraud, At: time.Now(), Analyst: "ana"}); err != nil {
			t.Fatal(err)
		}
		if r := find(t, s, ids[0]); r.Truth == nil || r.Truth.Fraud != fraud || r.Truth.Analyst != "ana" {
			t.Fatalf("the truth is %+v", r.Truth)
		}
	}
}

func analysts(t *testing.T, o store.Options) {
	s := open(t, o)
	if _, err := s.Analyst(t.Context(), "ana"); !errors.Is(err, store.ErrNotFound) {
		t.Fatal(err)
	}
	for i := range 2 {
		want := store.Analyst{Name: "ana", Salt: []byte{1, 0, 2}, Hash: []byte{byte(i), 0, 255}, Iterations: 5 + i}
		if err := s.SetAnalyst(t.Context(), want); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Analyst(t.Context(), "ana"); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v came back as %+v: %v", want, got, err)
		}
	}
	now := time.Now().Truncate(time.Microsecond)
	want := store.Session{Digest: []byte{0, 1, 2}, Analyst: "ana", CSRF: "x", Used: now, Expires: now.Add(time.Hour)}
	if err := s.AddSession(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := s.UseSession(t.Context(), want.Digest, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Session(t.Context(), want.Digest); err != nil || got.Analyst != "ana" || got.CSRF != "x" || !got.Expires.Equal(want.Expires) || !got.Used.Equal(now.Add(time.Minute)) {
		t.Fatalf("%+v came back as %+v: %v", want, got, err)
	}
	old := store.Session{Digest: []byte{9}, Analyst: "ana", CSRF: "x", Used: now, Expires: now.Add(-time.Hour)}
	for _, one := range []store.Session{old, {Digest: []byte{8}, Analyst: "ana", CSRF: "x", Used: now, Expires: now.Add(time.Hour)}} {
		if err := s.AddSession(t.Context(), one); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.EndSession(t.Context(), want.Digest); err != nil {
		t.Fatal(err)
	}
	for _, digest := range [][]byte{want.Digest, old.Digest} {
		if _, err := s.Session(t.Context(), digest); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("a session that is over is still there: %v", err)
		}
	}
}

// busy fills the queue of a store whose database cannot be reached for a while, as far as it sees: it is held by another transaction.
func busy(t *testing.T, o store.Options) {
	o.Queue = 8
	s := open(t, o)
	ids, list := some(300)
	var refused int
	var writes []store.Write
	for i, id := range ids { // faster than any disk
		w, err := s.Put(id, &list[i])
		if errors.Is(err, store.ErrBusy) {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, w)
		if waiting, limit := s.Waiting(); waiting > limit || limit != 8 {
			t.Fatalf("%d wait, at most %d may", waiting, limit)
		}
	}
	for _, w := range writes {
		wait(t, w)
	}
	n, _, err := s.Counts(t.Context())
	if err != nil || refused == 0 || int(n) != len(writes) {
		t.Fatalf("%d of %d were let in and %d are stored, %d were refused: %v", len(writes), len(ids), n, refused, err)
	}
}

func openedByTwo(t *testing.T, o store.Options) {
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			s, err := store.Open(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

// closed shows that Close stores what waits, and that nothing gets in afterwards.
func closed(t *testing.T, o store.Options) {
	s, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ids, list := some(60)
	var writes []store.Write
	for i, id := range ids {
		w, err := s.Put(id, &list[i])
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, w)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if !wait(t, w) {
			t.Fatal("what waited was not stored")
		}
	}
	if _, err := s.Put("late", &list[0]); !errors.Is(err, store.ErrClosed) {
		t.Fatalf("a closed store takes a transaction: %v", err)
	}
	if n, _, err := open(t, o).Counts(t.Context()); err != nil || n != 60 {
		t.Fatalf("%d are stored: %v", n, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, o := range map[string]store.Options{
		"nothing":      {},
		"a bad DSN":    {DSN: "postgres://user:secret@[::1"},
		"nobody there": {DSN: "host=/nonexistent user=x dbname=y"},
		"no folder":    {Path: "/nonexistent/fraud.db"},
	} {
		s, err := store.Open(t.Context(), o)
		if err == nil {
			s.Close()
			t.Errorf("%s was opened", name)
		}
	}
}
