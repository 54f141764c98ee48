package suite

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"

	"github.com/picket-ml/picket/bench/counters"
	"github.com/picket-ml/picket/bench/flame"
	"github.com/picket-ml/picket/bench/report"
)

// The files in the folder for profiles: of this process, by Go; of all processes with the frames of C, as perf recorded it and as
// pprof reads it.
const (
	ownProfile = "picket.pprof"
	perfData   = "perf.data"
	perfPprof  = "perf.pprof"
)

// allProcesses is what is left out where perf does not work.
const allProcesses = "profile of all processes, with C frames"

// profile begins to write profiles; the function ends them. This process's own is written by Go. That of all processes, C frames
// included, is perf's, where there is one that works.
func (r *runner) profile() (stop func() error, err error) {
	if r.Profile == "" {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(r.Profile, 0o755); err != nil {
		return nil, fmt.Errorf("making a folder for profiles: %w", err)
	}
	f, err := os.Create(filepath.Join(r.Profile, ownProfile))
	if err != nil {
		return nil, fmt.Errorf("making a profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the profile: %w", err), f.Close())
	}
	perf, why := startPerf(r.Profile)
	if why != nil {
		r.leave(report.LeftOut{Model: "all", Engine: allProcesses, Why: why.Error()})
	}
	return func() error {
		pprof.StopCPUProfile()
		err := f.Close()
		if perf == nil {
			return err
		}
		if why := perf.stop(); why != nil { // which is no reason to lose what was measured
			r.leave(report.LeftOut{Model: "all", Engine: allProcesses, Why: why.Error()})
		}
		return err
	}, nil
}

// perf is perf that records what all processors do.
type perf struct {
	*exec.Cmd
	program, dir string
}

// startPerf has perf record into dir until it is stopped. The error says in one sentence why it cannot.
func startPerf(dir string) (*perf, error) {
	program, err := exec.LookPath("perf")
	if err != nil {
		return nil, errors.New("perf is not installed (Debian's package is linux-perf)")
	}
	// A clock, and not the processor's cycles, which most virtual machines do not count. Frame pointers, which Go code has and C code
	// on the way to it; 99 times a second, as an even hundred would fall into step with timers.
	arguments := []string{"record", "-q", "-a", "-g", "-e", flame.Event, "-F", "99", "-o", filepath.Join(dir, perfData)}
	if said, err := exec.Command(program, append(slices.Clone(arguments), "--", "true")...).CombinedOutput(); err != nil {
		return nil, refusal(string(said), err)
	}
	p := &perf{exec.Command(program, arguments...), program, dir}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("starting perf: %w", err)
	}
	return p, nil
}

// refusal makes a sentence of the paragraphs that perf says when it cannot record.
func refusal(said string, err error) error {
	if strings.Contains(said, "perf_event_paranoid") {
		return fmt.Errorf("perf may not watch all processors for this user (kernel.perf_event_paranoid is %s); run as root, or set it to 0", counters.Paranoid())
	}
	for line := range strings.Lines(said) {
		if line = strings.TrimSuffix(strings.TrimSpace(line), "."); line != "" && line != "Error:" {
			return fmt.Errorf("perf does not work here: %.200s", line)
		}
	}
	return fmt.Errorf("perf does not work here: %w", err)
}

// stop ends the recording and makes a profile for pprof of it.
func (p *perf) stop() error {
	_ = p.Process.Signal(syscall.SIGINT) // which it ends by with what it has
	var ended *exec.ExitError
	if err := p.Wait(); err != nil && !errors.As(err, &ended) {
		return fmt.Errorf("ending perf: %w", err)
	}
	// Inlined functions would be looked up by another program, for each address anew.
	script := exec.Command(p.program, "script", "--no-inline", "-F", flame.Fields, "-i", filepath.Join(p.dir, perfData))
	printed, err := script.StdoutPipe()
	if err == nil {
		err = script.Start()
	}
	if err != nil {
		return fmt.Errorf("having perf print what it recorded: %w", err)
	}
	made, err := flame.Read(printed)
	if err != nil {
		_, _ = io.Copy(io.Discard, printed) // for it to end
		return errors.Join(err, script.Wait())
	}
	if err := script.Wait(); err != nil {
		return fmt.Errorf("having perf print what it recorded: %w", err)
	}
	f, err := os.Create(filepath.Join(p.dir, perfPprof))
	if err != nil {
		return fmt.Errorf("making a profile: %w", err)
	}
	if err := errors.Join(made.Write(f), f.Close()); err != nil {
		return fmt.Errorf("writing a profile: %w", err)
	}
	return nil
}
