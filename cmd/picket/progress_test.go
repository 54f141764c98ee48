package main

import (
	"strings"
	"testing"
)

func TestProgressInALog(t *testing.T) {
	var text strings.Builder
	p := newProgress(&text, "xterm")
	for i := range 1000 {
		p.step(i+1, 1000, "a step")
	}
	p.end()
	if n := strings.Count(text.String(), "\n"); n != 10 || strings.Contains(text.String(), "\r") || !strings.HasSuffix(text.String(), "100%  a step\n") {
		t.Errorf("%d lines: %q", n, text.String())
	}
}

func TestProgressOnATerminal(t *testing.T) {
	var text strings.Builder
	p := &progress{w: &text, live: true}
	p.step(1, 4, "compiled trees 1 to 8")
	p.step(4, 4, strings.Repeat("linked ", 20))
	p.step(1, 0, "nothing to do")
	p.end()
	p.end()
	lines := strings.Split(text.String(), "\r")
	if len(lines) != 3 || !strings.HasSuffix(text.String(), "\n") || strings.Count(text.String(), "\n") != 1 {
		t.Fatalf("%q", text.String())
	}
	for _, line := range lines[1:] {
		if len(strings.TrimSuffix(line, "\n")) != 79 { // less would leave parts of the line before, more would wrap
			t.Errorf("%d characters: %q", len(line), line)
		}
	}
	if !strings.HasPrefix(lines[1], "[######..................]  25%  compiled trees 1 to 8") {
		t.Errorf("%q", lines[1])
	}
}
