// Package flame makes profiles for `go tool pprof`, which draws flame graphs of them, of what Linux's perf has recorded: the frames
// of C, of Go and of the kernel in one stack, of all processes together.
package flame

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// Fields are those that perf is to print (perf script -F), of samples of the event Event, whose period is in nanoseconds.
const (
	Fields = "comm,pid,period,ip,sym,dso"
	Event  = "cpu-clock"
)

// Bounds of what is read: a longer line or a deeper stack is none of perf's.
const (
	longestLine = 1 << 16
	mostFrames  = 1 << 10
	mostPeriod  = int64(time.Hour)
)

// Read makes a profile of what perf script prints with Fields. Samples of processors that had nothing to do are passed over. The
// outermost frame of each stack is the program's name, so that a graph tells programs apart.
func Read(r io.Reader) (*profile.Profile, error) {
	b := builder{
		p: &profile.Profile{
			SampleType: []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
			PeriodType: &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		},
		mappings: map[string]*profile.Mapping{}, locations: map[frame]*profile.Location{}, samples: map[string]*profile.Sample{},
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	var at header
	var stack []frame
	inside := false
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		switch {
		case strings.TrimSpace(line) == "":
			if inside {
				b.sample(at, stack)
			}
			stack, inside = stack[:0], false
		case inside:
			f, err := parseFrame(line)
			if err == nil && len(stack) == mostFrames {
				err = fmt.Errorf("a stack has more than %d frames", mostFrames)
			}
			if err != nil {
				return nil, fmt.Errorf("reading what perf printed, line %d: %w", n, err)
			}
			stack = append(stack, f)
		default:
			var err error
			if at, err = parseHeader(line); err != nil {
				return nil, fmt.Errorf("reading what perf printed, line %d: %w", n, err)
			}
			inside = true
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading what perf printed: %w", err)
	}
	if inside {
		b.sample(at, stack)
	}
	return b.p, nil
}

// header is what begins a sample.
type header struct {
	program string
	pid     int
	period  int64
}

// parseHeader reads "picketd 4711 10101010". A program's name may have blanks.
func parseHeader(line string) (header, error) {
	rest, period := lastField(line)
	program, pid := lastField(rest)
	h := header{program: program}
	var err error
	if h.pid, err = strconv.Atoi(pid); err == nil {
		h.period, err = strconv.ParseInt(period, 10, 64)
	}
	if err != nil || h.program == "" || h.period < 0 || h.period > mostPeriod {
		return h, fmt.Errorf("%.100q is no beginning of a sample", line)
	}
	return h, nil
}

// lastField cuts the last word off.
func lastField(text string) (rest, last string) {
	text = strings.TrimSpace(text)
	at := strings.LastIndexAny(text, " \t")
	return strings.TrimSpace(text[:max(at, 0)]), text[at+1:]
}

// frame is a place on a stack.
type frame struct{ function, object string }

// unknown is what perf says of what it cannot name.
const unknown = "[unknown]"

// parseFrame reads "ffffffff821f236b pv_native_safe_halt ([kernel.kallsyms])". Functions of C++ have blanks in their names.
func parseFrame(line string) (frame, error) {
	_, rest, found := strings.Cut(strings.TrimSpace(line), " ")
	at := strings.LastIndex(rest, " (")
	if !found || at < 0 || !strings.HasSuffix(rest, ")") {
		return frame{}, fmt.Errorf("%.100q is no frame", line)
	}
	f := frame{function: rest[:at], object: rest[at+2 : len(rest)-1]}
	if f.function == unknown {
		f.function = "in " + f.object
	}
	return f, nil
}

// builder puts a profile together.
type builder struct {
	p         *profile.Profile
	mappings  map[string]*profile.Mapping
	locations map[frame]*profile.Location
	samples   map[string]*profile.Sample // by program and stack
}

// sample adds one, of a stack whose innermost frame comes first.
func (b *builder) sample(h header, stack []frame) {
	if h.pid == 0 {
		return
	}
	var key strings.Builder
	list := make([]*profile.Location, 0, len(stack)+1)
	for _, f := range append(stack, frame{function: h.program}) {
		l := b.location(f)
		list = append(list, l)
		key.WriteString(strconv.FormatUint(l.ID, 36) + " ")
	}
	s := b.samples[key.String()]
	if s == nil {
		s = &profile.Sample{Location: list, Value: make([]int64, 2)}
		b.samples[key.String()] = s
		b.p.Sample = append(b.p.Sample, s)
	}
	s.Value[0]++
	s.Value[1] += h.period
	b.p.Period = max(b.p.Period, h.period)
	b.p.DurationNanos += h.period
}

// location is the one of a function: where in it is not told.
func (b *builder) location(f frame) *profile.Location {
	if l := b.locations[f]; l != nil {
		return l
	}
	function := &profile.Function{ID: uint64(len(b.p.Function) + 1), Name: f.function, SystemName: f.function}
	b.p.Function = append(b.p.Function, function)
	l := &profile.Location{ID: uint64(len(b.p.Location) + 1), Line: []profile.Line{{Function: function}}}
	if f.object != "" {
		l.Mapping = b.mapping(f.object)
	}
	b.p.Location = append(b.p.Location, l)
	b.locations[f] = l
	return l
}

func (b *builder) mapping(object string) *profile.Mapping {
	if m := b.mappings[object]; m != nil {
		return m
	}
	m := &profile.Mapping{ID: uint64(len(b.p.Mapping) + 1), File: object, HasFunctions: true}
	b.p.Mapping = append(b.p.Mapping, m)
	b.mappings[object] = m
	return m
}
