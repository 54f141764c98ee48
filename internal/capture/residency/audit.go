package residency

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

const (
	auditPrefix = "audit-"
	auditSuffix = ".jsonl"
	auditLock   = "audit.lock"
	// rotateAt is the size above which Settle begins a new file, so that what is read
	// at a start stays small however old the log is.
	rotateAt = 16 << 20
	// maxTail bounds what is read at a start: a file is rotateAt long, and what one
	// segment adds.
	maxTail = 1 << 30
)

// Audit is the log of what left this host, in a directory of files that are only ever
// appended to. Processes that share it take turns by a lock, a line at a time. Its
// methods may be called by any number of goroutines.
type Audit struct {
	dir  string
	now  func() time.Time
	lock *os.File
	// rotateAt is rotateAt, but in tests.
	rotateAt int64

	mu       sync.Mutex
	file     *os.File // nil after an error: the next Append reads the end of the log again
	size     int64
	number   uint64
	hash     string
	policy   string             // digest of the last policy that began
	unstored map[string]Entry   // sent in this file and not stored, by object
	stored   map[uint64][]Entry // stored in this file, by segment
	closed   bool
}

// NewAudit is the log in dir, which is made and read when something is to be written:
// Begin and Append fail where that cannot be.
//
// A last line that a crash cut short is taken off: no object goes before its line is
// whole and on disk. A log whose end is damaged in any other way is an error, and nothing
// may leave: an operator has to look.
func NewAudit(dir string) *Audit {
	return &Audit{dir: dir, now: time.Now, rotateAt: rotateAt}
}

// locked calls do while no other process appends. The caller holds mu.
func (a *Audit) locked(do func() error) error {
	if a.closed {
		return errors.New("writing the audit log: it is closed")
	}
	if a.lock == nil {
		if err := durable.MkdirAll(a.dir, 0o700); err != nil {
			return fmt.Errorf("making the directory of the audit log: %w", err)
		}
		lock, err := os.OpenFile(filepath.Join(a.dir, auditLock), os.O_RDWR|os.O_CREATE|osfile.NoFollow, 0o600)
		if err != nil {
			return fmt.Errorf("opening the lock of the audit log: %w", err)
		}
		a.lock = lock
	}
	if err := osfile.Lock(a.lock); err != nil {
		return fmt.Errorf("locking the audit log: %w", err)
	}
	defer func() { _ = osfile.Unlock(a.lock) }() // closing it unlocks it too
	if !a.current() {
		if err := a.resume(); err != nil {
			return err
		}
	}
	return do()
}

// resume reads the last file and opens it to append. The caller holds mu and the lock.
func (a *Audit) resume() error {
	a.drop()
	names, err := auditFiles(a.dir)
	if err != nil {
		return err
	}
	a.number, a.hash, a.policy, a.size = 0, firstPrevious, "", 0
	a.unstored, a.stored = map[string]Entry{}, map[uint64][]Entry{}
	if len(names) == 0 {
		return a.begin()
	}
	name := filepath.Join(a.dir, names[len(names)-1])
	f, err := os.OpenFile(name, os.O_RDWR|osfile.NoFollow|syscall.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	if err := a.readTail(f, names); err != nil {
		_ = f.Close() // it is not used
		return fmt.Errorf("the audit log %s cannot be continued, so nothing may leave: %w", name, err)
	}
	a.file = f
	return nil
}

func (a *Audit) readTail(f *os.File, names []string) error {
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxTail {
		return errors.New("it is no file of a sensible size")
	}
	v := verifier{}
	if len(names) > 1 || firstNumber(names[0]) > 1 {
		v.trustFirst = true // what is before was verified when it was written, and is by picket audit
	}
	whole, err := v.file(f, firstNumber(names[len(names)-1]), func(e Entry) error {
		a.note(e)
		return nil
	})
	if err != nil {
		return err
	}
	if err := f.Truncate(whole); err != nil {
		return fmt.Errorf("taking off what a crash left: %w", err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if _, err := f.Seek(whole, io.SeekStart); err != nil {
		return err
	}
	if whole == 0 {
		// A crash came between making the file and its first line.
		if a.number, a.hash, err = lastOfBefore(a.dir, names); err != nil {
			return err
		}
	}
	a.size = whole
	return nil
}

// lastOfBefore is the number and the hash of the last line before the last file.
func lastOfBefore(dir string, names []string) (uint64, string, error) {
	if len(names) == 1 {
		if firstNumber(names[0]) != 1 {
			return 0, "", errors.New("it is empty, and the file before it is gone")
		}
		return 0, firstPrevious, nil
	}
	f, err := os.Open(filepath.Join(dir, names[len(names)-2]))
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	var last Entry
	v := verifier{trustFirst: true}
	_, err = v.file(f, firstNumber(names[len(names)-2]), func(e Entry) error { last = e; return nil })
	return last.Number, last.Hash, err
}

// note takes e into what is known.
func (a *Audit) note(e Entry) {
	a.number, a.hash = e.Number, e.Hash
	switch e.Event {
	case Began:
		a.policy = e.Policy
	case Sending:
		a.unstored[e.Object] = e
		// Segments go one after the other: those before this one are through.
		for segment := range a.stored {
			if e.Segment > segment {
				delete(a.stored, segment)
			}
		}
	case Abandoned:
		delete(a.unstored, e.Object)
	case Stored:
		delete(a.unstored, e.Object)
		if e.Segment > 0 {
			a.stored[e.Segment] = append(a.stored[e.Segment], e)
		}
	}
}

// begin makes the file for the next line, and has the directory know it.
func (a *Audit) begin() error {
	f, err := os.OpenFile(a.name(a.number+1), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making a file of the audit log: %w", err)
	}
	if err := durable.SyncFolder(a.dir); err != nil {
		_ = f.Close() // nothing was written to it
		return fmt.Errorf("making a file of the audit log: %w", err)
	}
	a.drop()
	a.file, a.size = f, 0
	return nil
}

// name is that of the file whose first line has that number.
func (a *Audit) name(number uint64) string {
	return filepath.Join(a.dir, fmt.Sprintf("%s%016d%s", auditPrefix, number, auditSuffix))
}

// Append writes one line and returns it when it is on disk. After an error nothing is
// known to be there, and what the line is about must not go; the next call tries again.
func (a *Audit) Append(e Entry) (Entry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.locked(func() (err error) {
		e, err = a.append(e)
		return err
	})
	return e, err
}

// append is Append under the locks.
func (a *Audit) append(e Entry) (Entry, error) {
	e.Number, e.Previous, e.Time = a.number+1, a.hash, a.now().UTC()
	line, err := e.encode()
	if err != nil {
		return Entry{}, err
	}
	if _, err = a.file.Write(line); err == nil {
		err = a.file.Sync()
	}
	if err != nil {
		// What of the line is there is found out by reading it again.
		a.drop()
		return Entry{}, fmt.Errorf("writing the audit log, without which nothing may leave: %w", err)
	}
	a.size += int64(len(line))
	a.note(e)
	return e, nil
}

// current tells whether nobody else has appended since.
func (a *Audit) current() bool {
	if a.file == nil {
		return false
	}
	info, err := a.file.Stat()
	if err != nil || info.Size() != a.size {
		return false
	}
	if named, err := os.Lstat(a.file.Name()); err != nil || !os.SameFile(named, info) {
		return false // it was taken away
	}
	if a.size == 0 {
		return true // its name is that of the next line
	}
	_, err = os.Lstat(a.name(a.number + 1))
	return errors.Is(err, os.ErrNotExist) // else another process has begun the next file
}

// Begin reads the end of the log, and writes that the policy is in force, if it is not
// the one that was. Unstored and Stored know nothing before.
func (a *Audit) Begin(p *Policy) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.locked(func() error {
		if a.policy == p.Digest() {
			return nil
		}
		_, err := a.append(Entry{Event: Began, Policy: p.Digest(), Version: p.Version(), Text: p.Text()})
		return err
	})
}

// Unstored are the objects that were sent, in the order of their numbers, and of which
// nobody knows whether they arrived.
func (a *Audit) Unstored() []Entry {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []Entry
	for _, e := range a.unstored {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return cmp.Compare(a.Number, b.Number) })
	return all
}

// Stored are the records of the segment that is under way that the destination has, by
// the kind of the objects that hold them.
func (a *Audit) Stored(spool string, segment uint64) map[string]Spans {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := map[string]Spans{}
	for _, e := range a.stored[segment] {
		if e.Spool != spool {
			continue
		}
		s, err := parseNumbers(e.Records)
		if err != nil {
			continue // it was written by this program, and its hash is right
		}
		all[e.Kind] = append(all[e.Kind], s...)
	}
	for _, spans := range all {
		slices.SortFunc(spans, func(a, b Span) int { return cmp.Compare(a.First, b.First) })
	}
	return all
}

// Settle forgets what is stored of the segment that was under way, now that it is gone
// from the spool, and begins a new file where the last is large.
func (a *Audit) Settle() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.stored) // one segment is under way at a time
	if a.file == nil || a.closed || a.size < a.rotateAt || len(a.unstored) > 0 || len(a.stored) > 0 {
		return nil
	}
	return a.locked(func() error {
		if a.size < a.rotateAt {
			return nil // another process was first
		}
		return a.begin()
	})
}

// Head is the number and the hash of the last line.
func (a *Audit) Head() (number uint64, hash string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.number, a.hash
}

// Close ends the use of the log.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	var err error
	if a.file != nil {
		err = a.file.Close()
	}
	if a.lock != nil {
		err = errors.Join(err, a.lock.Close())
	}
	return err
}

// auditFiles are the names of a log's files, the oldest first.
func auditFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the audit log: there is no folder %s: nothing was sent from here yet, or the log is elsewhere", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the directory of the audit log: %w", err)
	}
	var names []string
	for _, e := range entries {
		if firstNumber(e.Name()) > 0 {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names) // the numbers have leading zeros
	return names, nil
}

// firstNumber is the number in the name of a log's file, 0 for other files.
func firstNumber(name string) uint64 {
	digits, begins := strings.CutPrefix(name, auditPrefix)
	digits, ends := strings.CutSuffix(digits, auditSuffix)
	if !begins || !ends || len(digits) != 16 {
		return 0
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// verifier follows the chain from file to file.
type verifier struct {
	// trustFirst takes the first line's predecessor for granted.
	trustFirst bool
	started    bool
	number     uint64
	hash       string
}

// file follows the chain through one file, whose name says the number of its first line.
// whole is where its last whole line ends; what is behind it, and has no end of line, is
// not judged.
func (v *verifier) file(f io.Reader, first uint64, visit func(Entry) error) (whole int64, err error) {
	r := bufio.NewReaderSize(f, 64<<10)
	for n := first; ; n++ {
		line, err := readLine(r)
		if errors.Is(err, io.EOF) {
			return whole, nil
		}
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		e, err := decodeEntry(line)
		if err != nil {
			return whole, fmt.Errorf("line %d: %w", n, err)
		}
		if !v.started {
			v.started, v.number, v.hash = true, 0, firstPrevious
			if v.trustFirst {
				v.number, v.hash = first-1, e.Previous
			}
		}
		if e.Number != n || e.Number != v.number+1 || e.Previous != v.hash {
			return whole, fmt.Errorf("line %d does not follow line %d: lines were taken out, put in or changed", e.Number, v.number)
		}
		v.number, v.hash = e.Number, e.Hash
		if err := visit(e); err != nil {
			return whole, err
		}
		whole += int64(len(line)) + 1
	}
}

// drop closes the file, of which every line was synced, or is read again.
func (a *Audit) drop() {
	if a.file != nil {
		_ = a.file.Close()
		a.file = nil
	}
}

// readLine is the next line without its end. io.EOF: there is no whole one.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte("\n")), nil
		case errors.Is(err, bufio.ErrBufferFull) && len(line) <= maxLine:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errors.New("it is longer than any line of an audit log")
		default:
			return nil, err
		}
	}
}

// Summary is what VerifyAudit found.
type Summary struct {
	Files int `json:"files"`
	// First and Last are the numbers of the first and the last line; 0 of an empty log.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
	// Hash is that of the last line. Every object in S3 carries the number and the hash
	// of its own line, so that a log whose end was cut off disagrees with them.
	Hash string `json:"hash"`
	// Torn is whether a crash, or a writer at work, has left the beginning of a line.
	Torn bool `json:"torn"`
	// Sent and Stored count objects.
	Sent   uint64 `json:"sent"`
	Stored uint64 `json:"stored"`
}

// VerifyAudit reads the whole log in dir without changing it, follows the chain, and
// gives each line to visit. It may run beside a daemon that writes. The first file's
// predecessor is taken for granted where older files were moved away.
func VerifyAudit(dir string, visit func(Entry) error) (Summary, error) {
	var s Summary
	names, err := auditFiles(dir)
	if err != nil {
		return s, err
	}
	if len(names) == 0 {
		return s, fmt.Errorf("there is no audit log in %s", dir)
	}
	v := verifier{trustFirst: firstNumber(names[0]) > 1}
	for i, name := range names {
		err := func() error {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|osfile.NoFollow|syscall.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil || !info.Mode().IsRegular() {
				return fmt.Errorf("%s is no file", name)
			}
			whole, err := v.file(f, firstNumber(name), func(e Entry) error {
				if s.First == 0 {
					s.First = e.Number
				}
				s.Last, s.Hash = e.Number, e.Hash
				switch e.Event {
				case Sending:
					s.Sent++
				case Stored:
					s.Stored++
				}
				return visit(e)
			})
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if whole < info.Size() {
				if i < len(names)-1 {
					return fmt.Errorf("%s ends in the middle of a line, and there is a file after it", name)
				}
				s.Torn = true
			}
			return nil
		}()
		if err != nil {
			return s, fmt.Errorf("verifying the audit log: %w", err)
		}
		s.Files++
	}
	return s, nil
}
