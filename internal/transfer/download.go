package transfer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/picket-ml/picket/internal/cloud"
	"github.com/picket-ml/picket/internal/oserror"
	"github.com/picket-ml/picket/internal/osfile"
)

// download is one object on its way into a part file. The file is written by its workers, each in a part of its own, and
// read behind them where the digest can only be computed in order.
type download struct {
	from  Object
	want  Description
	o     PullOptions
	part  *os.File
	about *os.File

	now  *state         // what Have says here is what was saved; the bytes that are here are in have
	have []atomic.Int64 // of each part, how many of its first bytes are in the file
	got  atomic.Int64   // their sum

	writing sync.Mutex // held by the worker that writes: a file has one writer at a time, and in the kernel the others would spin

	mu     sync.Mutex
	next   int  // the part that is looked at next
	failed bool // the round ends

	tree *tree         // nil where the object has no digest of that kind
	came chan struct{} // without it: a token when there is more to hash
}

func newDownload(from Object, want Description, part, about *os.File, o PullOptions) *download {
	size := o.PartBytes
	for want.Size/size >= maxParts {
		size *= 2
	}
	d := &download{from: from, want: want, o: o, part: part, about: about, came: make(chan struct{}, 1)}
	d.now = &state{Bucket: from.Bucket, Key: from.Key, ETag: want.ETag, Size: want.Size, Part: size}
	d.now.Have = make([]int64, d.now.parts())
	if want.Tree != "" && want.Size <= maxTree {
		d.tree = newTree(want.Size)
	}
	return d
}

// prepare goes on from what an earlier try left, and makes sure of the room for the rest.
func (d *download) prepare() error {
	if old := loadState(d.about); old != nil && old.same(d.now) {
		d.now = old
	} else if err := d.part.Truncate(0); err != nil {
		return err
	}
	d.have = make([]atomic.Int64, len(d.now.Have))
	for i, n := range d.now.Have {
		d.have[i].Store(n)
		d.got.Add(n)
	}
	if err := d.reserve(); err != nil {
		return err
	}
	return d.now.save(d.about)
}

// opReserve is what a PathError of a disk that is too small has as its operation.
const opReserve = "reserve"

// reserve makes the file as long as it will be, on a disk that has the room now. The room is not taken: where memory is the
// disk that would cost as much as writing twice, and a disk that others fill meanwhile is noticed anyhow.
func (d *download) reserve() error {
	free, known, err := osfile.Free(d.part)
	if err != nil {
		return err
	}
	if need := d.now.Size - d.got.Load(); known && need > free {
		return &fs.PathError{Op: opReserve, Path: fmt.Sprintf("%d bytes are needed, %d are free", need, free), Err: oserror.ErrNoRoom}
	}
	return d.part.Truncate(d.now.Size)
}

// run fetches what is missing, holds all of it against what the object's digest is, and returns its SHA-256. What is here
// when it ends is noted on disk.
func (d *download) run(ctx context.Context) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer beside.Wait()
	defer cancel()
	sums, hashed := newDigests(d.want), make(chan error, 1)
	if d.tree == nil {
		beside.Go(func() { hashed <- d.hash(ctx, sums) })
	}
	beside.Go(func() { d.report(ctx) })
	saved := make(chan struct{})
	saving, stop := context.WithCancel(ctx)
	beside.Go(func() { defer close(saved); d.saveOften(saving) })

	err := cloud.Retry(ctx, d.o.Retry, d.round)
	stop()
	<-saved
	if err != nil {
		if kept := d.save(); kept != nil {
			err = fmt.Errorf("%w; what came could not be noted (%w), so the next try may fetch some of it again", err, kept)
		}
		return "", err
	}
	if d.tree != nil {
		if err := d.tree.complete(ctx, d.part, d.o.Parallel); err != nil {
			return "", err
		}
		if d.tree.hex() != d.want.Tree {
			return "", errDamaged
		}
		return d.want.SHA256, nil
	}
	if err := <-hashed; err != nil {
		return "", err
	}
	if !sums.fit(d.want) {
		return "", errDamaged
	}
	return sums.hex(), nil
}

// round fetches with all workers until everything is here or one of them gets nowhere.
func (d *download) round(ctx context.Context) error {
	before := d.got.Load()
	d.mu.Lock()
	d.next, d.failed = 0, false
	d.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var first error // under mu
	var workers sync.WaitGroup
	for range min(d.o.Parallel, len(d.have)) {
		workers.Go(func() {
			buffer := make([]byte, fetchBuffer)
			for i, more := d.take(); more; i, more = d.take() {
				if err := d.fetch(ctx, i, buffer); err != nil {
					if !cloud.Temporary(err) {
						cancel(err) // the others need not go on
					}
					d.mu.Lock()
					d.failed, first = true, cmp.Or(first, err)
					d.mu.Unlock()
					return
				}
			}
		})
	}
	workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		first = cause
	}
	if d.got.Load() > before {
		return cloud.Progress(first)
	}
	return first
}

// take is a part that is not complete and that nobody has taken in this round.
func (d *download) take() (int, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ; !d.failed && d.next < len(d.have); d.next++ {
		from, to := d.now.bounds(d.next)
		if d.have[d.next].Load() < to-from {
			d.next++
			return d.next - 1, true
		}
	}
	return 0, false
}

// fetch completes part i. It goes on at once where a connection broke that had brought something.
func (d *download) fetch(ctx context.Context, i int, buffer []byte) error {
	for {
		n, err := d.some(ctx, i, buffer)
		if err == nil || n == 0 || !cloud.Temporary(err) || ctx.Err() != nil {
			return err
		}
	}
}

// fetchBuffer is what a worker reads before it writes: so much that there are few calls, and so little that most of it is
// still in a core's own cache when it is hashed.
const fetchBuffer = 8 * leafBytes

// some asks for the rest of part i and writes what comes, which is n bytes.
func (d *download) some(ctx context.Context, i int, buffer []byte) (n int64, err error) {
	from, to := d.now.bounds(i)
	from += d.have[i].Load()
	body, err := d.from.get(ctx, d.want.ETag, from, to)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	for from < to {
		filled, failed := io.ReadFull(body, buffer[:min(int64(len(buffer)), to-from)])
		if filled > 0 {
			if err := d.write(buffer[:filled], from); err != nil {
				return n, err
			}
			if d.tree != nil {
				if err := d.tree.add(d.part, from, buffer[:filled]); err != nil {
					return n, err
				}
			}
			from, n = from+int64(filled), n+int64(filled)
			d.have[i].Add(int64(filled))
			d.got.Add(int64(filled))
			select {
			case d.came <- struct{}{}:
			default:
			}
		}
		if failed != nil && from < to {
			if errors.Is(failed, io.EOF) {
				failed = io.ErrUnexpectedEOF
			}
			return n, cloud.Explain(failed)
		}
	}
	// A hint: begin to write, so that there is less to wait for at the end.
	osfile.BeginSync(d.part, from-n, n)
	return n, nil
}

// write writes what one worker has.
func (d *download) write(b []byte, at int64) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	_, err := d.o.write(d.part, b, at)
	return err
}

// hash reads the file behind the workers.
func (d *download) hash(ctx context.Context, sums *digests) error {
	buffer := make([]byte, hashBuffer)
	at := int64(0)
	for i := range d.have {
		from, to := d.now.bounds(i)
		for at < to {
			there := from + d.have[i].Load() - at
			if there == 0 {
				select {
				case <-d.came:
				case <-ctx.Done():
					return ctx.Err()
				}
				continue
			}
			n, err := d.part.ReadAt(buffer[:min(int64(len(buffer)), there)], at)
			if err != nil {
				return err
			}
			_, _ = sums.Write(buffer[:n]) // it never fails
			at += int64(n)
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// save notes what is here. It comes to disk after the bytes.
func (d *download) save() error {
	next := *d.now
	next.Have = make([]int64, len(d.have))
	for i := range d.have {
		next.Have[i] = d.have[i].Load()
	}
	if err := osfile.SyncData(d.part); err != nil {
		return err
	}
	return next.save(d.about)
}

func (d *download) saveOften(ctx context.Context) {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = d.save() // the last one is the one that counts
		case <-ctx.Done():
			return
		}
	}
}

// report tells Progress.
func (d *download) report(ctx context.Context) {
	if d.o.Progress == nil {
		return
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case <-tick.C:
			if got := d.got.Load(); got != last && got < d.now.Size {
				last = got
				d.o.Progress(got, d.now.Size)
			}
		case <-ctx.Done():
			return
		}
	}
}
