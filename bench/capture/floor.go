package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/picket-ml/picket/bench/versus"
	"github.com/picket-ml/picket/internal/streamcopy"
)

// floor keeps as many bytes for a row as a daemon that captures all of them, in the same pieces, with nothing around: it copies them and
// makes their checksum, past the processor's caches where the daemon does, and writes them past the page cache, each time with a sync, to
// files that give way to the next.
type floor struct {
	dir   string
	rows  []byte // of one run: inputs and answers
	room  []byte
	used  int
	sum   uint32
	file  *os.File
	size  int64
	files []string
	count int
}

// As the daemon does it: a write has a batch, a file a segment or more, and the disk no more than the quota.
const (
	runRows     = 64
	batchBytes  = 4 << 20
	fileBytes   = 8 << 20
	filesKept   = 16
	answerBytes = 4
	floorName   = "copying, checksum and writing alone"
)

func newFloor(dir string, rowBytes int) (*floor, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	room, err := unix.Mmap(-1, 0, batchBytes+2<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("mapping memory: %w", err)
	}
	_ = unix.Madvise(room, unix.MADV_HUGEPAGE) // small pages do, where that fails
	return &floor{dir: dir, room: room, rows: make([]byte, runRows*(rowBytes+answerBytes))}, nil
}

// turn is one turn.
func (f *floor) turn(ctx context.Context, long time.Duration) (t turn, err error) {
	before, err := versus.CPU(os.Getpid())
	if err != nil {
		return t, err
	}
	start := time.Now()
	for time.Since(start) < long && ctx.Err() == nil {
		for range 16 {
			f.sum = streamcopy.Copy(f.room[f.used:], f.rows, f.sum)
			f.used += len(f.rows)
			t.Requests += runRows
			if f.used >= batchBytes {
				if err := f.write(); err != nil {
					return t, err
				}
			}
		}
	}
	t.Took = time.Since(start)
	after, err := versus.CPU(os.Getpid())
	t.Clients = after - before
	return t, err
}

func (f *floor) write() (err error) {
	const page = 4096
	if f.file == nil {
		f.count++
		name := filepath.Join(f.dir, fmt.Sprint(f.count))
		if f.file, err = os.OpenFile(name, os.O_CREATE|os.O_WRONLY|unix.O_DIRECT, 0o600); err != nil {
			return fmt.Errorf("making a file: %w", err)
		}
		f.size = 0
		if f.files = append(f.files, name); len(f.files) > filesKept {
			if err := os.Remove(f.files[0]); err != nil {
				return fmt.Errorf("removing a file: %w", err)
			}
			f.files = f.files[1:]
		}
	}
	n := f.used / page * page
	if _, err := f.file.WriteAt(f.room[:n], f.size); err != nil {
		return fmt.Errorf("writing a file: %w", err)
	}
	if err := unix.Fdatasync(int(f.file.Fd())); err != nil {
		return fmt.Errorf("syncing a file: %w", err)
	}
	f.size += int64(n)
	f.used = copy(f.room, f.room[n:f.used])
	if f.size >= fileBytes {
		err = f.file.Close()
		f.file = nil
	}
	return err
}

func (f *floor) close() error {
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	return errors.Join(err, unix.Munmap(f.room))
}
