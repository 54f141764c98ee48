package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Decisions keeps what timing the backends found, so that an artifact is timed
// once and not at every start. The engine looks at what it gets back, which may be
// damaged, and times again where it makes no sense. The methods may be called by
// many goroutines at once.
type Decisions interface {
	// Recall gives the decision that was remembered for key, 64 hexadecimal digits;
	// nil without an error where there is none.
	Recall(key string) (*Decision, error)
	// Remember keeps the decision in place of the one that key may have had.
	Remember(key string, d Decision) error
}

// Decision is what timing the backends for one artifact found.
type Decision struct {
	// Time is when.
	Time time.Time `json:"time"`
	// Candidates are those that were to be timed. One is Chosen.
	Candidates []Candidate `json:"candidates"`
}

// check says what is wrong with a decision among the candidates of these names.
func (d *Decision) check(names []string) error {
	if d.Time.IsZero() || len(d.Candidates) != len(names) {
		return fmt.Errorf("it is of %d candidates, not of %d", len(d.Candidates), len(names))
	}
	chosen := 0
	for i, c := range d.Candidates {
		switch {
		case c.Backend != names[i]:
			return fmt.Errorf("candidate %d is backend %q, not %s", i, c.Backend, names[i])
		case c.USPerRow < 0 || math.IsNaN(c.USPerRow) || math.IsInf(c.USPerRow, 0):
			return fmt.Errorf("%v µs a row is no time", c.USPerRow)
		case c.Reason == "" || !isText(c.Reason) || !isText(c.Variant):
			return errors.New("a reason or a variant is not a line of text")
		case c.Chosen:
			chosen++
		}
	}
	if chosen != 1 {
		return fmt.Errorf("%d candidates are chosen", chosen)
	}
	return nil
}

// maxText is longer than any sentence of a backend that is worth reading.
const maxText = 4096

func isText(s string) bool {
	return len(s) <= maxText && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// key is what a decision depends on: the artifact's files, by name and content,
// the host's processor, the program's version, the backends that could be timed,
// and how the model would be run. It is empty where nothing is remembered.
func (c *choice) key(ctx context.Context) string {
	if c.engine.decisions == nil {
		return ""
	}
	digest := sha256.New()
	fmt.Fprintf(digest, "decision %q %s %d %d %t %t %q %q\n", c.engine.version, c.engine.host.Fingerprint(), c.options.ExpectedRows, c.options.Threads, c.options.Pin, c.options.Explain,
		c.options.Provider, c.options.GPUs)
	for _, name := range c.betterNames() {
		fmt.Fprintf(digest, "backend %q\n", name)
	}
	for _, f := range c.artifact.Files {
		sum, err := c.artifact.SHA256(ctx, f.Name)
		if err != nil {
			c.engine.log.Warn("timing backends without remembering the outcome", "model", c.name, "error", err)
			return ""
		}
		fmt.Fprintf(digest, "file %q %x\n", f.Name, sum)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

func (c *choice) betterNames() []string {
	names := make([]string, len(c.better))
	for n, i := range c.better {
		names[n] = c.candidates[i].Backend
	}
	return names
}

// recall is the decision for key, or nil where there is none that makes sense.
func (c *choice) recall(key string) *Decision {
	if key == "" {
		return nil
	}
	d, err := c.engine.decisions.Recall(key)
	if err == nil && d != nil {
		err = d.check(c.betterNames())
	}
	if err != nil {
		c.engine.log.Warn("timing backends again: the remembered decision is of no use", "model", c.name, "key", key, "error", err)
		return nil
	}
	return d
}

// adopt puts what d says into c.candidates and returns the index of the chosen.
func (c *choice) adopt(d *Decision) (chosen int) {
	on := d.Time.UTC().Format(time.DateOnly)
	for n, i := range c.better {
		c.candidates[i] = d.Candidates[n]
		c.candidates[i].Chosen = false // until it is started
		if d.Candidates[n].USPerRow > 0 {
			c.candidates[i].Reason += ", measured on " + on
		} else {
			c.candidates[i].Reason += ", found on " + on
		}
		if d.Candidates[n].Chosen {
			chosen = i
		}
	}
	return chosen
}

// remember keeps what c.candidates say, of which the one with that index is
// chosen, if it will hold.
func (c *choice) remember(key string, chosen int) {
	if key == "" || c.unsettled {
		return
	}
	d := Decision{Time: time.Now().UTC().Truncate(time.Second)}
	for _, i := range c.better {
		candidate := c.candidates[i]
		candidate.Chosen = i == chosen
		d.Candidates = append(d.Candidates, candidate)
	}
	err := d.check(c.betterNames())
	if err == nil {
		err = c.artifact.unchanged()
	}
	if err == nil {
		err = c.engine.decisions.Remember(key, d)
	}
	if err != nil {
		c.engine.log.Warn("the choice of the backend is not remembered, the next load times backends again", "model", c.name, "error", err)
	}
}

// byPreference orders candidates for people: the chosen one, those that were
// timed, fastest first, and the rest as they come.
func byPreference(candidates []Candidate) {
	rank := func(c Candidate) float64 {
		switch {
		case c.Chosen:
			return 0
		case c.USPerRow > 0:
			return c.USPerRow
		}
		return math.Inf(1)
	}
	slices.SortStableFunc(candidates, func(x, y Candidate) int {
		switch a, b := rank(x), rank(y); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
}
