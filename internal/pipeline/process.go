package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// command is a program that a step runs.
type command struct {
	args []string
	dir  string
	env  []string  // besides this process's own
	log  io.Writer // gets what it prints
	// line is told of what it prints, a line a second at most; nil for nobody.
	line func(string)
}

// termGrace is how long a program that was told to end may take.
const termGrace = 5 * time.Second

// do runs the program to its end. It, and what it has started, does not outlive ctx, nor this process. The error has its last
// words.
func (c *command) do(ctx context.Context) error {
	// The kernel ends the program when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tail := &lastWords{told: c.line}
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), c.env...)
	cmd.Stdout = io.MultiWriter(c.log, tail)
	cmd.Stderr = cmd.Stdout
	endGroup := inGroup(cmd)
	cmd.WaitDelay = termGrace
	err := cmd.Run()
	if cmd.Process != nil {
		endGroup()
	}
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("interrupted, and %s was ended; the next run begins it anew: %w", c.args[0], context.Cause(ctx))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if words := tail.last(); words != "" {
		return fmt.Errorf("%w: %s", err, words)
	}
	return err
}

// lastWords keeps the last line that says something.
type lastWords struct {
	told func(string)

	mu      sync.Mutex
	partial []byte
	line    string
	at      time.Time
}

const maxWords = 400

// Write implements io.Writer.
func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.partial = append(w.partial, p...)
	for {
		at := bytes.IndexAny(w.partial, "\r\n")
		if at < 0 {
			break
		}
		w.take(w.partial[:at])
		w.partial = w.partial[at+1:]
	}
	if len(w.partial) > bufio.MaxScanTokenSize {
		w.partial = w.partial[:0] // no line that anybody would read
	}
	return len(p), nil
}

func (w *lastWords) take(line []byte) {
	text := oneLine(string(line[:min(len(line), maxWords)]))
	if text == "" {
		return
	}
	w.line = strings.ToValidUTF8(text, "")
	if now := time.Now(); w.told != nil && now.Sub(w.at) >= time.Second {
		w.at = now
		w.told(w.line)
	}
}

func (w *lastWords) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(w.partial)
	w.partial = nil
	return w.line
}
