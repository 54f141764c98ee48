package main

import (
	"bytes"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/hw"
)

func TestLimitHeap(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, test := range []struct {
		what  string
		group hw.Limit
		env   string
		want  int64
	}{
		{"a group's limit", hw.Limit{Bytes: 1 << 30}, "", 1 << 29},
		{"GOMEMLIMIT wins", hw.Limit{Bytes: 1 << 30}, "2GiB", math.MaxInt64},
		{"no limit", hw.Limit{Unlimited: true}, "", math.MaxInt64},
		{"a limit that cannot be read", hw.Limit{Bytes: 1 << 30, Reason: "no cgroup"}, "", math.MaxInt64},
		{"nothing known", hw.Limit{}, "", math.MaxInt64},
		{"a limit beyond all memory", hw.Limit{Bytes: math.MaxUint64}, "", math.MaxInt64},
	} {
		debug.SetMemoryLimit(math.MaxInt64)
		t.Setenv("GOMEMLIMIT", test.env)
		var log bytes.Buffer
		limitHeap(test.group, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
		if got := debug.SetMemoryLimit(-1); got != test.want {
			t.Errorf("%s: the heap may have %d bytes, want %d", test.what, got, test.want)
		}
		if said := strings.Contains(log.String(), "limited"); said != (test.want != math.MaxInt64) {
			t.Errorf("%s: the log says %q", test.what, &log)
		}
	}
}
