package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/picket-ml/picket/internal/config"
	"github.com/picket-ml/picket/internal/testkit"
)

// lines counts those with all of the texts.
func lines(log *testkit.Output, texts ...string) int {
	n := 0
next:
	for line := range strings.Lines(log.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		n++
	}
	return n
}

// A flood of one kind is cut and counted, exactly, and hides nothing else.
func TestFloodOfLines(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		synctest.Test(t, func(t *testing.T) {
			var to testkit.Output
			log, settings := newLogger(config.Log{Level: slog.LevelDebug, Format: format}, &to)
			const n = 15_000
			for i := range n {
				log.Info("a client asks for a model to be loaded", "model", fmt.Sprint("m", i), slog.Group("caller", "uid", 1000, "pid", i))
				log.Debug("a detail")
			}
			log.Info("a client asks for a model to be loaded", "model", "other", slog.Group("caller", "uid", 1001, "pid", 7))
			log.Info("something else")
			for i := range 300 {
				log.Error("a call failed", "error", errors.New("the first reason"), "model", i)
			}
			log.Error("a call failed", "error", errors.New("another reason"))
			if got := lines(&to, "asks for a model", "1000"); got != lineBurst {
				t.Errorf("%d lines of the flood, want %d", got, lineBurst)
			}
			for _, want := range []struct {
				n     int
				texts []string
			}{{1, []string{"asks for a model", "1001"}}, {1, []string{"something else"}}, {1, []string{"another reason"}}, {lineBurst, []string{"the first reason"}}, {n, []string{"a detail"}}} {
				if got := lines(&to, want.texts...); got != want.n {
					t.Errorf("%d lines with %q, want %d", got, want.texts, want.n)
				}
			}
			to.Reset()
			time.Sleep(countEvery + time.Second)
			synctest.Wait()
			if lines(&to, "left out", fmt.Sprint(n-lineBurst), "1000") != 1 || lines(&to, "left out", "100", "the first reason") != 1 || lines(&to) != 2 {
				t.Errorf("after a while it says\n%s", &to)
			}
			to.Reset()
			for range 2 * linesPerSecond * int(countEvery/time.Second) {
				log.Info("a client asks for a model to be loaded", slog.Group("caller", "uid", 1000, "pid", 1))
			}
			written := lines(&to, "asks for")
			if low := linesPerSecond * int(countEvery/time.Second); written < low || written > low+linesPerSecond+1 {
				t.Errorf("%d lines were written after %v", written, countEvery+time.Second)
			}
			settings.end()
			if lines(&to, "left out", fmt.Sprint(2*linesPerSecond*int(countEvery/time.Second)-written)) != 1 {
				t.Errorf("in the end it says\n%s", &to)
			}
		})
	}
}

// However many kinds clients make, the memory for them is bounded.
func TestManyKindsOfLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var to testkit.Output
		log, settings := newLogger(config.Log{Level: slog.LevelInfo, Format: "text"}, &to)
		defer settings.end()
		for i := range 10 * maxKinds {
			log.With("a", 1).WithGroup("g").Warn("refused", "error", fmt.Sprint("reason ", i))
		}
		kept := func() int {
			kinds := log.Handler().(*sparing).kinds
			kinds.mu.Lock()
			defer kinds.mu.Unlock()
			return len(kinds.of)
		}
		if n := kept(); n > maxKinds+1 {
			t.Errorf("%d kinds are kept", n)
		}
		if got := lines(&to, "a=1", "g.error="); got < maxKinds || got > maxKinds+lineBurst {
			t.Errorf("%d lines were written", got)
		}
		time.Sleep(time.Hour)
		log.Warn("one more")
		if n := kept(); n > maxKinds+1 || lines(&to, "one more") != 1 {
			t.Errorf("%d kinds are kept after an hour", n)
		}
	})
}
