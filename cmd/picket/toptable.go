package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// tableLine is a line of the table, and what it is about.
type tableLine struct {
	text string
	kind lineKind
}

type lineKind uint8

const (
	plainLine lineKind = iota
	titleLine
	refusingLine // a model that refuses requests
	failingLine  // a model with errors
)

// topColumn is a column of the table.
type topColumn struct {
	title string
	left  bool // aligned
	// keep is how important the column is: where the table is too wide, those of the smallest go first.
	keep int
	cell func(*view, *modelView) string
}

var topColumns = []topColumn{
	{"MODEL", true, 9, func(_ *view, m *modelView) string { return m.Name }},
	{"BACKEND", true, 3, func(_ *view, m *modelView) string { return m.Backend }},
	{"REQ/S", false, 9, rateCell(func(m *modelView) float64 { return m.Requests })},
	{"ROWS/S", false, 7, rateCell(func(m *modelView) float64 { return m.Rows })},
	{"ROWS/RUN", false, 2, func(_ *view, m *modelView) string {
		if m.RowsPerRun == nil {
			return "-"
		}
		return shortNumber(*m.RowsPerRun)
	}},
	{"WAITING", false, 5, func(_ *view, m *modelView) string { return shortNumber(m.Waiting) + "/" + shortNumber(m.QueueLimit) }},
	{"REFUSED/S", false, 6, rateCell(func(m *modelView) float64 { return m.Refused })},
	{"ERRORS/S", false, 6, rateCell(func(m *modelView) float64 { return m.Errors })},
	{"QUEUE P50/P99", false, 1, phaseCell("queue")},
	{"GATHER P50/P99", false, 0, phaseCell("gather")},
	{"RUN P50/P99", false, 4, phaseCell("run")},
	{"REPLY P50/P99", false, 0, phaseCell("reply")},
	{"TOTAL P50/P99", false, 8, phaseCell("total")},
}

func rateCell(rate func(*modelView) float64) func(*view, *modelView) string {
	return func(v *view, m *modelView) string {
		if v.first {
			return "-"
		}
		return shortNumber(rate(m))
	}
}

func phaseCell(phase string) func(*view, *modelView) string {
	return func(_ *view, m *modelView) string {
		p := m.Phases[phase]
		if p.P50 == nil || p.P99 == nil {
			return "-"
		}
		return shortTime(*p.P50) + "/" + shortTime(*p.P99)
	}
}

// lines are the table with what is said of the daemon above it, at most so many characters wide; 0 is as wide as it gets.
func (v *view) lines(width int) []tableLine {
	lines := []tableLine{{text: v.headline()}}
	for i := range v.GPUs {
		lines = append(lines, v.GPUs[i].line())
	}
	if v.Capture != nil {
		lines = append(lines, v.Capture.line(v.first))
	}
	lines = append(lines, tableLine{})
	if len(v.Models) == 0 {
		return append(lines, tableLine{text: "no model is loaded; picket load NAME PATH loads one"})
	}
	columns, cells := v.layOut(width)
	lines = append(lines, tableLine{joinCells(columns, cells[0]), titleLine})
	for i := range v.Models {
		kind := plainLine
		switch m := &v.Models[i]; {
		case m.Errors > 0:
			kind = failingLine
		case m.Refused > 0:
			kind = refusingLine
		}
		lines = append(lines, tableLine{joinCells(columns, cells[i+1]), kind})
	}
	return lines
}

func (v *view) headline() string {
	up := (time.Duration(v.Daemon.Uptime) * time.Second).String()
	cores := "-"
	if !v.first {
		cores = strconv.FormatFloat(v.Daemon.Cores, 'f', 2, 64)
	}
	return fmt.Sprintf("picketd %s on %s, up %s, %s cores busy, %.0f MiB", v.Daemon.Version, printable(v.Daemon.Socket), up, cores, v.Daemon.Resident/(1<<20))
}

// laidColumn is a column with its width.
type laidColumn struct {
	topColumn
	width int
}

const columnGap = 2

// layOut chooses the columns that fit and makes their cells, first those of the titles.
func (v *view) layOut(width int) (columns []laidColumn, cells [][]string) {
	total := -columnGap
	for _, c := range topColumns {
		laid := laidColumn{c, utf8.RuneCountInString(c.title)}
		for i := range v.Models {
			laid.width = max(laid.width, utf8.RuneCountInString(c.cell(v, &v.Models[i])))
		}
		columns = append(columns, laid)
		total += laid.width + columnGap
	}
	for width > 0 && total > width {
		least := 0
		for i, c := range columns {
			if c.keep <= columns[least].keep {
				least = i
			}
		}
		const needed = 9
		if columns[least].keep == needed {
			break // the lines are cut
		}
		total -= columns[least].width + columnGap
		columns = append(columns[:least], columns[least+1:]...)
	}
	titles := make([]string, len(columns))
	for i, c := range columns {
		titles[i] = c.title
	}
	cells = append(cells, titles)
	for i := range v.Models {
		row := make([]string, len(columns))
		for n, c := range columns {
			row[n] = c.cell(v, &v.Models[i])
		}
		cells = append(cells, row)
	}
	return columns, cells
}

func joinCells(columns []laidColumn, cells []string) string {
	var line strings.Builder
	for i, c := range columns {
		pad := strings.Repeat(" ", c.width-utf8.RuneCountInString(cells[i]))
		if i > 0 {
			line.WriteString(strings.Repeat(" ", columnGap))
		}
		if !c.left {
			line.WriteString(pad)
		}
		line.WriteString(cells[i])
		if c.left {
			line.WriteString(pad)
		}
	}
	return strings.TrimRight(line.String(), " ")
}

// shortNumber has three digits and a unit, but a whole number of four is shown as it is.
func shortNumber(n float64) string {
	if n < 1e4 && n == math.Trunc(n) {
		return strconv.FormatFloat(n, 'f', 0, 64)
	}
	for _, unit := range []string{"", "k", "M", "G"} {
		if n < 999.5 {
			return threeDigits(n) + unit
		}
		n /= 1000
	}
	return threeDigits(n) + "T"
}

// shortTime is a duration of so many seconds with three digits.
func shortTime(s float64) string {
	n := s * 1e9
	for _, unit := range []string{"ns", "µs", "ms"} {
		if n < 999.5 {
			return threeDigits(n) + unit
		}
		n /= 1000
	}
	return threeDigits(n) + "s"
}

func threeDigits(n float64) string {
	decimals := 0
	switch {
	case n == 0:
	case n < 9.995:
		decimals = 2
	case n < 99.95:
		decimals = 1
	}
	return strconv.FormatFloat(n, 'f', decimals, 64)
}
