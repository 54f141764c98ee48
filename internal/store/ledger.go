package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
	"github.com/picket-ml/picket/packaging"
	"github.com/picket-ml/picket/packaging/signing"
)

const (
	ledgerFile = "accepted.json"
	// ledgerInWords is what clients are told: the path is none of their business.
	ledgerInWords = ledgerFile + " in the state directory"
	ledgerLock    = "accepted.lock"
	ledgerFormat  = 1
	// maxLedgerBytes is many times what a host runs in its life.
	maxLedgerBytes = 8 << 20
	// maxAccepted bounds the packages that are remembered: the oldest go.
	maxAccepted = 4096
)

// ledger remembers which signed packages the host has run: the highest version of each, below which none may go, and when
// each package was accepted. It is one file in the state directory, replaced as a whole and forced to disk: to lose it would
// be to forget what may not come back. Daemons that share the directory take turns by a lock.
type ledger struct {
	root *os.Root
	now  func() time.Time
}

// ledgerContent is what the file holds.
type ledgerContent struct {
	Format int `json:"picket_accepted"`
	// Clock is the latest time at which a certificate was found to be valid. The host's clock is never believed to be
	// earlier.
	Clock time.Time `json:"clock"`
	// Highest is the highest version of each package by its name.
	Highest map[string]highest `json:"highest"`
	// Accepted is when each package, by digest, was first run.
	Accepted map[string]time.Time `json:"accepted"`
}

type highest struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
}

// read gives what the ledger holds, which is empty for a host that has run nothing. A damaged one is an error: whoever
// could damage it could otherwise bring back an old package.
func (l *ledger) read() (ledgerContent, error) {
	empty := ledgerContent{Format: ledgerFormat, Highest: map[string]highest{}, Accepted: map[string]time.Time{}}
	f, err := l.root.OpenFile(ledgerFile, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("opening %s: %w", ledgerInWords, because(err))
	}
	defer f.Close()
	var data bytes.Buffer
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxLedgerBytes {
		return empty, fmt.Errorf("%s is no file of a sensible size: restore it, or remove it and with it the protection against older packages", ledgerInWords)
	}
	if _, err := data.ReadFrom(f); err != nil {
		return empty, fmt.Errorf("reading %s: %w", ledgerInWords, err)
	}
	c, err := parseLedger(data.Bytes())
	if err != nil {
		return empty, fmt.Errorf("%s is damaged: %w; restore it, or remove it and with it the protection against older packages", ledgerInWords, err)
	}
	return c, nil
}

func parseLedger(data []byte) (ledgerContent, error) {
	var c ledgerContent
	if err := packaging.CheckJSON(data, 4); err != nil {
		return ledgerContent{}, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return ledgerContent{}, err
	}
	if c.Format != ledgerFormat || c.Highest == nil || c.Accepted == nil {
		return ledgerContent{}, fmt.Errorf("it is not of format %d", ledgerFormat)
	}
	for name, h := range c.Highest {
		if err := errors.Join(packaging.CheckName(name), packaging.CheckVersion(h.Version)); err != nil {
			return ledgerContent{}, err
		}
	}
	return c, nil
}

// time is the host's, or what the ledger knows to be past.
func (l *ledger) time(c ledgerContent) time.Time {
	if now := l.now(); now.After(c.Clock) {
		return now
	}
	return c.Clock
}

// doubt says by which clock a certificate was judged, where it was not the host's.
func (l *ledger) doubt(c ledgerContent, err error) error {
	now := l.now()
	if !errors.As(err, new(*signing.ValidityError)) || !now.Before(c.Clock) {
		return err
	}
	return fmt.Errorf("%w; that time is the clock in %s, the latest at which a certificate was found valid, and the clock of this host says %s: if that is right, it was ahead then, and the one in the file may be corrected",
		err, ledgerInWords, now.UTC().Format("2006-01-02 15:04 MST"))
}

// check fails where the package is one that the host may not go back to.
func (c ledgerContent) check(name, version, digest string) error {
	was, known := c.Highest[name]
	if !known {
		return nil
	}
	switch order := packaging.CompareVersions(version, was.Version); {
	case order < 0:
		return fmt.Errorf("version %s of %s is below version %s, which this host has run; if that is meant, allow it by trust.rollback: [%s@%s]", version, name, was.Version, name, version)
	case order == 0 && digest != was.Digest:
		return fmt.Errorf("it is another package than the version %s of %s that this host has run; give it a version of its own, or allow it by trust.rollback: [%s@%s]", was.Version, name, name, version)
	}
	return nil
}

// accept records that the package is run now. dated tells whether its signer's certificate was valid at that time, which
// makes it a time that can be believed.
func (l *ledger) accept(name, version, digest string, at time.Time, dated bool) error {
	lock, err := l.root.OpenFile(ledgerLock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("recording that the package is run: %w", because(err))
	}
	defer lock.Close() // and with it the lock
	if err := osfile.Lock(lock); err != nil {
		return fmt.Errorf("recording that the package is run: locking %s: %w", ledgerLock, err)
	}
	c, err := l.read()
	if err != nil {
		return fmt.Errorf("recording that the package is run: %w", err)
	}
	if !c.note(name, version, digest, at.UTC().Truncate(time.Second), dated) {
		return nil
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = durable.WriteFileIn(l.root, ledgerFile, append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("recording that the package is run, without which older ones could come back: %w", because(err))
	}
	return nil
}

// note changes c, and tells whether it did.
func (c *ledgerContent) note(name, version, digest string, at time.Time, dated bool) (changed bool) {
	if was, known := c.Highest[name]; !known || packaging.CompareVersions(version, was.Version) > 0 {
		c.Highest[name] = highest{version, digest}
		changed = true
	}
	if _, known := c.Accepted[digest]; !known {
		c.Accepted[digest] = at
		changed = true
		for len(c.Accepted) > maxAccepted {
			oldest := ""
			for d, t := range c.Accepted {
				if d != digest && (oldest == "" || t.Before(c.Accepted[oldest])) {
					oldest = d
				}
			}
			delete(c.Accepted, oldest)
		}
	}
	// Once a day is enough to notice a clock that was set back.
	if dated && at.Sub(c.Clock) >= 24*time.Hour {
		c.Clock = at
		changed = true
	}
	return changed
}
