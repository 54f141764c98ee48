package spool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/capture"
)

// envStates is how many crashes TestPowerLoss simulates.
const envStates = "PICKET_TEST_POWER_STATES"

func states(t *testing.T, short int) int {
	text := os.Getenv(envStates)
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", envStates, err)
	}
	return n
}

// history is what a run was told, which is what a crash must leave.
type history struct {
	appended int // entries that were given to the spool
	acked    int // those that it has acknowledged
	explicit []int
	leaving  int // records that Acknowledge was called for
	left     int // those for which it has returned
}

var errPower = errors.New("the power is gone")

// crashes runs a spool, and simulates a few crashes before each call that it makes.
// check gets the first complaint of each.
func crashes(seed uint64, limit int, mutate func(*memFS), check func(complaint error) bool) (simulated int) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := newMemFS()
	var h history
	ok := true
	m.before = func(op, name string) error {
		if !ok || simulated >= limit {
			ok = false
			return errPower
		}
		for range 3 {
			simulated++
			after := m.crash(r)
			names, _ := after.List()
			complaint := h.hold(after, r.IntN(8) == 0)
			if complaint != nil {
				complaint = fmt.Errorf("%w; before %s %s; there was %v", complaint, op, name, names)
			}
			if !check(complaint) {
				ok = false
				return errPower
			}
		}
		return nil
	}
	if mutate != nil {
		mutate(m)
	}
	options := Options{FS: m, SegmentBytes: 1500, SegmentAge: time.Hour, BesideBytes: 1024, Log: slog.New(slog.DiscardHandler)}
	if seed%4 == 0 { // some batches in whole blocks
		options.SegmentBytes, options.blockFrom = 3*block, 300
	}
	s, err := Open(options)
	if err != nil {
		check(err)
		return simulated
	}
	defer func() {
		m.mu.Lock()
		m.before, m.late = nil, nil
		m.mu.Unlock()
		_ = s.Close() // the power was gone
	}()
	update := func(change func()) {
		m.mu.Lock()
		defer m.mu.Unlock()
		change()
	}
	for ok {
		switch what := r.IntN(12); {
		case what < 7:
			e := sample(h.appended)
			if what == 0 {
				e.Inputs[0].Data = make([]byte, 1100)
			}
			if what == 1 {
				e = explicit(h.appended)
			}
			update(func() { h.appended++ })
			if err := s.Append(context.Background(), e); err != nil {
				return simulated
			}
			update(func() {
				h.acked++
				if what == 1 {
					h.explicit = append(h.explicit, h.appended-1)
				}
			})
		case what < 9:
			all := s.Segments()
			if len(all) < 2 {
				continue
			}
			g := all[r.IntN(2)]
			update(func() { h.leaving = int(g.First) - 1 + int(g.Records) })
			if err := s.Acknowledge(g.Number, Outcome{}); err != nil {
				return simulated
			}
			update(func() { h.left = h.leaving })
		case what == 9:
			// As a kill at a quiet moment, or an orderly restart.
			if s.Close() != nil {
				return simulated
			}
			if s, err = Open(options); err != nil {
				if ok {
					check(err)
				}
				s, _ = Open(Options{FS: newMemFS()})
				return simulated
			}
		default:
			s.Known(fmt.Sprintf("e%d", r.IntN(h.appended+1)))
		}
	}
	return simulated
}

// hold opens what a crash has left and says what is wrong with it. goOn appends to it,
// and looks again.
func (h *history) hold(m *memFS, goOn bool) error {
	s, err := Open(Options{FS: m, SegmentBytes: 1500, SegmentAge: time.Hour, BesideBytes: 1024})
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	defer s.Close()
	if err := h.holds(s, 0); err != nil || !goOn {
		return err
	}
	if err := s.Append(context.Background(), sample(1_000_000)); err != nil {
		return fmt.Errorf("appending: %w", err)
	}
	if err := h.holds(s, 1); err != nil {
		return fmt.Errorf("after an append: %w", err)
	}
	if err := s.Close(); err != nil {
		return err
	}
	if s, err = Open(Options{FS: m}); err != nil {
		return err
	}
	defer s.Close()
	if err := h.holds(s, 1); err != nil {
		return fmt.Errorf("after an append and a restart: %w", err)
	}
	return nil
}

// holds compares s, to which so many were added, with what the run was told.
func (h *history) holds(s *Spool, added int) error {
	var damage error
	records := s.readAll(func(err error) {
		if !errors.Is(err, ErrDamaged) {
			damage = err
		}
	})
	if damage != nil {
		return fmt.Errorf("reading: %w", damage)
	}
	st := s.Stats()
	switch {
	case st.Uploaded+st.OnDisk+st.Dropped.Total()+st.Quarantined != st.Accepted:
		return fmt.Errorf("the accounts do not add up: %+v", st)
	case st.Quarantined != 0 || st.Dropped.Total() != 0:
		return fmt.Errorf("records are lost: %+v", st)
	case st.Accepted < int64(h.acked+added) || st.Accepted > int64(h.appended+added):
		return fmt.Errorf("%d records are accepted, of %d to %d", st.Accepted, h.acked+added, h.appended+added)
	case st.Uploaded < int64(h.left) || st.Uploaded > int64(max(h.left, h.leaving)):
		return fmt.Errorf("%d records have left, of %d to %d", st.Uploaded, h.left, h.leaving)
	case int64(len(records)) != st.OnDisk:
		return fmt.Errorf("%d records can be read, of %d", len(records), st.OnDisk)
	}
	for i, r := range records {
		n := int(st.Uploaded) + i
		name := r.Inference
		if i == len(records)-1 && added > 0 {
			n = 1_000_000
		}
		if r.ID.Sequence != uint64(st.Uploaded)+uint64(i)+1 || name != "s"+strconv.Itoa(n) && name != "e"+strconv.Itoa(n) {
			return fmt.Errorf("record %d is %q with number %d", n, name, r.ID.Sequence)
		}
		if at := r.Inputs[0].Beside; at != nil {
			if _, err := s.Beside(at); err != nil {
				return err
			}
		}
	}
	for _, n := range h.explicit {
		want := capture.Waiting
		if int64(n) < st.Uploaded {
			want = capture.Left
		}
		if got := s.Known("e" + strconv.Itoa(n)); got != want {
			return fmt.Errorf("capture e%d is in state %d, not %d", n, got, want)
		}
	}
	return nil
}

// Whatever part of what was not synced survives, nothing that was acknowledged is lost.
func TestPowerLoss(t *testing.T) {
	total := states(t, 10_000)
	for seed, n := uint64(0), 0; n < total; seed++ {
		n += crashes(seed, min(1500, total-n), nil, func(complaint error) bool {
			if complaint != nil {
				t.Errorf("seed %d: %v", seed, complaint)
			}
			return complaint == nil
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d crashes", total)
}

// The test above sees what it is for: without any one of the syncs, and with the pointer
// moved after what it points at is deleted, it fails.
func TestPowerLossSeesMutations(t *testing.T) {
	is := func(op, ext string) func(*memFS) {
		return func(m *memFS) {
			m.skip = func(o, name string) bool { return o == op && strings.HasSuffix(name, ext) }
		}
	}
	names := func(ext string) func(*memFS) {
		return func(m *memFS) {
			m.skip = func(o, _ string) bool {
				return o == "sync names" && slices.ContainsFunc(m.ops, func(op dirOp) bool { return op.file != nil && strings.HasSuffix(op.name, ext) })
			}
		}
	}
	for name, mutate := range map[string]func(*memFS){
		"no sync of a batch":            is("sync", extSegment),
		"no sync of a new segment":      is("sync first", extSegment),
		"no sync of a segment's name":   names(extSegment),
		"no sync of a tensor's name":    names(extBig),
		"no sync of the name of ids":    names(extIDs),
		"no sync of what became of ids": names(extDone),
		"no sync of the heads' names":   names(headA),
		"no sync of head.a":             is("sync", headA),
		"no sync of head.b":             is("sync", headB),
		"no sync of a large tensor":     is("sync first", extBig),
		"no sync of ids":                is("sync first", extIDs),
		"the head after what it passes": func(m *memFS) { m.late = func(name string) bool { return strings.HasPrefix(name, "head.") } },
	} {
		t.Run(name, func(t *testing.T) {
			seen, n := false, 0
			for seed := uint64(0); !seen && n < 60_000; seed++ {
				n += crashes(seed, 3000, mutate, func(complaint error) bool {
					if complaint != nil && !seen {
						t.Logf("crash %d: %v", n, complaint)
						seen = true
					}
					return complaint == nil
				})
			}
			if !seen {
				t.Errorf("%d crashes, and nothing was noticed", n)
			}
		})
	}
}
