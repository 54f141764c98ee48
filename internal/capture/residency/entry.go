package residency

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Event is what a line of the audit log is about.
type Event string

// The events of a log. An object has one Sending in each life of the daemon that tries
// to bring it there, however often it tries, and one Stored when the destination has
// it. What was sent and never stored may have arrived: the answer was lost.
const (
	Began   Event = "policy" // this policy is in force from here on
	Sending Event = "sending"
	Stored  Event = "stored"
	// Abandoned is for an object that was sent and is not there, and will not be sent
	// again under this name.
	Abandoned Event = "abandoned"
)

// Entry is one line of the audit log.
type Entry struct {
	// Number, Time, Previous and Hash are set by Append. Previous is the Hash of the
	// line before, and of the first line the digest of nothing.
	Number   uint64    `json:"n"`
	Time     time.Time `json:"time"`
	Previous string    `json:"previous"`
	Event    Event     `json:"event"`
	// Policy is the digest of the policy in force, and Version what its author calls it.
	Policy  string `json:"policy"`
	Version string `json:"policy_version,omitempty"`
	// Text is the whole policy, where it began.
	Text json.RawMessage `json:"policy_text,omitempty"`

	// Object is where the bytes go, such as s3://bucket/key. SHA256 is the digest of
	// the Bytes bytes that go, ContentSHA256 that of what they are before compression.
	Object        string `json:"object,omitempty"`
	Bytes         int64  `json:"bytes,omitempty"`
	SHA256        string `json:"sha256,omitempty"`
	ContentSHA256 string `json:"content_sha256,omitempty"`
	// Kind is what the object is: records, payload, truth, metrics or test.
	Kind  string `json:"kind,omitempty"`
	Model string `json:"model,omitempty"`
	// Spool, Segment and Records name the records: "17-40,52" are sequence numbers.
	Spool   string `json:"spool,omitempty"`
	Segment uint64 `json:"segment,omitempty"`
	Records string `json:"records,omitempty"`
	Count   int    `json:"count,omitempty"`
	// Tag is what the store calls what it has: an ETag.
	Tag string `json:"etag,omitempty"`

	Hash string `json:"-"`
}

// maxLine is the longest line that is written or read: a policy of some hundred
// features, or an object of records of which every second is another model's.
const maxLine = 1 << 20

// firstPrevious is what the first line of a log has for its predecessor.
var firstPrevious = hex.EncodeToString(make([]byte, sha256.Size))

const hashKey = `,"hash":"`

// encode is the line of e with its hash: the digest of all bytes of the line before
// the key "hash".
func (e *Entry) encode() ([]byte, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding a line of the audit log: %w", err)
	}
	body = body[:len(body)-1] // without the closing brace
	sum := sha256.Sum256(body)
	e.Hash = hex.EncodeToString(sum[:])
	line := slices.Concat(body, []byte(hashKey), []byte(e.Hash), []byte("\"}\n"))
	if len(line) > maxLine {
		return nil, fmt.Errorf("a line of the audit log would have %d bytes, at most %d are read again", len(line), maxLine)
	}
	return line, nil
}

// decodeEntry reads a line without its end, and checks it against its own hash.
func decodeEntry(line []byte) (Entry, error) {
	at := bytes.LastIndex(line, []byte(hashKey))
	if at < 0 || len(line) != at+len(hashKey)+2*sha256.Size+len("\"}") || !bytes.HasSuffix(line, []byte("\"}")) {
		return Entry{}, errors.New("it is no line of an audit log")
	}
	body, hash := line[:at], string(line[at+len(hashKey):len(line)-2])
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != hash {
		return Entry{}, errors.New("its hash is not that of the line: it was changed")
	}
	var e Entry
	whole := append(bytes.Clone(body), '}')
	d := json.NewDecoder(bytes.NewReader(whole))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return Entry{}, fmt.Errorf("it is no line of an audit log: %w", err)
	}
	e.Hash = hash
	return e, nil
}

// Numbers is a set of record numbers in the form of Entry.Records. They are added in
// rising order.
type Numbers struct {
	text        strings.Builder
	first, last uint64
	count       int
}

// Add adds one number, above all before.
func (n *Numbers) Add(v uint64) {
	if n.count > 0 && v == n.last+1 {
		n.last = v
		n.count++
		return
	}
	n.flush()
	n.first, n.last = v, v
	n.count++
}

func (n *Numbers) flush() {
	if n.count == 0 {
		return
	}
	if n.text.Len() > 0 {
		n.text.WriteByte(',')
	}
	n.text.WriteString(strconv.FormatUint(n.first, 10))
	if n.last != n.first {
		n.text.WriteByte('-')
		n.text.WriteString(strconv.FormatUint(n.last, 10))
	}
}

// String ends the set.
func (n *Numbers) String() string {
	n.flush()
	n.count = 0
	return n.text.String()
}

// Span is a range of numbers, both ends in it.
type Span struct{ First, Last uint64 }

// Spans are ranges in rising order that do not overlap.
type Spans []Span

// Has tells whether a number is in one of them.
func (s Spans) Has(n uint64) bool {
	i, found := slices.BinarySearchFunc(s, n, func(s Span, n uint64) int { return cmp.Compare(s.First, n) })
	return found || i > 0 && n <= s[i-1].Last
}

// parseNumbers reads the form of Entry.Records.
func parseNumbers(text string) (Spans, error) {
	var spans Spans
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(low, 10, 64)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(high, 10, 64)
		}
		if err != nil || last < first || len(spans) > 0 && first <= spans[len(spans)-1].Last {
			return nil, fmt.Errorf("%.40q is no set of record numbers", text)
		}
		spans = append(spans, Span{first, last})
	}
	return spans, nil
}
