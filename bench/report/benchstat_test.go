package report

import (
	"regexp"
	"strings"
	"testing"
)

// TestWriteBenchstat holds to the form of Go's benchmarks: a name without blanks, how many times, and pairs of a number and a unit.
func TestWriteBenchstat(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := example().WriteBenchstat(&text); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^Benchmark[A-Z][A-Za-z]+(/[a-z]+=[^/\s]+)+-\d+\t\d+(\t\d+(\.\d+)? [a-z0-9./-]+)+$`)
	key := regexp.MustCompile(`^[a-z]+: .`)
	repetitions := 0
	for l := range strings.Lines(text.String()) {
		l = strings.TrimSuffix(l, "\n")
		switch {
		case line.MatchString(l):
			repetitions++
		case !key.MatchString(l):
			t.Errorf("benchstat cannot read %q", l)
		}
	}
	want := 0
	for _, run := range example().Runs {
		want += len(run.Repetitions)
	}
	if repetitions != want {
		t.Errorf("%d lines for %d repetitions", repetitions, want)
	}
}

// TestWriteText says what must not be overlooked.
func TestWriteText(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	if err := example().WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"SingleStream: 90th percentile latency", "not valid: SingleStream/fraud/empty", "left out: triton", "noisy: the hypervisor", "mark: suite m5 was forced", "9.8 times"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	for ns, want := range map[float64]string{12: "12ns", 1234: "1.23µs", 12345: "12.3µs", 123456: "123µs", 1234567: "1.23ms", 2e9: "2s"} {
		if got := nanoseconds(ns); got != want {
			t.Errorf("%v ns are written %s, want %s", ns, got, want)
		}
	}
}
