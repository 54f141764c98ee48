package features_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/picket-ml/picket/examples/fraud/features"
	"github.com/picket-ml/picket/examples/fraud/generate"
	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

// arrivals simulates days and lets some transactions arrive late, by seconds or by hours.
func arrivals(t *testing.T, customers, days int, late bool) []generate.Transaction {
	t.Helper()
	s := generate.New(generate.Options{Seed: 7, Customers: customers})
	r := rand.New(rand.NewPCG(3, 4))
	type arrival struct {
		at int64
		generate.Transaction
	}
	var all []arrival
	for range days {
		for _, one := range s.Day() {
			a := arrival{one.At, one}
			if late && r.Float64() < 0.1 {
				a.at += int64(r.Float64() * 1000 * math.Pow(10, 1+3.9*r.Float64())) // up to 22 hours
			}
			all = append(all, a)
		}
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	list := make([]generate.Transaction, len(all))
	for i := range all {
		list[i] = all[i].Transaction
	}
	return list
}

// TestReplayEqualsHistory replays a day through both ways: State, which keeps running totals, and the definition itself, which reads all of the raw history for each transaction. Every
// bit must be the same, with transactions that arrive late, too.
func TestReplayEqualsHistory(t *testing.T) {
	for name, late := range map[string]bool{"in order": false, "late arrivals": true} {
		t.Run(name, func(t *testing.T) {
			list := arrivals(t, 50, 44, late)
			state := features.New()
			got, want := make([]float32, features.Count), make([]float32, features.Count)
			begin := len(list) - len(list)/44
			different := map[string]bool{}
			for i := range list {
				one := &list[i]
				state.Observe(&one.Transaction, got)
				if one.Fraud() {
					state.Label(&one.Transaction, true)
				}
				for j := range got {
					if got[j] != 0 && got[j] == got[j] {
						different[features.Names()[j]] = true
					}
				}
				if i < begin {
					continue
				}
				features.FromHistory(list[:i], &one.Transaction, want)
				for j := range got {
					if math.Float32bits(got[j]) != math.Float32bits(want[j]) {
						t.Fatalf("transaction %d: %s is %v from running totals, and %v from the raw history", i, features.Names()[j], got[j], want[j])
					}
				}
			}
			if len(different) != features.Count {
				t.Fatalf("only %d of %d features were ever there and not 0, so that comparing the others proves nothing", len(different), features.Count)
			}
		})
	}
}

// TestRemove shows that a transaction that is taken out has left no trace.
func TestRemove(t *testing.T) {
	list := arrivals(t, 25, 41, true)
	with, without := features.New(), features.New()
	scratch := make([]float32, features.Count)
	for i := range list {
		with.Observe(&list[i].Transaction, scratch)
		if i%3 != 0 {
			without.Add(&list[i].Transaction)
		} else if i%2 == 0 {
			with.Label(&list[i].Transaction, true)
		}
	}
	for i := range list {
		if i%3 == 0 {
			with.Remove(&list[i].Transaction)
		}
	}
	if with.Known() != without.Known() {
		t.Fatalf("%d are known, want %d", with.Known(), without.Known())
	}
	a, b := make([]float32, features.Count), make([]float32, features.Count)
	for i := len(list) - 200; i < len(list); i++ {
		with.Profile(&list[i].Transaction, a)
		without.Profile(&list[i].Transaction, b)
		if !same(a, b) {
			t.Fatalf("profile of %d: %v, want %v", i, a, b)
		}
	}
}

// TestOrderOfArrival shows that goroutines which add a history in any order leave the same behind as one that adds it in order.
func TestOrderOfArrival(t *testing.T) {
	list := arrivals(t, 30, 36, false)
	ordered, mixed := features.New(), features.New()
	for i := range list {
		ordered.Add(&list[i].Transaction)
	}
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			scratch := make([]float32, features.Count)
			// Within a day's lateness of each other.
			for i := worker; i < len(list); i += 8 {
				mixed.Observe(&list[i].Transaction, scratch)
				if i%500 == 0 {
					mixed.Sweep(50)
				}
			}
		})
	}
	group.Wait()
	a, b := make([]float32, features.Count), make([]float32, features.Count)
	for i := len(list) - 100; i < len(list); i++ {
		// Two at one millisecond stand in the order of arrival, which is all that may differ: so look a second later.
		later := list[i].Transaction
		later.At += 1000
		ordered.Profile(&later, a)
		mixed.Profile(&later, b)
		if !same(a, b) {
			t.Fatalf("profile of %d: %v in order, %v mixed", i, a, b)
		}
	}
}

// TestLabelTwice shows that ground truth can be repeated and taken back.
func TestLabelTwice(t *testing.T) {
	list := arrivals(t, 20, 9, false)
	state := features.New()
	for i := range list {
		state.Add(&list[i].Transaction)
	}
	one := list[5].Transaction
	probe := one
	probe.At += features.Delay.Milliseconds() + 1000
	risk := slices.Index(features.Names(), "terminal_risk_30d")
	profile := make([]float32, features.Count)
	for step, c := range []struct{ fraud, risky bool }{{true, true}, {true, true}, {false, false}, {false, false}} {
		state.Label(&one, c.fraud)
		state.Profile(&probe, profile)
		if (profile[risk] > 0) != c.risky {
			t.Fatalf("step %d: the terminal's risk is %v", step, profile[risk])
		}
	}
}

// TestSweep shows that who was not seen for long is forgotten, and nobody else.
func TestSweep(t *testing.T) {
	list := arrivals(t, 20, 3, false)
	state := features.New()
	for i := range list {
		state.Add(&list[i].Transaction)
	}
	before := state.Histories()
	state.Sweep(1_000_000)
	if state.Histories() != before {
		t.Fatalf("%d of %d histories are left, although all are recent", state.Histories(), before)
	}
	stranger := features.Transaction{Key: 1, At: list[len(list)-1].At + (features.Retention + time.Hour).Milliseconds(), Customer: 1 << 30, Terminal: 1 << 30, Merchant: 1 << 30, Device: 1 << 30}
	state.Add(&stranger)
	state.Sweep(1_000_000)
	if left := state.Histories(); left != 7 {
		t.Fatalf("%d of %d histories are left, want the 7 of who has come since the others went", left, before)
	}
}

func TestNames(t *testing.T) {
	names := features.Names()
	slices.Sort(names)
	if len(names) < 25 || !reflect.DeepEqual(slices.Compact(slices.Clone(names)), names) {
		t.Fatalf("%d features, want at least 25 of different names: %v", len(names), names)
	}
}

func same(a, b []float32) bool {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

func BenchmarkObserve(b *testing.B) {
	s := generate.New(generate.Options{Customers: 2000})
	var list []features.Transaction
	for range 60 {
		for _, one := range s.Day() {
			list = append(list, one.Transaction)
		}
	}
	profile := make([]float32, features.Count)
	state, i := features.New(), 0
	for b.Loop() {
		if i == len(list) {
			state, i = features.New(), 0
		}
		state.Observe(&list[i], profile)
		i++
	}
}
