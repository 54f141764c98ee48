package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/picket-ml/picket/bench/report"
)

// way is one way to ask one server.
type way struct{ target, protocol, transport string }

// burden is a load, as a column of tables.
type burden struct{ rows, outstanding int }

func (b burden) String() string {
	if b.rows == 1 {
		return fmt.Sprintf("1 row, %d at a time", b.outstanding)
	}
	return fmt.Sprintf("%d rows, %d at a time", b.rows, b.outstanding)
}

// servings are the measurements of servers by way and load, in the order measured.
type servings struct {
	ways    []way
	burdens []burden
	of      map[way]map[burden]report.Serving
}

func loadServings(results string) (measured, servings, error) {
	r, list, err := load[report.Serving](results, "serving")
	s := servings{of: map[way]map[burden]report.Serving{}}
	for _, m := range list {
		w, b := way{m.Target, m.Protocol, m.Transport}, burden{m.Rows, m.Outstanding}
		if s.of[w] == nil {
			s.of[w] = map[burden]report.Serving{}
			s.ways = append(s.ways, w)
		}
		if !slices.Contains(s.burdens, b) {
			s.burdens = append(s.burdens, b)
		}
		s.of[w][b] = m
	}
	return r, s, err
}

// table has a line for each way that cells has any cell for.
func (s servings) table(first string, cell func(way, report.Serving) string) string {
	columns := []string{first, "protocol", "over"}
	for _, b := range s.burdens {
		columns = append(columns, b.String())
	}
	out := head(columns...)
	for _, w := range s.ways {
		columns := []string{w.target, w.protocol, w.transport}
		found := false
		for _, b := range s.burdens {
			text := "-"
			if m, measured := s.of[w][b]; measured {
				if c := cell(w, m); c != "" {
					text, found = c, true
				}
			}
			columns = append(columns, text)
		}
		if found {
			out += row(columns...)
		}
	}
	return out
}

// servingTable is everything measured: p50 / p99 in microseconds; rows per second; the server's time for a request.
func servingTable(results string) (string, error) {
	_, s, err := loadServings(results)
	if err != nil {
		return "", err
	}
	return s.table("server", func(_ way, m report.Serving) string {
		cpu := "-" // not measured with a client of others
		if m.CPUUS > 0 {
			cpu = thousands(m.CPUUS)
		}
		return fmt.Sprintf("%s / %s; %s; %s", thousands(m.P50US), thousands(m.P99US), thousands(m.RowsPerS), cpu)
	}), nil
}

// timesTable is how many times picketd's rows per second are those of the others, over the same protocol and transport, and how
// many times their p99 is picketd's.
func timesTable(results string) (string, error) {
	_, s, err := loadServings(results)
	if err != nil {
		return "", err
	}
	return s.table("beside", func(w way, theirs report.Serving) string {
		own, measured := s.of[way{"picketd", w.protocol, w.transport}][burden{theirs.Rows, theirs.Outstanding}]
		if !measured || w.target == "picketd" {
			return ""
		}
		return fmt.Sprintf("%s / %s", times(own.RowsPerS/theirs.RowsPerS), times(theirs.P99US/own.P99US))
	}), nil
}

func times(ratio float64) string {
	if ratio < 9.995 {
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.1f", ratio)
}

// serverTable says what was measured, and what was not.
func serverTable(results string) (string, error) {
	r, _, err := loadServings(results)
	if err != nil {
		return "", err
	}
	out := head("server", "version", "start, s", "memory, MB")
	for _, s := range r.Servers {
		out += row(s.Name, s.Version, fmt.Sprintf("%.1f", s.StartS), fmt.Sprintf("%.0f", s.Memory))
	}
	if len(r.LeftOut) == 0 {
		return out, nil
	}
	out += "\n" + head("not measured", "why")
	for _, l := range r.LeftOut {
		out += row(l.Engine, l.Why)
	}
	return out, nil
}

// thousands formats a number with a comma for every thousand.
func thousands(v float64) string {
	text := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
