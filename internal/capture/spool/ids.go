package spool

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/picket-ml/picket/internal/capture"
)

// idKey stands for the id of an explicit capture.
type idKey [16]byte

func keyOf(id string) idKey {
	sum := sha256.Sum256([]byte(id))
	return idKey(sum[:16])
}

// idFile is a file with the ids of a segment.
type idFile struct {
	ext   string
	count int
	keys  []idKey // sorted; nil while they are not in memory
}

// outcomes is what the names of files of ids say.
var outcomes = map[string]capture.Status{extIDs: capture.Waiting, extDone: capture.Left, extLost: capture.Dead}

// rememberedIDs is how many ids of segments that are gone are kept.
const rememberedIDs = 100_000

// Known tells what became of the explicit capture with that id.
func (s *Spool) Known(id string) capture.Status {
	key := keyOf(id)
	s.mu.Lock()
	_, claimed := s.claimed[key]
	s.mu.Unlock()
	if claimed {
		return capture.Waiting
	}
	return s.inFiles(key)
}

// claim makes the ids of explicit entries those of the caller, or fails with ErrKnown.
// An id is claimed before the files are searched, so that one that moves from memory to
// a file meanwhile is seen.
func (s *Spool) claim(all []*capture.Entry) ([]idKey, error) {
	var keys []idKey
	for _, e := range all {
		if e.Kind != capture.Explicit {
			continue
		}
		for i := range e.Parts {
			key := keyOf(e.Parts[i].Inference)
			s.mu.Lock()
			_, known := s.claimed[key]
			if !known {
				s.claimed[key] = struct{}{}
			}
			s.mu.Unlock()
			if !known {
				keys = append(keys, key)
				known = s.inFiles(key) != capture.Unknown
			}
			if known {
				s.unclaim(keys)
				return nil, ErrKnown
			}
		}
	}
	return keys, nil
}

func (s *Spool) unclaim(keys []idKey) {
	if len(keys) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		delete(s.claimed, k)
	}
}

// inFiles looks for an id in the files.
func (s *Spool) inFiles(key idKey) capture.Status {
	s.mu.Lock()
	numbers := make([]uint64, 0, len(s.idFiles))
	for n := range s.idFiles {
		numbers = append(numbers, n)
	}
	s.mu.Unlock()
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) { // the newest is asked for most
		s.mu.Lock()
		f := s.idFiles[n]
		var keys []idKey
		ext := ""
		if f != nil {
			keys, ext = f.keys, f.ext
		}
		s.mu.Unlock()
		if f == nil {
			continue
		}
		if keys == nil {
			keys = s.loadIDs(n, ext)
			s.mu.Lock()
			f.keys = keys
			s.mu.Unlock()
		}
		if _, found := slices.BinarySearchFunc(keys, key, compareKeys); found {
			return outcomes[ext]
		}
	}
	return capture.Unknown
}

func compareKeys(a, b idKey) int { return bytes.Compare(a[:], b[:]) }

// writeIDs writes the ids of a segment down, durably: once the next segment is there,
// nobody looks for them in this one. disk is held.
func (s *Spool) writeIDs(g *segment, keys []idKey) error {
	if len(keys) == 0 {
		return nil
	}
	keys = slices.Clone(keys)
	slices.SortFunc(keys, compareKeys)
	name := idsFileName(g.number, extIDs)
	if err := s.writeFile(name, appendIDs(nil, keys)); err != nil {
		return err
	}
	if err := s.fs.Sync(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idFiles[g.number] = &idFile{ext: extIDs, count: len(keys), keys: keys}
	return nil
}

func appendIDs(b []byte, keys []idKey) []byte {
	start := len(b)
	b = append(b, idsMagic[:]...)
	b = le.AppendUint64(b, uint64(len(keys)))
	for _, k := range keys {
		b = append(b, k[:]...)
	}
	return le.AppendUint32(b, checksum(b[start:]))
}

func parseIDs(b []byte) ([]idKey, bool) {
	const frame = len(idsMagic) + 8 + 4
	if len(b) < frame || [8]byte(b) != idsMagic || checksum(b[:len(b)-4]) != le.Uint32(b[len(b)-4:]) {
		return nil, false
	}
	n := le.Uint64(b[8:])
	if n != uint64(len(b)-frame)/16 || len(b) != frame+int(n)*16 {
		return nil, false
	}
	keys := make([]idKey, n)
	for i := range keys {
		keys[i] = idKey(b[16+16*i:])
	}
	return keys, slices.IsSortedFunc(keys, compareKeys)
}

// loadIDs reads a file of ids. One that is damaged is as if it had none, unless its
// segment is there.
func (s *Spool) loadIDs(number uint64, ext string) []idKey {
	b, err := s.readFile(idsFileName(number, ext), maxSegmentFile)
	if errors.Is(err, fs.ErrNotExist) && ext == extIDs { // it has been settled meanwhile
		for _, e := range [...]string{extDone, extLost} {
			if b, err = s.readFile(idsFileName(number, e), maxSegmentFile); err == nil {
				break
			}
		}
	}
	if err == nil {
		if keys, ok := parseIDs(b); ok {
			return keys
		}
		err = ErrDamaged
	}
	s.mu.Lock()
	i := slices.IndexFunc(s.segments, func(g *segment) bool { return g.number == number })
	var g *segment
	if i >= 0 {
		g = s.segments[i]
	}
	s.mu.Unlock()
	if g == nil {
		s.log.Warn("a file of capture ids cannot be read: what became of them is not known any more", "segment", number, "error", err)
		return []idKey{}
	}
	s.log.Warn("a file of capture ids cannot be read: they are looked for in their segment", "segment", number, "error", err)
	keys := []idKey{}
	if scanned, err := s.scan(g, false); err == nil {
		keys = append(keys, scanned.ids...)
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// readFile reads a whole file of at most so many bytes.
func (s *Spool) readFile(name string, most int64) ([]byte, error) {
	f, err := s.fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, most))
	n, err := f.ReadAt(b, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return b[:n], err
}

// moveIDs notes what became of the ids of segments, durably. disk is held.
func (s *Spool) moveIDs(gone []*segment, ext string) error {
	moved := false
	for _, g := range gone {
		s.mu.Lock()
		f := s.idFiles[g.number]
		s.mu.Unlock()
		if f == nil || f.ext == ext {
			continue
		}
		if err := s.fs.Rename(idsFileName(g.number, f.ext), idsFileName(g.number, ext)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.mu.Lock()
		f.ext = ext
		s.mu.Unlock()
		moved = true
	}
	if moved {
		return s.fs.Sync()
	}
	return nil
}

// forgetIDs removes the oldest files of ids whose segments are gone, where there are too
// many. disk is held.
func (s *Spool) forgetIDs() {
	s.mu.Lock()
	var numbers []uint64
	total := 0
	for n, f := range s.idFiles {
		if f.ext != extIDs {
			numbers = append(numbers, n)
			total += f.count
		}
	}
	slices.Sort(numbers)
	most := min(rememberedIDs, int(s.o.MaxBytes/8/16)) // they count as the spool's bytes
	var remove []string
	for _, n := range numbers {
		if total <= most {
			break
		}
		total -= s.idFiles[n].count
		remove = append(remove, idsFileName(n, s.idFiles[n].ext))
		delete(s.idFiles, n)
	}
	s.mu.Unlock()
	for _, name := range remove {
		s.remove(name)
	}
}
