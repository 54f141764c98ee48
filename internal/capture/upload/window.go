package upload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // hosts in a bank's data centre need not have it
)

// Windows are the times at which objects may go. No windows: always.
type Windows struct {
	zone *time.Location
	all  []window
}

// window is a line of a crontab: it is open in every minute that fits all five fields.
type window struct {
	minute, hour, day, month, weekday uint64 // bit n: n fits
}

// ParseWindows reads windows, each "MINUTE HOUR DAY MONTH WEEKDAY" as in a crontab, with
// lists, ranges, steps and "*"; a range may go over the end, as in 22-5. Sunday is 0 or
// 7. zone is a name of the time zone database, or empty for UTC.
func ParseWindows(texts []string, zone string) (Windows, error) {
	w := Windows{}
	var err error
	if w.zone, err = time.LoadLocation(zone); err != nil {
		return w, fmt.Errorf("%.60q is no time zone, such as Europe/Berlin", zone)
	}
	for _, text := range texts {
		one, err := parseWindow(text)
		if err != nil {
			return w, fmt.Errorf("%.60q is no window: %w", text, err)
		}
		if (Windows{time.UTC, []window{one}}).Opens(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
			return w, fmt.Errorf("%.60q is no window: it never opens", text)
		}
		w.all = append(w.all, one)
	}
	return w, nil
}

func parseWindow(text string) (window, error) {
	fields := strings.Fields(text)
	if len(fields) != 5 {
		return window{}, errors.New("write five fields, MINUTE HOUR DAY MONTH WEEKDAY, such as \"* 22-5 * * *\"")
	}
	var w window
	for i, f := range []struct {
		name      string
		low, high int
		to        *uint64
	}{{"minute", 0, 59, &w.minute}, {"hour", 0, 23, &w.hour}, {"day", 1, 31, &w.day}, {"month", 1, 12, &w.month}, {"weekday", 0, 7, &w.weekday}} {
		bits, err := parseField(fields[i], f.low, f.high)
		if err != nil {
			return window{}, fmt.Errorf("the %s %w", f.name, err)
		}
		*f.to = bits
	}
	const sunday, alsoSunday = 1 << 0, 1 << 7
	if w.weekday&alsoSunday != 0 {
		w.weekday |= sunday
	}
	return w, nil
}

func parseField(text string, low, high int) (bits uint64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		spanned, stepped, hasStep := strings.Cut(part, "/")
		step := 1
		if hasStep {
			if step, err = strconv.Atoi(stepped); err != nil || step < 1 || step > high {
				return 0, fmt.Errorf("has a step %q that is no number from 1 to %d", stepped, high)
			}
		}
		first, last := low, high
		if spanned != "*" {
			from, to, ranged := strings.Cut(spanned, "-")
			if first, err = strconv.Atoi(from); err == nil && ranged {
				last, err = strconv.Atoi(to)
			} else if err == nil && !hasStep {
				last = first
			}
			if err != nil || first < low || first > high || last < low || last > high {
				return 0, fmt.Errorf("has %q, which is not within %d to %d", spanned, low, high)
			}
		}
		count := last - first
		if count < 0 { // over the end
			count += high - low + 1
		}
		for n := 0; n <= count; n += step {
			bits |= 1 << (low + (first-low+n)%(high-low+1))
		}
	}
	return bits, nil
}

func has(bits uint64, n int) bool { return bits&(1<<n) != 0 }

func (w window) dayFits(t time.Time) bool {
	return has(w.month, int(t.Month())) && has(w.day, t.Day()) && has(w.weekday, int(t.Weekday()))
}

// Open tells whether objects may go at t.
func (w Windows) Open(t time.Time) bool {
	if len(w.all) == 0 {
		return true
	}
	t = t.In(w.zone)
	for _, one := range w.all {
		if one.dayFits(t) && has(one.hour, t.Hour()) && has(one.minute, t.Minute()) {
			return true
		}
	}
	return false
}

// Opens is the first time from t on at which objects may go: t, or the beginning of a
// minute. Zero: none in the next years.
func (w Windows) Opens(t time.Time) time.Time {
	if w.Open(t) {
		return t
	}
	end := t.AddDate(9, 0, 0) // two leap years are at most eight years apart
	t = t.In(w.zone).Truncate(time.Minute)
	for t.Before(end) {
		if w.Open(t) {
			return t
		}
		day, hour := false, false
		for _, one := range w.all {
			if one.dayFits(t) {
				day = true
				hour = hour || has(one.hour, t.Hour())
			}
		}
		switch {
		case !day:
			t = after(t, time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, w.zone))
		case !hour:
			t = t.Add(time.Hour - time.Duration(t.Minute())*time.Minute)
		default:
			t = t.Add(time.Minute)
		}
	}
	return time.Time{}
}

// after is next, but later than t where the clocks make it otherwise.
func after(t, next time.Time) time.Time {
	if !next.After(t) {
		return t.Add(time.Minute)
	}
	return next
}
