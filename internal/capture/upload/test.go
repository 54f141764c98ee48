package upload

import (
	"context"
	"path"

	"github.com/picket-ml/picket/internal/capture/format"
	"github.com/picket-ml/picket/internal/capture/residency"
)

// Sent is an object that a test brought to the destination.
type Sent struct {
	Object string `json:"object"`
	Format string `json:"format"`
	Bytes  int    `json:"bytes"`
	Tag    string `json:"etag,omitempty"`
	// Line is the number of its line in the audit log.
	Line uint64 `json:"audit_line"`
	// Content is what the object is before compression; nil where that is no text.
	Content []byte `json:"-"`
}

// testFolder is above what tests send, so that no reader of records takes it for some.
const testFolder = "picket-test"

// Test sends one record as Run would: through the policy, the formats and the audit log,
// and to the destination, once. The record is r's caller's no more. What was sent is
// returned after an error too.
func Test(ctx context.Context, o Options, r format.Record) ([]Sent, error) {
	if err := o.Policy.Apply(&r); err != nil {
		return nil, err
	}
	if err := o.Audit.Begin(o.Policy); err != nil {
		return nil, audited(err)
	}
	o.Format.Ref = o.Destination.URL
	o.Format.Prefix = path.Join(o.Format.Prefix, testFolder)
	var all []Sent
	for _, kind := range o.KindsOf(r.Model) {
		o.Format.Kind = kind
		objects, err := format.Encode(o.Format, &format.Batch{Model: r.Model, Records: []format.Record{r}})
		if err != nil {
			return all, err
		}
		for i := range objects {
			sent, err := testObject(ctx, &o, &objects[i], r.Model)
			if err != nil {
				return all, err
			}
			all = append(all, sent)
		}
	}
	return all, nil
}

func testObject(ctx context.Context, o *Options, object *format.Object, model string) (Sent, error) {
	item := &Item{}
	if err := newItem(item, object, o.Compression); err != nil {
		return Sent{}, err
	}
	entry := entryOf(residency.Entry{Event: residency.Sending, Kind: "test", Model: model, Count: 1}, o.Policy, o.Destination, item)
	line, err := o.Audit.Append(entry)
	if err != nil {
		return Sent{}, audited(err)
	}
	note(item, line)
	tag, err := o.Destination.Put(ctx, item)
	if err != nil {
		return Sent{}, err
	}
	entry.Event, entry.Tag = residency.Stored, tag
	if _, err := o.Audit.Append(entry); err != nil {
		return Sent{}, audited(err)
	}
	s := Sent{Object: entry.Object, Format: string(o.Format.Kind), Bytes: len(item.Body), Tag: tag, Line: line.Number}
	if !object.Packed {
		s.Content = object.Content
	}
	return s, nil
}
