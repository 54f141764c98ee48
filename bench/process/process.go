// Package process runs the servers that benchmarks measure: programs of their own, which are stopped while others have their
// turn, and whose time and memory, with those of all their children, are told.
package process

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startPatience  = time.Minute      // for a server's first answer
	secondPatience = 10 * time.Second // for its first over another protocol
	endPatience    = 15 * time.Second // for its end, after SIGTERM
)

// Server is a program that is measured. At rest all its processes are stopped, so that what they do in the background disturbs
// nobody. Its methods are called by one goroutine at a time.
type Server struct {
	Name string
	// Version is for who launched it to fill in.
	Version string
	// Took is how long it took from its start to its first answer; 0 before.
	Took time.Duration

	command *exec.Cmd
	log     string
	started time.Time
	ended   chan struct{} // closed when the first process has ended
	once    sync.Once     // for End
}

// Launch starts a program whose log goes to a file in dir, which is its folder for temporary files, too.
func Launch(dir, name, program string, args ...string) (*Server, error) {
	s := &Server{Name: name, log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder for %s: %w", name, err)
	}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, fmt.Errorf("making a log for %s: %w", name, err)
	}
	defer log.Close()
	s.command = exec.Command(program, args...)
	s.command.Stdout, s.command.Stderr = log, log
	s.command.Env = append(os.Environ(), "TMPDIR="+dir, "PYTRITON_HOME="+dir)
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.started = time.Now()
	if err := s.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		_ = s.command.Wait() // how it ended is told by its log, and asked for by nobody who ended it
		close(s.ended)
	}()
	return s, nil
}

// PID is the number of the first process.
func (s *Server) PID() int { return s.command.Process.Pid }

// signal reaches all processes of the server.
func (s *Server) signal(sig syscall.Signal) error {
	all, err := s.processes()
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("%s has ended; %s", s.Name, s.lastWords())
	}
	for _, p := range all {
		if err := syscall.Kill(p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) { // it has just ended
			return fmt.Errorf("sending %s %v: %w", s.Name, sig, err)
		}
	}
	return nil
}

// Rest stops all processes of the server until Wake.
func (s *Server) Rest() error { return s.signal(syscall.SIGSTOP) }

// Wake has them go on.
func (s *Server) Wake() error { return s.signal(syscall.SIGCONT) }

// Answers waits for the server's first answer.
func (s *Server) Answers(ctx context.Context, ask func(context.Context) error) error {
	patience := startPatience
	if s.Took != 0 {
		patience = secondPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			return ask(ctx)
		}()
		if err == nil {
			if s.Took == 0 {
				s.Took = time.Since(s.started)
			}
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("it ended without an answer; %s", s.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("it did not answer rightly within %v: %w; %s", patience, err, s.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastWords is the end of the log.
func (s *Server) lastWords() string {
	said, err := os.ReadFile(s.log)
	if err != nil || len(bytes.TrimSpace(said)) == 0 {
		return "its log is empty"
	}
	said = bytes.TrimSpace(said)
	if i := bytes.LastIndexByte(said, '\n'); i >= 0 {
		said = said[i+1:]
	}
	return fmt.Sprintf("its log ends with %.300q", said)
}

// End ends all processes of the server, by force those that do not follow.
func (s *Server) End() { s.once.Do(s.endAll) }

func (s *Server) endAll() {
	all, err := s.processes()
	if err != nil {
		all = []process{{pid: s.command.Process.Pid}}
	}
	_ = s.signal(syscall.SIGCONT)
	_ = syscall.Kill(s.command.Process.Pid, syscall.SIGTERM) // who tells the others
	running := func(p process) bool { return syscall.Kill(p.pid, 0) == nil }
	for deadline := time.Now().Add(endPatience); slices.ContainsFunc(all, running) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	for _, p := range all {
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
	<-s.ended
}

// process is one of a server's.
type process struct {
	pid int
	cpu time.Duration // so far, of it alone
}

// processes are the server's first process and those that descend from it, and what else is in its group.
func (s *Server) processes() ([]process, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var (
		first  = s.command.Process.Pid
		all    = map[int]process{}
		parent = map[int]int{}
		ours   = map[int]bool{first: true}
	)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		// The name stands in brackets and may hold blanks. After it are the state, the parent and the group; from the 12th field on,
		// the time in the program and in the kernel.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 13 || fields[0] == "Z" {
			continue
		}
		var pid, above, group, user, system int
		for _, number := range []struct {
			text string
			into *int
		}{{filepath.Base(filepath.Dir(path)), &pid}, {fields[1], &above}, {fields[2], &group}, {fields[11], &user}, {fields[12], &system}} {
			if *number.into, err = strconv.Atoi(number.text); err != nil {
				return nil, fmt.Errorf("reading %s: %w", path, err)
			}
		}
		all[pid], parent[pid] = process{pid, time.Duration(user+system) * clockTick}, above
		if group == first {
			ours[pid] = true
		}
	}
	var found []process
	for pid, p := range all {
		for at := pid; at > 1; at = parent[at] {
			if ours[at] {
				found = append(found, p)
				break
			}
		}
	}
	return found, nil
}

// PIDs are the numbers of the server's processes.
func (s *Server) PIDs() (all []int, err error) {
	found, err := s.processes()
	for _, p := range found {
		all = append(all, p.pid)
	}
	return all, err
}

// CPU is the processor's time so far of the server's processes.
func (s *Server) CPU() (time.Duration, error) {
	all, err := s.processes()
	total := time.Duration(0)
	for _, p := range all {
		total += p.cpu
	}
	return total, err
}

// Memory is what the server's processes hold in memory, in MB, each page that several share divided among them.
func (s *Server) Memory() (float64, error) {
	all, err := s.processes()
	if err != nil {
		return 0, err
	}
	total := 0.0
	for _, p := range all {
		kb, err := proportional(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			return 0, err
		}
		total += kb * 1024 / 1e6
	}
	return total, nil
}

// clockTick is in what Linux tells times of processes (USER_HZ).
const clockTick = 10 * time.Millisecond

func proportional(path string) (kb float64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("reading a process's memory: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 3 && fields[0] == "Pss:" {
			return strconv.ParseFloat(fields[1], 64)
		}
	}
	return 0, errors.New("a process's memory is not told")
}

// Ports gives addresses that were free a moment ago: not every server can choose one itself and say which.
func Ports(n int) (addresses []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// PortOf is the port of an address.
func PortOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
