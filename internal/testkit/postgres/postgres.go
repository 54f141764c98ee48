// Package postgres starts a real PostgreSQL for tests: Debian's, in a folder of its own, on a Unix socket only.
package postgres

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Server is a running PostgreSQL.
type Server struct {
	dir, bin   string
	credential *syscall.Credential // of the user postgres where we are root, as whom it refuses to run
	process    *exec.Cmd
	ended      chan struct{}
	names      atomic.Int64
}

const (
	startWithin = 60 * time.Second
	stopWithin  = 30 * time.Second
)

// Start starts a server and stops it when the test ends. Commits are durable, as they are by default. Settings are more lines of postgresql.conf.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "pg") // short, because of the socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s, err := StartIn(dir, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// StartIn starts a server with its files in dir, an empty folder or one of an earlier server. The caller stops it.
func StartIn(dir string, settings ...string) (*Server, error) {
	s := &Server{dir: dir}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return nil, fmt.Errorf("starting PostgreSQL: it is not on this machine; scripts/bootstrap.sh installs it")
	}
	s.bin = filepath.Dir(found[len(found)-1])
	if os.Geteuid() == 0 {
		if err := s.asPostgres(); err != nil {
			return nil, fmt.Errorf("starting PostgreSQL: %w", err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "PG_VERSION")); err != nil {
		out, err := s.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("making a cluster of PostgreSQL: %w: %s", err, out)
		}
	}
	return s, s.start(settings)
}

// asPostgres gives the folder to the user postgres.
func (s *Server) asPostgres() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	s.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, uid, gid)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	// A group of its own keeps a terminal's Ctrl-C away.
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.credential, Setpgid: true}
	return c
}

func (s *Server) start(settings []string) error {
	args := []string{"-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=60"}
	for _, one := range settings {
		args = append(args, "-c", one)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer log.Close()
	s.process, s.ended = s.command("postgres", args...), make(chan struct{})
	s.process.Stdout, s.process.Stderr = log, log
	if err := s.process.Start(); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	go func() {
		_ = s.process.Wait() // how it ended is in its log
		close(s.ended)
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	for {
		if s.command("pg_isready", "-q", "-h", s.dir, "-U", "postgres").Run() == nil {
			return nil
		}
		select {
		case <-s.ended:
			return s.failed("it ended at once")
		case <-ctx.Done():
			return s.failed("it does not answer")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) failed(why string) error {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log")) // without it the sentence is shorter
	return fmt.Errorf("starting PostgreSQL: %s: %s", why, text[max(0, len(text)-1000):])
}

// PID is the server's process.
func (s *Server) PID() int { return s.process.Process.Pid }

// DSN is how to connect to a database of the server.
func (s *Server) DSN(database string) string {
	return fmt.Sprintf("host=%s user=postgres dbname=%s sslmode=disable", s.dir, database)
}

// NewDatabase makes an empty database and gives its DSN.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	dsn, err := s.Create(fmt.Sprintf("test%d", s.names.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// Create makes an empty database of a name and gives its DSN.
func (s *Server) Create(name string) (string, error) {
	if out, err := s.command("createdb", "-h", s.dir, "-U", "postgres", name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("making the database %s: %w: %s", name, err, out)
	}
	return s.DSN(name), nil
}

// Kill ends the server as kill -9 does, and starts it again.
func (s *Server) Kill(settings ...string) error {
	_ = s.process.Process.Kill() // it may have ended
	<-s.ended
	// Its children see that they are alone and end; until then their memory keeps another server from starting.
	for deadline := time.Now().Add(startWithin); ; time.Sleep(50 * time.Millisecond) {
		err := s.start(settings)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Stop ends the server.
func (s *Server) Stop() error {
	select {
	case <-s.ended:
		return nil
	default:
	}
	if err := s.process.Process.Signal(syscall.SIGINT); err != nil { // fast: connections are closed
		return fmt.Errorf("stopping PostgreSQL: %w", err)
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(stopWithin):
		_ = s.process.Process.Kill()
		<-s.ended
		return fmt.Errorf("stopping PostgreSQL: it went on for %v and was killed", stopWithin)
	}
}
