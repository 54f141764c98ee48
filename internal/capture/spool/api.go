package spool

import (
	"errors"
	"log/slog"
	"time"

	"filippo.io/age"

	"github.com/picket-ml/picket/internal/alarm"
	"github.com/picket-ml/picket/internal/capture"
)

// Options is what a Spool is made of. Zero values take what is named here.
type Options struct {
	// Dir is the directory, which is made if it is not there. Not used with FS.
	Dir string
	// FS is where the files are; nil for Dir.
	FS FS
	// MaxBytes is how much the files may take. Default 1 GiB.
	MaxBytes int64
	// MaxAge is how long records may wait; 0 for ever.
	MaxAge time.Duration
	// WhenFull says what gives way. Default DropOldest.
	WhenFull Policy
	// SegmentBytes and SegmentAge are when a segment is sealed. Default 8 MiB and 10 s.
	SegmentBytes int64
	SegmentAge   time.Duration
	// FlushAfter is how long what Put brought may wait. Default 100 ms.
	FlushAfter time.Duration
	// BesideBytes is how large a tensor may be within its record. Default 1 MiB.
	BesideBytes int64
	// Recipients are for whom segments are encrypted; none: they are not.
	Recipients []age.Recipient
	// Identities open what an earlier process has encrypted.
	Identities []age.Identity
	// ReadOnly opens a spool that may be another process's, to look at it: nothing is
	// locked, changed, or set aside.
	ReadOnly bool
	// Log gets what is damaged and what is dropped. Nil for none.
	Log *slog.Logger
	// Now is the clock; nil for the system's.
	Now func() time.Time
	// Alarm makes what the spool waits with until a batch or a segment is due; nil for alarm.New.
	Alarm func() *alarm.Alarm

	blockFrom    int           // 0 is blockFrom; smaller in tests
	readPatience time.Duration // 0 is readPatience; shorter in tests
}

// Policy is what gives way when the spool is full.
type Policy uint8

// The policies.
const (
	DropOldest Policy = iota // what waits the longest
	DropNewest               // what comes
	Stop                     // all that comes, until Resume
	policies
)

// String is the word of the configuration.
func (p Policy) String() string {
	return [policies]string{"drop_oldest", "drop_newest", "stop"}[p]
}

// ParsePolicy reads the word of the configuration.
func ParsePolicy(text string) (Policy, error) {
	for p := range policies {
		if p.String() == text {
			return p, nil
		}
	}
	return 0, errors.New("it is none of drop_oldest, drop_newest and stop")
}

// Errors of Append, Put, Next and Acknowledge.
var (
	// ErrFull: the policy is to refuse what comes, or the disk has no room.
	ErrFull = errors.New("the capture spool is full")
	// ErrBusy: what waits to be written is as much as may wait.
	ErrBusy = errors.New("the capture spool is behind")
	// ErrDisk: writing failed, and the record may or may not be there after a crash.
	ErrDisk = errors.New("the capture spool cannot be written")
	// ErrClosed: the spool was closed.
	ErrClosed = errors.New("the capture spool is closed")
	// ErrKnown: an explicit capture has the id of one that is known.
	ErrKnown = errors.New("the id is known")
	// ErrOwned: another process has the spool.
	ErrOwned = errors.New("the capture spool belongs to another process")
	// ErrKey: the segment is encrypted and no identity opens it.
	ErrKey = errors.New("no identity opens the segment")
	// ErrDamaged: bytes are not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrGone: the segment was dropped or acknowledged meanwhile.
	ErrGone = errors.New("the segment is gone")
)

// Segment is a sealed segment: it does not change any more.
type Segment struct {
	Number uint64
	// First is the sequence number of its first record, Records how many there are,
	// those that are known to be damaged left out.
	First   uint64
	Records int64
	// Bytes is what it takes on disk, with the tensors beside it.
	Bytes int64
	// Made is when it was begun, Sealed when it was sealed, by the clock as it was then.
	Made, Sealed time.Time
}

// Batch is what was made durable together.
type Batch struct {
	// Segment and Offset are where it lies, Sequence is its first record's number.
	Segment  uint64
	Offset   int64
	Sequence uint64
	Time     time.Time
	Records  []capture.Record
}

// Payload is a batch whose records are still in their bytes, in the clear.
type Payload struct {
	// Segment, Offset and Size are where it lies, Sequence is its first record's number
	// and Count how many there are.
	Segment      uint64
	Offset, Size int64
	// Spool is the spool's half of record ids.
	Spool    uint64
	Sequence uint64
	Count    int
	Time     time.Time
	Bytes    []byte
}

// Outcome is what became of the records that are acknowledged.
type Outcome struct {
	// Withheld are those that the policy let not leave; the others are uploaded.
	Withheld int64
	// Unread are those whose bytes made no sense: they count as quarantined.
	Unread int64
}

// Stats is what a spool has done. At any moment Accepted is the sum of Uploaded,
// OnDisk, Dropped and Quarantined; these five survive the process.
type Stats struct {
	Accepted    int64   `json:"accepted"`
	Uploaded    int64   `json:"uploaded"`
	OnDisk      int64   `json:"on_disk"`
	Dropped     Dropped `json:"dropped"`
	Quarantined int64   `json:"quarantined"`

	// Refused are records that were never accepted, since this process opened the
	// spool.
	Refused Refused `json:"-"`
	// Bytes is what the files take, Limit what they may; Segments how many wait.
	Bytes    int64 `json:"bytes"`
	Limit    int64 `json:"limit_bytes"`
	Segments int   `json:"segments"`
	// DamagedRanges and DamagedBytes are what was found damaged since the spool was
	// opened.
	DamagedRanges int64 `json:"damaged_ranges"`
	DamagedBytes  int64 `json:"damaged_bytes"`
	// Oldest is when the oldest record that waits was accepted, zero if none does.
	Oldest time.Time `json:"oldest,omitzero"`
	// Batches and Syncs are what was written since the spool was opened.
	Batches int64 `json:"-"`
	// Stopped says that the policy has stopped capturing.
	Stopped bool `json:"stopped,omitempty"`
}

// Dropped are records that were accepted and will not leave, by reason.
type Dropped struct {
	Quota  int64 `json:"quota"`
	Age    int64 `json:"age"`
	Policy int64 `json:"policy"`
	Lost   int64 `json:"lost"` // with both copies of the head
}

// Total is their sum.
func (d Dropped) Total() int64 { return d.Quota + d.Age + d.Policy + d.Lost }

// Refused are records that were not accepted, by reason.
type Refused struct {
	Full, Busy, Disk int64
}
