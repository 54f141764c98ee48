package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// progress shows the steps of a long job: as one line that is drawn again on a terminal, else as a line for every tenth
// of the way, so that a log stays short.
type progress struct {
	w     io.Writer
	live  bool
	drawn bool // the live line is there
	tenth int
}

// newProgress writes to w. term is the value of TERM.
func newProgress(w io.Writer, term string) *progress {
	return &progress{w: w, live: isTerminal(w) && term != "dumb"}
}

// isTerminal tells whether w is a terminal (or /dev/null, where it does not matter).
func isTerminal(w io.Writer) bool {
	f, ok := fileOf(w)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// step says that done of total steps are done, the last of which is what.
func (p *progress) step(done, total int, what string) {
	const barWidth, lineWidth = 24, 79
	if total <= 0 {
		return
	}
	if !p.live {
		if tenth := done * 10 / total; tenth > p.tenth || done == total {
			p.tenth = tenth
			fmt.Fprintf(p.w, "%3d%%  %s\n", done*100/total, what)
		}
		return
	}
	filled := done * barWidth / total
	line := fmt.Sprintf("[%s%s] %3d%%  %s", strings.Repeat("#", filled), strings.Repeat(".", barWidth-filled), done*100/total, what)
	if n := utf8.RuneCountInString(line); n < lineWidth {
		line += strings.Repeat(" ", lineWidth-n)
	} else {
		line = string([]rune(line)[:lineWidth])
	}
	fmt.Fprintf(p.w, "\r%s", line)
	p.drawn = true
}

// end leaves the live line as it is and goes on below it.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprintln(p.w)
		p.drawn = false
	}
}
