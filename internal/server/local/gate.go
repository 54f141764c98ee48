package local

import (
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/oserror"
	"github.com/picket-ml/picket/internal/shm"
)

// refusalLogInterval keeps a client that reconnects in a loop from filling the
// log.
const refusalLogInterval = 10 * time.Second

// Refusal is why a client was turned away.
type Refusal int

// The reasons, in the order in which they are looked at.
const (
	RefusedUser    Refusal = iota // not one of Access's
	RefusedPerUser                // as many of the user's are connected as may be
	RefusedFull                   // as many clients are connected as may be
	refusals
)

// String is the reason as metrics have it.
func (r Refusal) String() string {
	return [...]string{"not allowed", "user limit", "limit"}[r]
}

// sentences are what the log says of the reasons.
var sentences = [refusals]string{
	RefusedUser:    "the user is not in the socket's allow_users or allow_groups",
	RefusedPerUser: "as many clients of the user are connected as limits.max_connections_per_user allows",
	RefusedFull:    "as many clients are connected as limits.max_connections allows",
}

// Gate lets clients of one listener in, counts them, and tells the operator why some were turned away. Its methods may be called by
// many goroutines at once.
type Gate struct {
	addr   net.Addr
	access Access
	limit  int
	log    *slog.Logger

	mu       sync.Mutex
	open     int
	byUser   map[uint32]int // where there is a limit for each
	refused  [refusals]uint64
	lastSaid [refusals]time.Time
	starved  time.Time // when it was last said that there are no file descriptors
}

// NewGate lets limit clients of the listener at addr be connected at once, those whom access admits.
func NewGate(addr net.Addr, limit int, access Access, log *slog.Logger) *Gate {
	g := &Gate{addr: addr, access: access, limit: limit, log: log, byUser: make(map[uint32]int)}
	if access.Gates != nil {
		access.Gates.add(g)
	}
	return g
}

// admit makes a Conn of a client who may come in, or closes the connection: left in the kernel's queue, its client could not tell a
// full daemon from one that hangs. Nothing has been read from it.
func (g *Gate) admit(conn *net.UnixConn) (*Conn, bool) {
	who, err := shm.PeerCred(conn)
	allowed := false
	if err == nil {
		allowed, err = g.access.admits(who, func() ([]uint32, error) { return shm.PeerGroups(conn) })
	}
	if err != nil {
		g.log.Error("a client was turned away: it cannot be told who it is", "socket", g.addr.String(), "error", err)
	}
	if err != nil || !g.enter(allowed, who) {
		_ = conn.Close()
		return nil, false
	}
	return &Conn{UnixConn: conn, gate: g, peer: who}, true
}

// enter counts one more client, or one that is turned away.
func (g *Gate) enter(allowed bool, who shm.Peer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case !allowed:
		g.refuse(RefusedUser, "uid", who.UID, "pid", who.PID)
	case g.access.MaxPerUser > 0 && g.byUser[who.UID] >= g.access.MaxPerUser:
		g.refuse(RefusedPerUser, "uid", who.UID, "pid", who.PID, "limit", g.access.MaxPerUser)
	case g.open >= g.limit:
		g.refuse(RefusedFull, "limit", g.limit)
	default:
		g.open++
		if g.access.MaxPerUser > 0 {
			g.byUser[who.UID]++
		}
		return true
	}
	return false
}

// refuse counts, and says it if it was not said just now. The lock is held.
func (g *Gate) refuse(why Refusal, about ...any) {
	g.refused[why]++
	if now := time.Now(); now.Sub(g.lastSaid[why]) > refusalLogInterval {
		g.lastSaid[why] = now
		g.log.Warn("refusing connections: "+sentences[why], append([]any{"socket", g.addr.String(), "refused", g.refused[why]}, about...)...) //nolint:sloglint // one of three constants
	}
}

// leave takes back what enter counted.
func (g *Gate) leave(uid uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	if g.access.MaxPerUser == 0 {
		return
	}
	if g.byUser[uid]--; g.byUser[uid] == 0 {
		delete(g.byUser, uid)
	}
}

// EnterUnknown counts one more client of whom nobody knows which user it is, as over TCP, or reports that there are too many.
func (g *Gate) EnterUnknown() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.limit {
		g.refuse(RefusedFull, "limit", g.limit)
		return false
	}
	g.open++
	return true
}

// LeaveUnknown takes back what EnterUnknown counted.
func (g *Gate) LeaveUnknown() {
	g.mu.Lock()
	g.open--
	g.mu.Unlock()
}

// GateStats are the counters of a Gate.
type GateStats struct {
	Address string
	Open    int
	Refused map[Refusal]uint64
}

// Stats counts.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := GateStats{Address: g.addr.String(), Open: g.open, Refused: make(map[Refusal]uint64, refusals)}
	for why, n := range g.refused {
		s.Refused[Refusal(why)] = n
	}
	return s
}

// Gates are the gates of a daemon's listeners. Its methods may be called by many goroutines at once.
type Gates struct {
	mu  sync.Mutex
	all []*Gate
}

func (g *Gates) add(one *Gate) {
	g.mu.Lock()
	g.all = append(g.all, one)
	g.mu.Unlock()
}

// Stats counts for each, in the order in which they were made.
func (g *Gates) Stats() []GateStats {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]GateStats, len(g.all))
	for i, one := range g.all {
		all[i] = one.Stats()
	}
	return all
}

// SayWhy logs why accepting failed where the operator can mend it. Servers try
// again after such an error, many times a second, and say nothing.
func (g *Gate) SayWhy(err error) {
	if !OutOfFiles(err) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.starved) > refusalLogInterval {
		g.starved = now
		g.log.Error("accepting a connection: there are no file descriptors left; raise LimitNOFILE (ulimit -n), or lower limits.max_connections",
			"socket", g.addr.String(), "clients", g.open, "error", err)
	}
}

// OutOfFiles tells whether accepting failed because the process or the system
// has no file descriptors left, which passes.
func OutOfFiles(err error) bool { return oserror.OutOfFiles(err) }
