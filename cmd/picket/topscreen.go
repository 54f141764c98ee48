package main

import (
	"context"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// screen draws on a terminal. Between enter and leave the terminal shows another screen than before, and its keys come
// one by one without being shown; Ctrl-C and Ctrl-Z are signals as always.
type screen struct {
	out, in *os.File // in is nil where the standard input is no terminal
	colour  bool
	before  *terminalMode // how in was
}

// newScreen is nil where out is no terminal that can be drawn on.
func newScreen(in io.Reader, out io.Writer, getenv func(string) string) *screen {
	s := &screen{colour: getenv("NO_COLOR") == ""}
	var ok bool
	if s.out, ok = fileOf(out); !ok || terminalState(s.out) == nil || getenv("TERM") == "" || getenv("TERM") == "dumb" {
		return nil
	}
	if f, ok := in.(*os.File); ok && terminalState(f) != nil {
		s.in = f
	}
	return s
}

// The sequences of every terminal of the last decades: another screen, no cursor, and back; one that knows less than it
// says shows a few odd characters.
const (
	otherScreen = "\x1b[?1049h\x1b[?25l"
	firstScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	plainText   = "\x1b[0m"
)

// colours of lines; a plain line has none.
var colours = map[lineKind]string{titleLine: "\x1b[1m", refusingLine: "\x1b[33m", failingLine: "\x1b[31m"}

// enter begins. Where it fails nothing has changed.
func (s *screen) enter() error {
	if s.in != nil {
		s.before = terminalState(s.in)
		if s.before != nil {
			if err := takeKeys(s.in, s.before); err != nil {
				s.before = nil
				return err
			}
		}
	}
	_, err := s.out.WriteString(otherScreen)
	return err
}

// leave makes everything as it was before enter.
func (s *screen) leave() {
	_, _ = s.out.WriteString(firstScreen) // the terminal may be gone
	if s.before != nil {
		_ = giveKeys(s.in, s.before) // the terminal may be gone
		s.before = nil
	}
}

// size is how many characters and lines fit; what most terminals have where it is not known.
func (s *screen) size() (width, height int) {
	if width, height = terminalSize(s.out); width == 0 || height == 0 {
		return 80, 24
	}
	return width, height
}

// draw shows the lines, cut to the terminal, in one write, so that it does not flicker.
func (s *screen) draw(lines []tableLine) error {
	width, height := s.size()
	var frame strings.Builder
	frame.WriteString(toTop)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			frame.WriteString("\n")
		}
		text := line.text
		if utf8.RuneCountInString(text) > width {
			text = string([]rune(text)[:width])
		}
		if colour := colours[line.kind]; s.colour && colour != "" {
			text = colour + text + plainText
		}
		frame.WriteString(text + clearLine)
	}
	frame.WriteString(clearBelow)
	_, err := s.out.WriteString(frame.String())
	return err
}

// keys sends what is typed until ctx ends or the terminal is gone. Its goroutine ends with the process, for a read from a
// terminal cannot be taken back.
func (s *screen) keys(ctx context.Context) <-chan byte {
	keys := make(chan byte)
	if s.in == nil {
		return keys
	}
	go func() {
		var key [1]byte
		for {
			if n, err := s.in.Read(key[:]); err != nil || n == 0 {
				return
			}
			select {
			case keys <- key[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	return keys
}
