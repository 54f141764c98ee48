package versus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/picket-ml/picket/bench/models"
	"github.com/picket-ml/picket/bench/program"
	"github.com/picket-ml/picket/bench/report"
	"github.com/picket-ml/picket/internal/testkit"
)

// Benchmark measures one of picketd's protocols against an empty server, both as
// processes of their own on Unix sockets.
type Benchmark struct {
	// Protocol names picketd's socket, without .sock, and the program in its errors.
	Protocol string
	// Models gives what picketd serves.
	Models func(ctx context.Context) ([]models.Model, error)
	// Empty serves the protocol on socket, with answers that take no work, until ctx
	// ends.
	Empty func(ctx context.Context, socket string) error
	// Measure compares the empty server, on the first socket, with picketd, on the
	// second, and adds what the results come to to out. Either may still be starting.
	Measure func(ctx context.Context, served []models.Model, sockets [2]string, out *report.Report) ([]report.Serving, error)
}

// emptyServer as the first argument makes the program the empty server, on the
// socket that the second names.
const emptyServer = "empty-server"

// Main is the whole program: it builds picketd, starts both servers, measures, and
// writes the report.
func (b Benchmark) Main() { program.Main("bench-"+b.Protocol, b.run) }

func (b Benchmark) run(ctx context.Context) (err error) {
	if len(os.Args) == 3 && os.Args[1] == emptyServer {
		return b.Empty(ctx, os.Args[2])
	}
	dir, err := os.MkdirTemp("", "picket-bench-*")
	if err != nil {
		return fmt.Errorf("making a folder for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	served, err := b.Models(ctx)
	if err != nil {
		return err
	}

	picketd, err := BuildDaemon(ctx, dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	sockets := [2]string{filepath.Join(dir, "empty.sock"), filepath.Join(dir, b.Protocol+".sock")}
	empty, err := Start(ctx, dir, self, emptyServer, sockets[0])
	if err != nil {
		return err
	}
	defer empty.Stop()
	arguments := []string{"--sockets", dir, "--unsigned"}
	for _, m := range served {
		arguments = append(arguments, "--model", m.Name+"="+m.Dir)
	}
	daemon, err := Start(ctx, dir, picketd, arguments...)
	if err != nil {
		return err
	}
	defer daemon.Stop()

	out := report.New()
	results, err := b.Measure(ctx, served, sockets, out)
	if err != nil {
		return err
	}
	out.Results = results
	return out.Write()
}

// BuildDaemon builds picketd into dir and gives its path.
func BuildDaemon(ctx context.Context, dir string) (string, error) {
	picketd := filepath.Join(dir, "picketd")
	build := exec.CommandContext(ctx, "go", "build", "-o", picketd, "./cmd/picketd")
	build.Dir, build.Stderr = testkit.ModuleRoot(), os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building picketd: %w", err)
	}
	return picketd, nil
}

// Process is a server that is being measured.
type Process struct {
	cmd *exec.Cmd
	log string
}

// Start runs a program until Stop is called. Its log goes to a file in dir, shown
// if it ends badly.
func Start(ctx context.Context, dir, program string, args ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(program), err)
	}
	return &Process{cmd, log.Name()}, nil
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stop has the process end by SIGTERM and waits for it.
func (p *Process) Stop() {
	if err := errors.Join(p.cmd.Process.Signal(syscall.SIGTERM), p.cmd.Wait()); err != nil {
		said, _ := os.ReadFile(p.log)
		fmt.Fprintf(os.Stderr, "%s: %v\n%s", filepath.Base(p.cmd.Path), err, said)
	}
}
