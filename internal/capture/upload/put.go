package upload

import (
	"context"
	"crypto/sha256"
	"errors"
	"strconv"
	"time"

	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
	"github.com/picket-ml/picket/internal/capture/spool"
)

// put brings one object to the destination: a line in the audit log, as many attempts as
// it takes, and another line. entry says what it is made of. The error is that of ctx, or spool.ErrGone: what the spool has
// dropped does not go, if it has not already.
func (u *Uploader) put(ctx context.Context, item *Item, entry residency.Entry) error {
	entry = entryOf(entry, u.o.Policy, u.o.Destination, item)
	if err := u.untilDone(ctx, func() (err error) {
		sending := entry
		sending.Event = residency.Sending
		sending, err = u.o.Audit.Append(sending)
		note(item, sending)
		return audited(err)
	}); err != nil {
		return err
	}
	var tag string
	gone := false
	if err := u.gate.pass(ctx, func(ctx context.Context) (err error) {
		if gone = !u.holds(entry.Segment); gone {
			return errSkipped
		}
		tag, err = u.o.Destination.Put(ctx, item)
		return err
	}); err != nil && !errors.Is(err, errSkipped) {
		return err
	}
	entry.Event, entry.Tag = residency.Stored, tag
	if gone {
		// An attempt may have arrived all the same: recover asks.
		return spool.ErrGone
	}
	if err := u.enter(ctx, entry); err != nil {
		return err
	}
	u.counters.change(func(c *Stats) {
		c.Objects++
		c.Bytes += uint64(len(item.Body))
		c.Uncompressed += uint64(item.Size)
		c.Last = time.Now()
	})
	return nil
}

// newItem makes item of an object: it compresses it.
func newItem(item *Item, object *format.Object, c Compression) error {
	*item = Item{Key: object.Key, Body: object.Content, Content: sha256.Sum256(object.Content), Size: len(object.Content), ContentType: object.ContentType}
	if object.Packed {
		return nil
	}
	body, err := c.compress(object.Content)
	if err != nil {
		return err
	}
	item.Body, item.Key = body, item.Key+c.suffix()
	return nil
}

// entryOf is entry with what is known of the object.
func entryOf(entry residency.Entry, p *residency.Policy, d Destination, item *Item) residency.Entry {
	entry.Policy, entry.Version = p.Digest(), p.Version()
	entry.Object, entry.Bytes = d.URL(item.Key), int64(len(item.Body))
	entry.SHA256, entry.ContentSHA256 = hexOf(sha256.Sum256(item.Body)), hexOf(item.Content)
	return entry
}

// note puts the line of the audit log beside the object, so that the object vouches for
// the log: a log whose end was cut off lacks lines that objects name.
func note(item *Item, e residency.Entry) {
	item.Notes = map[string]string{"picket-audit-line": strconv.FormatUint(e.Number, 10), "picket-audit-hash": e.Hash, "picket-policy": e.Policy}
}
