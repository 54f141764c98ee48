package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/internal/hw"
)

// apart is how the processors are divided where the model has one of its own.
type apart struct {
	model  int   // its processor
	others []int // those of everything else
}

// divide gives the last of the processors that this program may use to the model.
func divide() (a apart, err error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return a, fmt.Errorf("asking which CPUs this program may use: %w", err)
	}
	var all []int
	for cpu := 0; len(all) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	if len(all) < 2 {
		return a, errors.New("-apart takes two processors")
	}
	return apart{model: all[len(all)-1], others: all[:len(all)-1]}, nil
}

// setting is what the model is configured with.
func (a apart) setting() string { return fmt.Sprintf(", cores: %q", strconv.Itoa(a.model)) }

// clear keeps the threads of a process from the model's processor, but for those that are bound to it: the model's. Threads that the
// process makes later are where the one is that makes them, so that it is done when there is none left to move.
func (a apart) clear(pid int) error {
	var others unix.CPUSet
	for _, cpu := range a.others {
		others.Set(cpu)
	}
	for range 100 {
		moved, err := a.move(pid, &others)
		if err != nil || !moved {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("process %d keeps making threads on all CPUs", pid)
}

// move is one pass of clear, and reports whether there was a thread to move.
func (a apart) move(pid int, others *unix.CPUSet) (moved bool, err error) {
	threads, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
	if err != nil {
		return false, fmt.Errorf("asking which threads there are: %w", err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			return false, fmt.Errorf("asking which threads there are: %w", err)
		}
		var now unix.CPUSet
		err = unix.SchedGetaffinity(tid, &now)
		if err == nil {
			if models := now.Count() == 1 && now.IsSet(a.model); models || now == *others {
				continue
			}
			moved = true
			err = unix.SchedSetaffinity(tid, others)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) { // it may have ended
			return false, fmt.Errorf("keeping a thread to the CPUs %s: %w", hw.FormatCPUs(a.others), err)
		}
	}
	return moved, nil
}
