package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/engine"
)

// The running daemon, the old process, starts the new one with its listening sockets,
// the locks of their files, and one end of a pair of sockets, over which both speak in
// lines of JSON:
//
//	old  handover: the sockets and the models
//	new  verdict: it serves them, or why it cannot
//	old  handover again, if the models have changed meanwhile; verdict again; ...
//	old  handover with Go set
//
// Until then the old process is the daemon: should the new one fail, it has changed
// nothing. From then on the new one is, and the old one answers what it has accepted and
// ends. Should the old process vanish, the new one takes that for the last word. Both
// accept clients for a while: they wait in the queue of a socket that is the same one.

// envHandover has the number of the descriptor of a new process's end.
const envHandover = "PICKET_HANDOVER"

// maxHandover bounds what one side says in all.
const maxHandover = 16 << 20

// handover is what the old process has.
type handover struct {
	Sockets []handedSocket `json:"sockets,omitempty"` // the first time
	Models  []handedModel  `json:"models,omitempty"`
	Go      bool           `json:"go,omitempty"`
}

// handedSocket is a listening socket among the descriptors.
type handedSocket struct {
	Key     string `json:"key"`
	Address string `json:"address"`
	Managed bool   `json:"managed,omitempty"`
	Socket  int    `json:"socket"` // the number of its descriptor in the new process
	Lock    int    `json:"lock,omitempty"`
	Made    fileID `json:"made"`
}

// handedModel is a model that is served.
type handedModel struct {
	Name       string              `json:"name"`
	URL        string              `json:"url"`
	Generation uint64              `json:"generation"`
	Declared   bool                `json:"declared,omitempty"`
	Options    engine.ModelOptions `json:"options"`
}

// verdict is what the new process answers.
type verdict struct {
	Error string `json:"error,omitempty"` // why it cannot serve
}

// ownExecutable is where a new process is started from: the path that this one was
// started by, links in it included, so that whoever installs a new version there has it
// started.
func ownExecutable() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if named, err := exec.LookPath(os.Args[0]); err == nil && sameFile(named, self) {
		return filepath.Abs(named)
	}
	return self, nil
}

// sameFile tells whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, errOne := os.Stat(a)
	other, errOther := os.Stat(b)
	return errors.Join(errOne, errOther) == nil && os.SameFile(one, other)
}

// successor is a new process as the old one sees it.
type successor struct {
	cmd    *exec.Cmd
	wire   *wire
	exited chan struct{} // closed when it has
}

// wire is one end of the pair.
type wire struct {
	conn net.Conn
	in   *json.Decoder
}

func newWire(c net.Conn) *wire {
	return &wire{c, json.NewDecoder(io.LimitReader(c, maxHandover))}
}

func (w *wire) send(v any) error { return json.NewEncoder(w.conn).Encode(v) }

// restart starts a new process and waits until it serves, at most until ctx ends. After
// an error the new process is gone, and nothing has changed. The caller tells the
// successor to take over, or ends it.
func (d *daemon) restart(ctx context.Context) (_ *successor, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("making a pair of sockets: %w", err)
	}
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	s := &successor{wire: newWire(conn), exited: make(chan struct{})}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	files := []*os.File{theirs}
	defer func() {
		for _, f := range files[1:] {
			_ = f.Close()
		}
	}()
	first := handover{}
	if first.Sockets, err = d.shareSockets(&files); err != nil {
		return nil, err
	}
	s.cmd = &exec.Cmd{
		Path: d.executable, Args: os.Args, Env: successorEnv(os.Environ()), ExtraFiles: files,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	if err := d.withAllCores(s.cmd.Start); err != nil {
		s.cmd = nil
		return nil, fmt.Errorf("starting %s: %w", d.executable, err)
	}
	_ = theirs.Close() // so that its end is seen
	go func() {
		_ = s.cmd.Wait() // how it has ended is in ProcessState
		close(s.exited)
	}()
	d.log.Info("a new process was started", "pid", s.cmd.Process.Pid, "executable", d.executable)

	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for message := first; ; message = (handover{}) {
		message.Models = d.handedModels()
		if err := s.ask(ctx, message); err != nil {
			return nil, err
		}
		same := func(a, b handedModel) bool { return a.Name == b.Name && a.Generation == b.Generation }
		if slices.EqualFunc(message.Models, d.handedModels(), same) {
			return s, nil
		}
	}
}

// first descriptor of exec.Cmd.ExtraFiles.
const firstExtra = 3

// shareSockets appends duplicates of the listening sockets, and their locks, to files.
// Files that were appended are the caller's to close, after an error too.
func (d *daemon) shareSockets(files *[]*os.File) (all []handedSocket, err error) {
	share := func(from syscall.Conn) (int, error) {
		f, err := duplicate(from)
		if err != nil {
			return 0, err
		}
		*files = append(*files, f)
		return firstExtra + len(*files) - 1, nil
	}
	for _, l := range d.listening {
		one := handedSocket{Key: l.door.key, Address: l.configured, Managed: l.managed}
		if one.Socket, err = share(l.listener); err != nil {
			return nil, fmt.Errorf("sharing the socket %s: %w", l.address, err)
		}
		if l.socket != nil {
			if one.Lock, err = share(l.socket.lock); err != nil {
				return nil, fmt.Errorf("sharing the lock of the socket %s: %w", l.address, err)
			}
			one.Made = l.socket.identity()
		}
		all = append(all, one)
	}
	return all, nil
}

// successorEnv is the environment of a new process.
func successorEnv(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		// The watchdog would be for the old process alone.
		return strings.HasPrefix(v, "WATCHDOG_PID=") || strings.HasPrefix(v, envHandover+"=")
	})
	return append(env, envHandover+"="+strconv.Itoa(firstExtra))
}

// handedModels are the models that are served.
func (d *daemon) handedModels() (all []handedModel) {
	for _, m := range d.engine.List() {
		is, _ := d.declared.has(m.Name)
		all = append(all, handedModel{Name: m.Name, URL: m.URL, Generation: m.Generation, Declared: is, Options: m.Options})
	}
	return all
}

// ask sends a message and waits for the verdict.
func (s *successor) ask(ctx context.Context, message handover) error {
	var v verdict
	err := s.wire.send(message)
	if err == nil {
		err = s.wire.in.Decode(&v)
	}
	switch {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return errors.New("it was not ready within restart.timeout")
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil && v.Error == "":
		return nil
	case err == nil:
		return errors.New(v.Error)
	}
	select {
	case <-s.exited:
		return fmt.Errorf("it ended before it was ready (%s); what it wrote is in the log", s.cmd.ProcessState)
	case <-time.After(time.Second):
		return fmt.Errorf("it could not be asked: %w", err)
	}
}

// takeOver makes the new process the daemon.
func (s *successor) takeOver() error { return s.wire.send(handover{Go: true}) }

// end ends a process that is not to take over. It changes nothing then.
func (s *successor) end() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill() // one that has ended does not mind
		<-s.exited
	}
	_ = s.wire.conn.Close()
}

// predecessor is the old process as the new one sees it.
type predecessor struct {
	wire *wire
	// mirrored are the generations, the old process's, of the models that clients had
	// loaded there and that are loaded here too.
	mirrored map[string]uint64
	models   []handedModel // that it served at first
}

// findPredecessor is the process that has started this one to take its place, and what
// it has handed over; nil if there is none.
func findPredecessor() (*predecessor, []*inherited, error) {
	text := os.Getenv(envHandover)
	if text == "" {
		return nil, nil, nil
	}
	_ = os.Unsetenv(envHandover)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < firstExtra {
		return nil, nil, fmt.Errorf("%s is %q, it is for picketd itself to set", envHandover, text)
	}
	f := os.NewFile(uintptr(fd), "handover")
	closeOnExec(fd)
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("taking over from the running daemon: %w", err)
	}
	p := &predecessor{wire: newWire(conn), mirrored: map[string]uint64{}}
	var first handover
	if err := p.wire.in.Decode(&first); err != nil {
		return nil, nil, fmt.Errorf("taking over from the running daemon: %w", err)
	}
	p.models = first.Models
	var all []*inherited
	for _, s := range first.Sockets {
		d := doorOf(s.Key)
		if d == nil {
			return nil, nil, fmt.Errorf("taking over from the running daemon: it has a socket for %q, which this version does not know", s.Key)
		}
		closeOnExec(s.Socket)
		i := &inherited{door: d, address: s.Address, managed: s.Managed, made: s.Made, file: os.NewFile(uintptr(s.Socket), s.Address)}
		if s.Lock != 0 {
			closeOnExec(s.Lock)
			i.lock = os.NewFile(uintptr(s.Lock), lockPath(s.Address))
		}
		all = append(all, i)
	}
	return p, all, nil
}

// fail tells the old process why this one cannot take its place.
func (p *predecessor) fail(why error) {
	_ = p.wire.send(verdict{Error: why.Error()}) // if it is gone, nobody wants to know
	_ = p.wire.conn.Close()
}

// follow loads what the old process serves, says so, and keeps up with it until it says
// that this process is the daemon, or is gone.
func (p *predecessor) follow(ctx context.Context, d *daemon) error {
	stop := context.AfterFunc(ctx, func() { _ = p.wire.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	for message := (handover{Models: p.models}); !message.Go; {
		if err := p.mirror(ctx, d, message.Models); err != nil {
			return err
		}
		if err := p.wire.send(verdict{}); err != nil {
			break
		}
		message = handover{}
		if err := p.wire.in.Decode(&message); ctx.Err() != nil {
			return ctx.Err()
		} else if err != nil {
			d.log.Warn("the old process ended without a word: taking over", "error", err)
			break
		}
	}
	return p.wire.conn.Close()
}

// mirror loads the models that clients had the old process load, and fails for one that
// the old process serves and this one cannot.
func (p *predecessor) mirror(ctx context.Context, d *daemon, models []handedModel) error {
	there := map[string]bool{}
	for _, m := range models {
		there[m.Name] = true
		if declared, err := d.declared.has(m.Name); err != nil {
			return fmt.Errorf("model %q is served and could not be loaded again: %w", m.Name, err)
		} else if declared {
			continue
		}
		if m.Declared || p.mirrored[m.Name] == m.Generation || isFleets(d.config.Load(), m.URL) {
			continue // the configuration names it no more, it is loaded already, or the fleet knows what should be
		}
		if _, err := d.engine.Replace(ctx, m.Name, m.URL, m.Options); err != nil {
			return fmt.Errorf("a client's model is served and could not be loaded again, unload it first if it may go: %w", err)
		}
		p.mirrored[m.Name] = m.Generation
	}
	for name := range p.mirrored {
		if !there[name] {
			delete(p.mirrored, name)
			if err := d.engine.Unload(ctx, name); err != nil && !errors.Is(err, engine.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}
