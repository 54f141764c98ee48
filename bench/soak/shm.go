package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// sharedMemory is the part: clients of each kind are killed in the middle of what they do, and hostile ones name memory that is none.
func sharedMemory(ctx context.Context, s *soak) error {
	fraud, err := s.fraudFolder()
	if err != nil {
		return err
	}
	d, err := s.start(ctx, "shm", fmt.Sprintf("models: [{name: fraud, path: %q}]\n", fraud))
	if err != nil {
		return err
	}
	defer s.out.checkEnd(d)
	if err := s.hostileMemory(ctx, d); err != nil {
		return err
	}
	for _, v := range victims {
		if err := s.killVictims(ctx, d, v.kind); err != nil {
			return fmt.Errorf("killing clients of kind %s: %w", v.kind, err)
		}
	}
	return nil
}

// victimsAtOnce is how many clients of a kind live at a time.
const victimsAtOnce = 4

// killVictims starts clients of the kind and kills each at a moment of chance: half of them before or while they connect and share their memory, half
// while the daemon works for them.
func (s *soak) killVictims(ctx context.Context, d *daemon, kind string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	// One that comes to its end takes what a daemon takes once.
	if err := exec.CommandContext(ctx, self, victimArgument, kind, d.dir, "1").Run(); err != nil {
		return fmt.Errorf("one that is not killed: %w", err)
	}
	before, err := d.settles(ctx, usage{}, time.Second)
	if err != nil {
		return err
	}
	rounds := make(chan uint64)
	var mu sync.Mutex
	working := 0
	failures := make([]error, victimsAtOnce)
	var ended sync.WaitGroup
	for i := range victimsAtOnce {
		ended.Go(func() {
			for seed := range rounds {
				answered, err := killOne(ctx, self, kind, d.dir, rand.New(rand.NewPCG(seed, 2)))
				mu.Lock()
				if answered {
					working++
				}
				mu.Unlock()
				failures[i] = errors.Join(failures[i], err)
			}
		})
	}
	began := time.Now()
	for n := 0; n < s.rounds && ctx.Err() == nil && d.runs(); n++ {
		rounds <- s.random.Uint64()
	}
	close(rounds)
	ended.Wait()
	took := time.Since(began)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	s.out.check(d.runs(), kind+": the daemon outlives its clients", "%d were killed in %.0f s, %d of them while it worked for them", s.rounds, took.Seconds(), working)
	if !d.runs() {
		return errors.New(d.said())
	}
	s.out.check(working >= s.rounds/4, kind+": clients die in the middle", "%d of %d were killed while the daemon worked for them", working, s.rounds)
	after, err := d.settles(ctx, before, time.Second)
	if err != nil {
		return err
	}
	s.out.check(after.shared == 0, kind+": no mapping of theirs is left after a second", "%d are", after.shared)
	s.out.checkReturned(before, after)
	return nil
}

// killOne starts a client, kills it, and removes what it left behind. It tells whether the daemon had answered the client before.
func killOne(ctx context.Context, self, kind, dir string, random *rand.Rand) (answered bool, err error) {
	cmd := exec.CommandContext(ctx, self, victimArgument, kind, dir, "0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, fmt.Errorf("starting a client: %w", err)
	}
	pid := cmd.Process.Pid
	if random.IntN(2) == 0 {
		// It writes a byte with its first answer, and asks on until it is killed.
		if _, err = bufio.NewReader(out).ReadByte(); err != nil {
			err = fmt.Errorf("a client ended by itself: %w", err)
		}
		answered = err == nil
		time.Sleep(time.Duration(random.IntN(5000)) * time.Microsecond)
	} else {
		time.Sleep(time.Duration(random.IntN(25_000)) * time.Microsecond)
	}
	_ = cmd.Process.Kill() // of one that has ended by itself
	_ = cmd.Wait()         // it was killed
	return answered, errors.Join(err, tidyUp(pid))
}

// objectPrefix begins the names of POSIX objects that a process of this program makes.
func objectPrefix(pid int) string { return fmt.Sprintf("picket-soak-%d-", pid) }

const objectDir = "/dev/shm"

// tidyUp removes the shared memory that a client made and can no longer remove itself.
func tidyUp(pid int) error {
	objects, err := filepath.Glob(filepath.Join(objectDir, objectPrefix(pid)+"*"))
	if err != nil {
		return err
	}
	for _, path := range objects {
		err = errors.Join(err, os.RemoveAll(path))
	}
	segments, readErr := os.ReadFile("/proc/sysvipc/shm")
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	for line := range strings.Lines(string(segments)) {
		// key, id, mode, size, pid of the creator, ...
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[4] != strconv.Itoa(pid) {
			continue
		}
		id, convErr := strconv.Atoi(fields[1])
		if convErr == nil {
			_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // one that is marked already may go at any time
		}
	}
	return err
}
