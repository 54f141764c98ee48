package cloudwatch

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/picket-ml/picket/internal/durable"
	"github.com/picket-ml/picket/internal/osfile"
)

// Of how old, and of how far ahead, CloudWatch takes metrics, with some room for
// clocks that differ and requests that take their time.
const (
	maxAge   = 14*24*time.Hour - time.Hour
	maxAhead = 2*time.Hour - 5*time.Minute
)

// The reasons for which metrics are given up.
const (
	lostFull    = "full"    // there was no room for them
	lostOld     = "old"     // CloudWatch does not take what is so old
	lostAhead   = "ahead"   // a clock that was wrong
	lostRefused = "refused" // CloudWatch found fault with them
	lostDamaged = "damaged" // what was on disk is not what was written
)

var lossReasons = []string{lostFull, lostOld, lostAhead, lostRefused, lostDamaged}

// item is a batch that waits.
type item struct {
	name  string // also of its file; they sort by time
	time  time.Time
	count int // of metrics
	bytes int64
	data  []byte // encoded, of one that is not on disk
}

// backlog holds batches until they are sent, in files of a directory that it has to
// itself, each written as a whole before it counts. It may be used by several
// goroutines at once.
type backlog struct {
	dir   string // empty for memory alone
	limit int64
	log   *slog.Logger

	mu      sync.Mutex
	root    *os.Root // nil while the directory is not ours
	lock    *os.File
	items   []item // ascending by name
	bytes   int64
	serial  uint64
	lost    map[string]uint64 // metrics, by reason
	trouble bool              // was said of the disk
}

const (
	lockName   = "lock"
	itemSuffix = ".json.gz"
	// maxItem bounds a file of the directory, and what it unpacks to.
	maxItem = 16 << 20
)

var itemName = regexp.MustCompile(`^[0-9]{19}-[0-9]{6}\.json\.gz$`)

func newBacklog(dir string, limit int64, log *slog.Logger) *backlog {
	return &backlog{dir: dir, limit: limit, log: log, lost: map[string]uint64{}}
}

// errOwned: the directory is another process's for now, as while a daemon hands over
// to a new one.
var errOwned = errors.New("it belongs to another process")

// open takes possession of the directory, if that was not done yet, and finds what an
// earlier process has left. Until it succeeds batches wait in memory.
func (b *backlog) open() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dir == "" || b.root != nil {
		return nil
	}
	if err := durable.MkdirAll(b.dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return err
	}
	lock, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		_ = root.Close() // nothing was written
		return err
	}
	if err := osfile.TryLock(lock); err != nil {
		_, _ = lock.Close(), root.Close() // nothing was written
		return errOwned
	}
	b.root, b.lock = root, lock
	if err := b.find(); err != nil {
		_, _ = lock.Close(), root.Close() // nothing was written
		b.root, b.lock = nil, nil
		return err
	}
	for i := range b.items {
		if b.items[i].data != nil {
			b.store(&b.items[i])
		}
	}
	b.shrink()
	return nil
}

// find lists the batches that are there, and removes what was not written to its end.
func (b *backlog) find() error {
	entries, err := fs.ReadDir(b.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), durable.NewSuffix) {
			_ = b.root.Remove(e.Name()) // if it stays it is in nobody's way
			continue
		}
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() || !itemName.MatchString(e.Name()) {
			continue
		}
		var nanos int64
		if _, err := fmt.Sscanf(e.Name(), "%d-", &nanos); err != nil {
			continue
		}
		b.items = append(b.items, item{name: e.Name(), time: time.Unix(0, nanos), bytes: info.Size()})
		b.bytes += info.Size()
	}
	slices.SortFunc(b.items, func(x, y item) int { return strings.Compare(x.name, y.name) })
	return nil
}

// add keeps a batch, on disk where that can be.
func (b *backlog) add(one *batch) error {
	data, err := encodeBatch(one)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serial++
	i := item{
		name: fmt.Sprintf("%019d-%06d%s", max(one.Time.UnixNano(), 0), b.serial%1_000_000, itemSuffix), time: one.Time,
		count: len(one.Data), bytes: int64(len(data)), data: data,
	}
	if b.root != nil {
		b.store(&i)
	}
	at, there := slices.BinarySearchFunc(b.items, i.name, func(x item, name string) int { return strings.Compare(x.name, name) })
	if there {
		b.forget(at, "") // written by an earlier process in the same nanosecond: replaced
	}
	b.items = slices.Insert(b.items, at, i)
	b.bytes += i.bytes
	b.shrink()
	return nil
}

// store puts an item on disk. Where that fails it stays in memory, which is said once.
func (b *backlog) store(i *item) {
	err := durable.WriteFileIn(b.root, i.name, i.data, 0o600)
	if err == nil {
		i.data = nil
		if b.trouble {
			b.trouble = false
			b.log.Info("metrics are kept on disk again", "directory", b.dir)
		}
		return
	}
	if !b.trouble {
		b.trouble = true
		b.log.Warn("metrics that wait to be sent are kept in memory only: they cannot be written", "directory", b.dir, "error", err)
	}
}

// shrink drops the oldest while there are more bytes than there may be.
func (b *backlog) shrink() {
	for b.bytes > b.limit && len(b.items) > 0 {
		b.forget(0, lostFull)
	}
}

// forget takes an item out. Its metrics are lost for the reason, or sent where that is
// empty.
func (b *backlog) forget(at int, reason string) {
	i := b.items[at]
	b.items = slices.Delete(b.items, at, at+1)
	b.bytes -= i.bytes
	if reason != "" {
		b.lost[reason] += uint64(max(i.count, 1)) // of one that an earlier process left it is not known
	}
	if i.data == nil && b.root != nil {
		if err := b.root.Remove(i.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			b.log.Warn("a batch of metrics that is done with cannot be removed and may be sent again", "file", i.name, "error", err)
		}
	}
}

// newest gives the latest batch that CloudWatch would take; ok is false for none. It
// stays until done is called with its name.
func (b *backlog) newest(now time.Time) (one batch, name string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire(now)
	for len(b.items) > 0 {
		at := len(b.items) - 1
		i := b.items[at]
		data := i.data
		var err error
		if data == nil {
			data, err = b.read(i.name)
		}
		if err == nil {
			one, err = decodeBatch(data)
		}
		if err == nil {
			b.items[at].count = len(one.Data)
			return one, i.name, true
		}
		b.log.Warn("a batch of metrics cannot be read and is given up", "file", i.name, "error", err)
		b.forget(at, lostDamaged)
	}
	return batch{}, "", false
}

// expire drops what CloudWatch would refuse for its time.
func (b *backlog) expire(now time.Time) {
	for at := len(b.items) - 1; at >= 0; at-- {
		switch age := now.Sub(b.items[at].time); {
		case age > maxAge:
			b.forget(at, lostOld)
		case age < -maxAhead:
			b.forget(at, lostAhead)
		}
	}
}

func (b *backlog) read(name string) ([]byte, error) {
	f, err := b.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxItem))
}

// done takes a batch out: it was sent, but for so many metrics that were refused.
func (b *backlog) done(name string, refused int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost[lostRefused] += uint64(refused)
	if at, there := slices.BinarySearchFunc(b.items, name, func(x item, name string) int { return strings.Compare(x.name, name) }); there {
		b.forget(at, "")
	}
}

// waiting is how many batches there are, and what they take.
func (b *backlog) waiting() (batches int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.items), b.bytes
}

// losses are metrics that were given up, by reason.
func (b *backlog) losses() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]uint64{}
	for _, reason := range lossReasons {
		all[reason] = b.lost[reason]
	}
	return all
}

// close gives the directory back. What waits in memory alone is gone.
func (b *backlog) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.root == nil {
		return nil
	}
	err := errors.Join(b.lock.Close(), b.root.Close())
	b.root, b.lock = nil, nil
	return err
}

func encodeBatch(one *batch) ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := errors.Join(json.NewEncoder(z).Encode(one), z.Close()); err != nil {
		return nil, fmt.Errorf("keeping metrics: %w", err)
	}
	return packed.Bytes(), nil
}

// decodeBatch reads what encodeBatch wrote, and refuses what it would not have
// written.
func decodeBatch(data []byte) (batch, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return batch{}, err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxItem+1))
	if err != nil {
		return batch{}, err
	}
	if len(text) > maxItem {
		return batch{}, fmt.Errorf("it has more than %d bytes", maxItem)
	}
	var one batch
	if err := json.Unmarshal(text, &one); err != nil {
		return batch{}, err
	}
	if len(one.Data) == 0 || len(one.Data) > maxDatums {
		return batch{}, fmt.Errorf("it has %d metrics, it must be 1 to %d", len(one.Data), maxDatums)
	}
	for _, d := range one.Data {
		if d.Name == "" || len(d.Values) == 0 || len(d.Values) > maxValues || d.Counts != nil && len(d.Counts) != len(d.Values) {
			return batch{}, errors.New("one of its metrics has no name, or not as many counts as values")
		}
	}
	return one, nil
}
