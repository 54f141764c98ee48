package upload

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
)

// Phase is what an Uploader is doing.
type Phase string

// The phases.
const (
	Idle             Phase = "idle"     // there is nothing to send
	Sending          Phase = "sending"  // objects go
	Retrying         Phase = "retrying" // the destination did not take the last one
	WaitingForWindow Phase = "window"   // objects may not go now
	Blocked          Phase = "blocked"  // the audit log or the spool cannot be written
)

// Phases are all of them, for metrics.
var Phases = []Phase{Idle, Sending, Retrying, WaitingForWindow, Blocked}

// State is what an Uploader is doing now.
type State struct {
	Phase Phase
	// Since is when the phase began.
	Since time.Time
	// Until is when the window opens.
	Until time.Time
	// Err is why it is Retrying or Blocked: a sentence.
	Err error
}

// Reasons of failures, for metrics. Which belongs to an error is for Reason to say.
var Reasons = []string{"network", "credentials", "denied", "clock", "region", "store", "taken", "disk", "audit", "other"}

// Reason is the kind of a failure in one word.
func Reason(err error) string {
	var known *cloud.Error
	var file *fs.PathError
	switch {
	case errors.Is(err, errAudit):
		return "audit"
	case errors.Is(err, ErrTaken):
		return "taken"
	case errors.As(err, &known):
		return reasonOf(known, cloud.Code(err))
	case errors.As(err, &file):
		return "disk"
	case errors.Is(err, context.DeadlineExceeded):
		return "network"
	}
	return "other"
}

func reasonOf(e *cloud.Error, code string) string {
	text := e.Reason
	switch {
	case strings.Contains(text, "clock is wrong") || strings.Contains(text, "is the clock right"):
		return "clock"
	case strings.Contains(text, "in another region") || strings.Contains(text, "is in the region"):
		return "region"
	case strings.Contains(text, "credentials have expired"), strings.Contains(text, "no AWS credentials"), strings.Contains(text, "fetching AWS credentials"),
		strings.Contains(text, "access key"):
		return "credentials"
	case cloud.Denied(e):
		return "denied"
	case code != "":
		return "store"
	}
	return "network"
}

// Stats is what an Uploader has done since it was made.
type Stats struct {
	State
	// Objects and Bytes are what the destination took, payloads included; Records are in
	// them. Where several formats are written, a record counts in each.
	Objects, Bytes, Records uint64
	// Uncompressed is Bytes before compression.
	Uncompressed uint64
	// Known are objects that were there already, from before a crash.
	Known uint64
	// Withheld are records that the policy kept here.
	Withheld uint64
	// Damaged are parts of segments that could not be read.
	Damaged uint64
	// Failures counts attempts that failed, by reason.
	Failures map[string]uint64
	// Segment is the last that was acknowledged, and Last when the destination took the last object.
	Segment uint64
	Last    time.Time
}

// counters are the live form of Stats.
type counters struct {
	mu sync.Mutex
	Stats
}

func (c *counters) change(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.Stats)
}

func (c *counters) snapshot() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.Stats
	s.Failures = make(map[string]uint64, len(Reasons))
	for _, r := range Reasons {
		s.Failures[r] = c.Failures[r]
	}
	return s
}

// errAudit is that of an audit log that cannot be written.
var errAudit = errors.New("the audit log cannot be written")
