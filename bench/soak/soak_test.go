package main

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/internal/testkit"
)

func TestMain(m *testing.M) { testkit.VerifyNoLeaks(m) }

func TestSlope(t *testing.T) {
	for _, test := range []struct {
		y    []float64
		want float64
	}{
		{nil, 0}, {[]float64{7}, 0}, {[]float64{5, 5, 5, 5}, 0}, {[]float64{1, 3, 5, 7}, 2}, {[]float64{4, 0, 4, 0, 4}, 0}, {[]float64{10, 9, 8}, -1},
	} {
		var l leastSquares
		for x, y := range test.y {
			l.add(float64(x), y)
		}
		if got := l.slope(); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("the slope of %v is %v, want %v", test.y, got, test.want)
		}
	}
}

func TestAnswersOfOneVersion(t *testing.T) {
	for _, test := range []struct {
		y    []float32
		says string
	}{
		{[]float32{3, 3}, ""}, {[]float32{4, 4}, ""}, {[]float32{3, 4}, "two versions"}, {[]float32{2, 2}, "only 3 to 4"}, {[]float32{5, 5}, "only 3 to 4"},
		{[]float32{3.5, 3.5}, "only 3 to 4"}, {[]float32{3}, "1 answers for 2 rows"}, {nil, "0 answers"},
		{[]float32{float32(math.NaN()), float32(math.NaN())}, "two versions"},
	} {
		err := ofOneVersion(test.y, 2, 3, 4)
		if (err == nil) != (test.says == "") || (err != nil && !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%v: %v, want %q", test.y, err, test.says)
		}
	}
}

// What several tests have run is counted once, and what none has run not at all.
func TestCoverage(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "cover.out")
	text := "mode: set\n" +
		"github.com/picket-ml/picket/a/x.go:1.1,2.2 3 0\n" +
		"github.com/picket-ml/picket/a/x.go:3.1,4.2 5 1\n" +
		"github.com/picket-ml/picket/a/x.go:1.1,2.2 3 1\n" +
		"github.com/picket-ml/picket/a/y.go:1.1,2.2 7 0\n"
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := coverage(profile)
	if err != nil || len(files) != 2 || files["a/x.go"] != (counted{8, 8}) || files["a/y.go"] != (counted{7, 0}) {
		t.Errorf("%v, %v", files, err)
	}
	if err := os.WriteFile(profile, []byte("mode: set\nx.go:1 a b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := coverage(profile); err == nil {
		t.Error("what is no profile was read as one")
	}
}

// One promise that does not hold makes its part and the whole fail, and is said again at the end.
func TestReport(t *testing.T) {
	var b bytes.Buffer
	r := &report{w: &b}
	r.begin("one")
	r.check(true, "this", "%d of %d", 2, 2)
	if r.summary(time.Second) {
		t.Error("what held counts as failed")
	}
	r.begin("two")
	r.check(false, "that", "%d of %d", 1, 2)
	r.tell("something", "else")
	r.begin("three")
	r.fail("the part came to its end", errors.New("it\ndid not").Error())
	b.Reset()
	if !r.summary(time.Second) {
		t.Error("what failed counts as held")
	}
	for _, want := range []string{"one      passed", "two      FAILED", "that: 1 of 2", "three    FAILED", "soak: FAILED"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}

func TestMetric(t *testing.T) {
	page := []byte("# HELP go_goroutines Number\ngo_goroutines_x 7\ngo_goroutines 12\n")
	if n, err := metric(page, "go_goroutines"); err != nil || n != 12 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := metric(page, "go_threads"); err == nil {
		t.Error("a metric that is not there has a value")
	}
}
