package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// screen prints for people: 80 columns, and colour on a terminal that has not asked for none.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File, getenv func(string) string) *screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &screen{w: f, colour: terminal && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"}
}

const (
	columns = 80 // of the narrowest terminal
	margin  = 9  // of the words that steps start with
)

// The control sequences of terminals.
const (
	bold   = "1"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s *screen) paint(text, how string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + how + "m" + text + "\x1b[0m"
}

func (s *screen) line(format string, args ...any) { fmt.Fprintf(s.w, format+"\n", args...) }

// title starts a part.
func (s *screen) title(text string) { s.line("\n%s\n", s.paint(text, bold)) }

// step starts with one word that says what is done.
func (s *screen) step(word, format string, args ...any) {
	for i, text := range wrap(fmt.Sprintf(format, args...), columns-margin) {
		label := ""
		if i == 0 {
			label = word
		}
		s.line("%s%s", s.paint(fmt.Sprintf("%-*s", margin, label), bold), text)
	}
}

// more continues a step.
func (s *screen) more(format string, args ...any) { s.step("", format, args...) }

// wrap breaks text at blanks into lines of at most width, but for words that are longer.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// tableColumns are the features worth a look, out of all that the model takes.
var tableColumns = [...]struct {
	feature, heading string
	width, decimals  int
}{
	{"amount", "amount", 9, 2},
	{"amount_vs_usual", "x usual", 9, 1},
	{"hour", "hour", 6, 0},
	{"merchant_risk", "risk", 7, 2},
	{"count_1h", "in 1 h", 8, 0},
	{"distance_home_km", "km", 7, 0},
}

// table prints transactions with their scores and decisions.
func (s *screen) table(list []transaction) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%5s", "row")
	for _, c := range tableColumns {
		fmt.Fprintf(&b, "%*s", c.width, c.heading)
	}
	fmt.Fprintf(&b, "%8s  %s\n", "score", "decision")
	for _, t := range list {
		fmt.Fprintf(&b, "%5d", t.number)
		for _, c := range tableColumns {
			text := "?"
			if v := t.feature(c.feature); !math.IsNaN(v) {
				text = strconv.FormatFloat(v, 'f', c.decimals, 64)
			}
			fmt.Fprintf(&b, "%*s", c.width, text)
		}
		d := t.decision()
		fmt.Fprintf(&b, "%8.4f  %s\n", t.score, s.paint(d.String(), [...]string{approve: green, ask: yellow, deny: red}[d]))
	}
	s.line("%s", b.String())
	s.more("risk: of the merchant. in 1 h: the card's payments in the last hour.")
	s.more("km: from home. ?: unknown. The model looks at %d features in all.", len(list[0].values))
	s.line("")
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.1f ms", d.Seconds()*1e3) }
func microseconds(d time.Duration) string { return fmt.Sprintf("%.0f us", d.Seconds()*1e6) }
