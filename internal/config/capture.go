package config

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Capture says what happens to captured records on this host: the spool in which they
// wait. Which requests are captured is for Run.Capture to say.
type Capture struct {
	// Enabled opens the spool. Without it nothing is captured, whatever models say.
	Enabled bool `yaml:"enabled"`
	// Dir is the spool's directory, absolute; empty for "capture" in Config.StateDir.
	Dir string `yaml:"dir"`
	// MaxBytes and MaxAge bound what waits; 0 of MaxAge is for ever.
	MaxBytes Size          `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
	// WhenFull is "drop_oldest", "drop_newest" or "stop".
	WhenFull string `yaml:"when_full"`
	// SegmentBytes and SegmentAge are when a segment is sealed, which is when its
	// records can leave.
	SegmentBytes Size          `yaml:"segment_bytes"`
	SegmentAge   time.Duration `yaml:"segment_age"`
	// FlushAfter is how long samples may wait until they are made durable together.
	FlushAfter time.Duration `yaml:"flush_after"`
	// BesideBytes is how large a tensor may be to be written into its record.
	BesideBytes Size `yaml:"beside_bytes"`
	// Ring is how many runs, and RingBytes how many bytes of tensors, may wait to be
	// written; more are dropped and counted.
	Ring      int  `yaml:"ring"`
	RingBytes Size `yaml:"ring_bytes"`
	// Recipients are age public keys for which the spool is encrypted; empty for none.
	// Identity is a file with a matching private key, absolute: without it records of
	// an earlier process cannot leave.
	Recipients []string `yaml:"recipients"`
	Identity   string   `yaml:"identity"`
	// Destination, Format, Upload and Residency are about the way out of the host.
	Destination Destination `yaml:"destination"`
	Format      Format      `yaml:"format"`
	Upload      Upload      `yaml:"upload"`
	Residency   Residency   `yaml:"residency"`
}

// Directory is where the spool is, for a daemon with that state directory.
func (c Capture) Directory(state string) string {
	if c.Dir != "" {
		return c.Dir
	}
	return filepath.Join(state, "capture")
}

// Sampling is which requests of a model are captured; any of its reasons will do.
type Sampling struct {
	// Rate is a fraction of the requests, Every every so many of them; 0 for none.
	Rate  float64 `yaml:"rate"`
	Every int     `yaml:"every"`
	// Band is a range of answers, "LOW..HIGH", both included: requests with a number
	// in it are captured. Empty for none.
	Band string `yaml:"band"`
	// Output is the output that Band is about; empty for the first.
	Output string `yaml:"output"`
	// Errors captures the inputs of requests that fail.
	Errors bool `yaml:"errors"`
}

// Any tells whether anything is captured at all.
func (s Sampling) Any() bool { return s.Rate > 0 || s.Every > 0 || s.Band != "" || s.Errors }

// Limits is what Band says; ok is false where it is empty or says nothing.
func (s Sampling) Limits() (low, high float64, ok bool) {
	from, to, found := strings.Cut(s.Band, "..")
	low, err := strconv.ParseFloat(strings.TrimSpace(from), 64)
	high, errHigh := strconv.ParseFloat(strings.TrimSpace(to), 64)
	if !found || err != nil || errHigh != nil || math.IsNaN(low) || math.IsNaN(high) || low > high {
		return 0, 0, false
	}
	return low, high, true
}

func defaultCapture() Capture {
	return Capture{
		MaxBytes: 1 << 30, MaxAge: 7 * 24 * time.Hour, WhenFull: "drop_oldest",
		SegmentBytes: 8 << 20, SegmentAge: 10 * time.Second, FlushAfter: time.Second,
		BesideBytes: 1 << 20, Ring: 4096, RingBytes: 64 << 20,
		Format: defaultFormat(), Upload: defaultUpload(), Residency: Residency{Metrics: true, K: 10},
	}
}

const (
	minSegment = Size(64 << 10)
	maxSegment = Size(64 << 20)
)

// check looks at no file.
func (c Capture) check(k *checker, state string) {
	if c.Enabled && c.Dir == "" && state == "" {
		k.add("capture.enabled", "needs a place for the spool: set state_dir, or capture.dir")
	}
	if c.Dir != "" {
		k.absolute("capture.dir", c.Dir)
	}
	if c.SegmentBytes < minSegment || c.SegmentBytes > maxSegment {
		k.add("capture.segment_bytes", "%v is outside %v to %v", c.SegmentBytes, minSegment, maxSegment)
	}
	if c.MaxBytes < 4*c.SegmentBytes || c.MaxBytes > 1<<44 {
		k.add("capture.max_bytes", "%v is outside %v (four segments) to %v", c.MaxBytes, 4*c.SegmentBytes, Size(1<<44))
	}
	switch c.WhenFull {
	case "drop_oldest", "drop_newest", "stop":
	default:
		k.add("capture.when_full", "%s is none of drop_oldest, drop_newest and stop", quote(c.WhenFull))
	}
	k.durationUpTo("capture.max_age", c.MaxAge, 10*365*24*time.Hour)
	if c.SegmentAge < 100*time.Millisecond || c.SegmentAge > 24*time.Hour {
		k.add("capture.segment_age", "%v is outside 100ms to 24h0m0s", c.SegmentAge)
	}
	if c.FlushAfter < time.Millisecond || c.FlushAfter > time.Minute {
		k.add("capture.flush_after", "%v is outside 1ms to 1m0s", c.FlushAfter)
	}
	if c.BesideBytes < 1<<10 || c.BesideBytes > c.SegmentBytes {
		k.add("capture.beside_bytes", "%v is outside 1KiB to capture.segment_bytes", c.BesideBytes)
	}
	k.between("capture.ring", c.Ring, 16, 1<<20)
	if c.RingBytes < 64<<10 || c.RingBytes > 1<<40 {
		k.add("capture.ring_bytes", "%v is outside 64KiB to %v", c.RingBytes, Size(1<<40))
	}
	for i, r := range c.Recipients {
		if !strings.HasPrefix(r, "age1") {
			k.add(fmt.Sprintf("capture.recipients[%d]", i), "%s is no public key of age, which begins with age1", quote(r))
		}
	}
	if c.Identity != "" {
		k.absolute("capture.identity", c.Identity)
	}
	c.checkLeaving(k, state)
}

func (s Sampling) check(k *checker, path string) {
	if s.Rate < 0 || s.Rate > 1 {
		k.add(path+".rate", "%v is outside 0 to 1", s.Rate)
	}
	k.between(path+".every", s.Every, 0, math.MaxInt32)
	if _, _, ok := s.Limits(); s.Band != "" && !ok {
		k.add(path+".band", "%s is no range of numbers, such as 0.4..0.6", quote(s.Band))
	}
	if s.Output != "" && s.Band == "" {
		k.add(path+".output", "needs %s.band", path)
	}
}
