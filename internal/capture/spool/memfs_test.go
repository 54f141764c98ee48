package spool

import (
	"bytes"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// memFS is a directory in memory that can lose power: it knows what was synced and what
// was not. Its files' bytes are durable after Sync of the file, its names after Sync of
// the directory, and of the rest any part may survive.
type memFS struct {
	mu      sync.Mutex
	names   map[string]*memFile // as they are
	durable map[string]*memFile // as they would be, without what was not synced
	ops     []dirOp             // between the two

	// before is called before each call that changes something or makes it durable,
	// with the lock held, and may fail it. Nil for nobody.
	before func(op, name string) error
	// reads is called before each reading of n bytes, and with none before opening for
	// reading, with the lock held, and may fail it. Nil for nobody.
	reads func(name string, at int64, n int) error
	// skip tells which syncs do nothing; see the mutations.
	skip func(op, name string) bool
	// late is files whose writes come only with the call after that which removes a file.
	late         func(name string) bool
	queue, ready []func()
}

type memFile struct {
	now, synced []byte
	appended    bool // written after its first sync
}

type dirOp struct {
	name string
	file *memFile // nil: removed
	from string   // of a rename
}

func newMemFS() *memFS {
	return &memFS{names: map[string]*memFile{}, durable: map[string]*memFile{}}
}

func (m *memFS) call(op, name string) error {
	if m.before != nil {
		if err := m.before(op, name); err != nil {
			return err
		}
	}
	for _, write := range m.ready {
		write()
	}
	m.ready = nil
	return nil
}

func (m *memFS) Lock() error { return nil }

func (m *memFS) List() ([]FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []FileInfo
	for name, f := range m.names {
		all = append(all, FileInfo{name, int64(len(f.now))})
	}
	slices.SortFunc(all, func(a, b FileInfo) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (m *memFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("create", name); err != nil {
		return nil, err
	}
	if m.names[name] != nil {
		return nil, fs.ErrExist
	}
	f := &memFile{}
	m.names[name] = f
	m.ops = append(m.ops, dirOp{name: name, file: f})
	return &memHandle{m, f, name}, nil
}

func (m *memFS) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.names[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	if m.reads != nil {
		if err := m.reads(name, 0, 0); err != nil {
			return nil, err
		}
	}
	return &memHandle{m, f, name}, nil
}

func (m *memFS) OpenWrite(name string) (File, error) { return m.Open(name) }

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("remove", name); err != nil {
		return err
	}
	if m.names[name] != nil {
		delete(m.names, name)
		m.ops = append(m.ops, dirOp{name: name})
	}
	m.ready, m.queue = append(m.ready, m.queue...), nil
	return nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("rename", from); err != nil {
		return err
	}
	f := m.names[from]
	if f == nil {
		return fs.ErrNotExist
	}
	delete(m.names, from)
	m.names[to] = f
	m.ops = append(m.ops, dirOp{name: to, file: f, from: from})
	return nil
}

func (m *memFS) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.call("sync names", ""); err != nil {
		return err
	}
	if m.skip != nil && m.skip("sync names", "") {
		return nil
	}
	for _, op := range m.ops {
		op.apply(m.durable)
	}
	m.ops = nil
	return nil
}

func (op dirOp) apply(names map[string]*memFile) {
	if op.from != "" {
		delete(names, op.from)
	}
	if op.file == nil {
		delete(names, op.name)
	} else {
		names[op.name] = op.file
	}
}

func (m *memFS) Close() error { return nil }

// crash is what may be found after the power was lost now.
func (m *memFS) crash(r *rand.Rand) *memFS {
	out := newMemFS()
	files := map[*memFile]*memFile{}
	names := map[string]*memFile{}
	for name, f := range m.durable {
		names[name] = f
	}
	for _, op := range m.ops {
		if r.IntN(2) == 0 {
			op.apply(names)
		}
	}
	for name, f := range names {
		if files[f] == nil {
			b := f.crash(r)
			files[f] = &memFile{now: b, synced: bytes.Clone(b)}
		}
		out.names[name], out.durable[name] = files[f], files[f]
	}
	return out
}

const sector = 512

// crash is what may be found of the bytes.
func (f *memFile) crash(r *rand.Rand) []byte {
	size := len(f.synced)
	if len(f.now) != size && r.IntN(3) > 0 {
		size = len(f.now)
	}
	b := make([]byte, size)
	copy(b, f.synced)
	for at := 0; at < size; at += sector {
		end := min(at+sector, size)
		now := f.now[min(at, len(f.now)):min(end, len(f.now))]
		switch r.IntN(5) {
		case 0, 1: // it was not written
		case 2: // it was torn
			copy(b[at:end], now[:r.IntN(len(now)+1)])
		default:
			copy(b[at:end], now)
		}
	}
	return b
}

type memHandle struct {
	m    *memFS
	f    *memFile
	name string
}

func (h *memHandle) ReadAt(b []byte, at int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if at >= int64(len(h.f.now)) {
		return 0, io.EOF
	}
	if h.m.reads != nil {
		if err := h.m.reads(h.name, at, min(len(b), len(h.f.now)-int(at))); err != nil {
			return 0, err
		}
	}
	n := copy(b, h.f.now[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (h *memHandle) WriteAt(b []byte, at int64) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.m.call("write", h.name); err != nil {
		// As disks do that are full: a part is there.
		h.f.write(b[:len(b)/2], at)
		return len(b) / 2, err
	}
	b = bytes.Clone(b)
	if h.m.late != nil && h.m.late(h.name) {
		h.m.queue = append(h.m.queue, func() { h.f.write(b, at); h.f.sync() })
		return len(b), nil
	}
	h.f.write(b, at)
	return len(b), nil
}

func (f *memFile) write(b []byte, at int64) {
	if need := int(at) + len(b); need > len(f.now) {
		f.now = append(f.now, make([]byte, need-len(f.now))...)
	}
	copy(f.now[at:], b)
}

func (f *memFile) sync() {
	f.synced = bytes.Clone(f.now)
	f.appended = true
}

func (h *memHandle) Size() (int64, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	return int64(len(h.f.now)), nil
}

func (h *memHandle) Sync() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	op := "sync first"
	if h.f.appended {
		op = "sync"
	}
	if err := h.m.call(op, h.name); err != nil {
		return err
	}
	if h.m.skip != nil && h.m.skip(op, h.name) {
		h.f.appended = true
		return nil
	}
	h.f.sync()
	return nil
}

func (h *memHandle) Close() error { return nil }
