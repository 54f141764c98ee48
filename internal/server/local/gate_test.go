package local

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/testkit"
)

// hall is a listener that greets those who come in with a byte.
type hall struct {
	path  string
	gates Gates
	log   testkit.Output
}

func newHall(t *testing.T, limit int, a Access) *hall {
	t.Helper()
	h := &hall{path: filepath.Join(openDir(t), "s")}
	a.Gates = &h.gates
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.path, 0o666); err != nil {
		t.Fatal(err)
	}
	listener := NewListener(l, limit, a, slog.New(slog.NewTextHandler(&h.log, nil)))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.AcceptConn()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if _, err := c.Write([]byte{1}); err == nil {
					_, _ = c.Read(make([]byte, 1)) // until the client leaves
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return h
}

func (h *hall) stats() GateStats { return h.gates.Stats()[0] }

// Who may connect is decided by the ids that the kernel gives, and by nothing else.
func TestAllowedUsersAndGroups(t *testing.T) {
	as := func(uid, gid uint32, groups ...uint32) syscall.Credential {
		return syscall.Credential{Uid: uid, Gid: gid, Groups: groups}
	}
	many := make([]uint32, 200)
	for i := range many {
		many[i] = uint32(60000 + i)
	}
	for what, test := range map[string]struct {
		access  Access
		visitor syscall.Credential
		want    string
	}{
		"everybody":                  {Access{}, as(stranger, stranger), "welcome"},
		"a listed user":              {Access{Users: []uint32{otherStranger, stranger}}, as(stranger, stranger), "welcome"},
		"another user":               {Access{Users: []uint32{otherStranger}}, as(stranger, stranger), "closed"},
		"root, who is not listed":    {Access{Users: []uint32{stranger}}, as(0, 0), "closed"},
		"root, who is listed":        {Access{Users: []uint32{0}}, as(0, 0), "welcome"},
		"a group":                    {Access{Groups: []uint32{strangeGroup}}, as(stranger, strangeGroup), "welcome"},
		"a supplementary group":      {Access{Groups: []uint32{strangeGroup}}, as(stranger, stranger, 60000, strangeGroup), "welcome"},
		"the last of 200 groups":     {Access{Groups: []uint32{60199}}, as(stranger, stranger, many...), "welcome"},
		"another group":              {Access{Groups: []uint32{strangeGroup}}, as(stranger, stranger, many...), "closed"},
		"a user's id as a group's":   {Access{Groups: []uint32{stranger}}, as(stranger, 60000), "closed"},
		"a group's id as a user's":   {Access{Users: []uint32{strangeGroup}}, as(stranger, strangeGroup), "closed"},
		"a user or a group: user":    {Access{Users: []uint32{stranger}, Groups: []uint32{strangeGroup}}, as(stranger, stranger), "welcome"},
		"a user or a group: group":   {Access{Users: []uint32{otherStranger}, Groups: []uint32{strangeGroup}}, as(stranger, strangeGroup), "welcome"},
		"a user or a group: neither": {Access{Users: []uint32{otherStranger}, Groups: []uint32{strangeGroup}}, as(stranger, stranger), "closed"},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHall(t, 10, test.access)
			v := visit(t, h.path, test.visitor)
			open, refused := 1, uint64(0)
			if test.want == "closed" {
				open, refused = 0, 1
			}
			if s := h.stats(); v.said != test.want || s.Open != open || s.Refused[RefusedUser] != refused {
				t.Errorf("it was %s, want %s; %+v", v.said, test.want, s)
			}
			if said := strings.Contains(h.log.String(), "allow_users"); said != (refused > 0) {
				t.Errorf("the log says %q", h.log.String())
			}
			v.leave()
		})
	}
}

// One user cannot take the room of all; what they leave is theirs again.
func TestConnectionsPerUser(t *testing.T) {
	h := newHall(t, 4, Access{MaxPerUser: 2})
	as := func(uid uint32) visitor { return visit(t, h.path, syscall.Credential{Uid: uid, Gid: uid}) }
	one, two, third := as(stranger), as(stranger), as(stranger)
	if one.said != "welcome" || two.said != "welcome" || third.said != "closed" {
		t.Errorf("three of a user who may have two: %s, %s, %s", one.said, two.said, third.said)
	}
	other := as(otherStranger)
	if other.said != "welcome" {
		t.Errorf("another user: %s", other.said)
	}
	third.leave()
	two.leave()
	for end := time.Now().Add(10 * time.Second); h.stats().Open != 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("one has left of three, and it counts %+v", h.stats())
		}
	}
	again := as(stranger)
	if again.said != "welcome" {
		t.Errorf("after one has left: %s", again.said)
	}
	last := as(otherStranger)
	full := as(60000)
	if last.said != "welcome" || full.said != "closed" {
		t.Errorf("the last place of four: %s, and beyond: %s", last.said, full.said)
	}
	if s := h.stats(); s.Refused[RefusedPerUser] != 1 || s.Refused[RefusedFull] != 1 || s.Refused[RefusedUser] != 0 {
		t.Errorf("%+v", s)
	}
	for _, v := range []visitor{one, other, again, last, full} {
		v.leave()
	}
}

// A client that comes again and again is counted every time, and named once.
func TestRefusalsAreLoggedOnce(t *testing.T) {
	h := newHall(t, 1, Access{Users: []uint32{stranger}})
	const n = 50
	for range n {
		c, err := net.Dial("unix", h.path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("this user was let in")
		}
		c.Close()
	}
	if s := h.stats(); s.Refused[RefusedUser] != n || strings.Count(h.log.String(), "refusing connections") != 1 {
		t.Errorf("%+v, and the log says\n%s", s, h.log.String())
	}
}

func TestCheckControl(t *testing.T) {
	for _, a := range []Access{{}, {ControlKey: "sockets.agent.control"}} {
		err := a.CheckControl()
		if !errors.Is(err, failure.ErrDenied) || !strings.Contains(err.Error(), a.ControlKey) || strings.ContainsAny(err.Error(), "\n0123456789") {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if err := (&Access{Control: true}).CheckControl(); err != nil {
		t.Error(err)
	}
	if err := CheckControl(t.Context()); !errors.Is(err, failure.ErrDenied) {
		t.Errorf("a call over no connection: %v", err)
	}
}
