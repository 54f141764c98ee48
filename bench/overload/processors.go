package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/picket-ml/picket/bench/versus"
)

// processors is how many of the machine's processors each had.
type processors struct {
	Server float64 `json:"server"`
	Load   float64 `json:"load"`   // this process
	Others float64 `json:"others"` // programs, and other guests of the hypervisor's
	Idle   float64 `json:"idle"`
}

// String is what the server did not have.
func (p processors) String() string {
	return fmt.Sprintf("load %.2f, others %.2f, idle %.2f", p.Load, p.Others, p.Idle)
}

// enough is which part of what the server had in the capacity's run was there for it, at most 1: what it had and what nobody did.
// What it takes to refuse is not subtracted: that is the server's own work.
func (p processors) enough(inCapacity processors) float64 {
	return min(1, (p.Server+p.Idle)/max(inCapacity.Server, 0.01))
}

// moment is what was taken until then.
type moment struct {
	at                time.Time
	server, load      time.Duration
	everybody, nobody time.Duration
}

// since divides what was taken between two moments.
func (m moment) since(from moment) processors {
	took := m.at.Sub(from.at).Seconds()
	p := processors{
		Server: (m.server - from.server).Seconds() / took, Load: (m.load - from.load).Seconds() / took,
		Idle: (m.nobody - from.nobody).Seconds() / took,
	}
	p.Others = max(0, (m.everybody-from.everybody).Seconds()/took-p.Server-p.Load-p.Idle)
	return p
}

// look says what was taken until now.
func look(server *versus.Process) (m moment, err error) {
	m.at = time.Now()
	if m.server, err = server.CPU(); err != nil {
		return m, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return m, fmt.Errorf("asking what this program took: %w", err)
	}
	m.load = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	f, err := os.Open("/proc/stat")
	if err != nil {
		return m, fmt.Errorf("asking what all programs took: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil {
		return m, fmt.Errorf("asking what all programs took: %w", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 9 {
		return m, fmt.Errorf("asking what all programs took: /proc/stat begins with %q", line)
	}
	// In hundredths of a second: in programs, in those that are nice, in the kernel, idle, waiting for disks, in interrupts of two
	// kinds, and taken by the hypervisor. Guests of this machine's own are in the first.
	for i, field := range fields[1:9] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return m, fmt.Errorf("asking what all programs took: %w", err)
		}
		took := time.Duration(n) * 10 * time.Millisecond
		m.everybody += took
		if i == 3 || i == 4 {
			m.nobody += took
		}
	}
	return m, nil
}

// during looks when an overload begins and when it ends, both counted from now. What it returns waits for that, and divides.
func during(server *versus.Process, begin, end time.Duration) func() (processors, error) {
	var moments [2]moment
	var errs [2]error
	done := make(chan struct{})
	start := time.Now()
	go func() {
		defer close(done)
		for i, at := range [...]time.Duration{begin, end} {
			time.Sleep(time.Until(start.Add(at)))
			moments[i], errs[i] = look(server)
		}
	}()
	return func() (processors, error) {
		<-done
		return moments[1].since(moments[0]), errors.Join(errs[:]...)
	}
}
