package oip

import (
	"errors"
	"fmt"
	"sync"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/server/failure"
	"github.com/picket-ml/picket/internal/shm"
)

// maxRegions is how many regions one user may have registered: each is a file
// descriptor of the daemon.
const maxRegions = 64

// owner is whose shared memory a caller may use: the user at the other end of a
// Unix socket. Regions of one owner are unknown to all others.
type owner struct {
	known bool
	uid   uint32
}

// regions are the parts of shared memory objects that clients have given names to.
// A region lasts until it is unregistered; one whose object was removed meanwhile
// goes with its owner's last connection too, so that clients that die leave
// nothing behind. Its methods may be called by many goroutines at once.
type regions struct {
	mu     sync.RWMutex
	owners map[uint32]*holding
}

// holding is what one user has.
type holding struct {
	connections int
	regions     map[string]*region
}

// region is a part of an object.
type region struct {
	key          string
	object       *shm.Object
	offset, size uint64
}

func newRegions() *regions { return &regions{owners: map[uint32]*holding{}} }

var (
	errNoSharedMemory = errors.New("shared memory cannot be used over this connection: send the data in the request, or connect to the Unix socket")
	errRegionName     = fmt.Errorf("%w: the name of a region must have 1 to %d bytes", engine.ErrInvalidInput, maxNameBytes)
	errNoRegion       = errors.New("no shared memory is registered under the name it gives: register it first, as the same user")
	errBeyondRegion   = errors.New("its shared_memory_offset and size reach past the end of the region")
)

// connected counts a connection of who.
func (r *regions) connected(who owner) {
	if !who.known {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.of(who).connections++
}

// of is what who has, made if it has nothing. The lock is held.
func (r *regions) of(who owner) *holding {
	h := r.owners[who.uid]
	if h == nil {
		h = &holding{regions: map[string]*region{}}
		r.owners[who.uid] = h
	}
	return h
}

// disconnected takes back what connected counted.
func (r *regions) disconnected(who owner) {
	if !who.known {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.of(who)
	if h.connections--; h.connections > 0 {
		return
	}
	h.sweep()
	if len(h.regions) == 0 {
		delete(r.owners, who.uid)
	}
}

// sweep drops the regions of objects that were removed.
func (h *holding) sweep() {
	for name, one := range h.regions {
		if one.object.Removed() {
			h.drop(name)
		}
	}
}

// drop forgets one region.
func (h *holding) drop(name string) {
	_ = h.regions[name].object.Close()
	delete(h.regions, name)
}

// register opens the object and gives the part of it a name. Errors wrap
// engine.ErrInvalidInput, engine.ErrExists or engine.ErrBusy.
func (r *regions) register(who owner, name, key string, offset, size uint64) error {
	switch {
	case !who.known:
		return fmt.Errorf("%w: %w", engine.ErrInvalidInput, errNoSharedMemory)
	case name == "" || len(name) > maxNameBytes:
		return errRegionName
	case size == 0:
		return fmt.Errorf("%w: the byte_size of a region must be above 0", engine.ErrInvalidInput)
	}
	object, err := shm.OpenObject(key, shm.Peer{UID: who.uid})
	if err != nil {
		return fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	have, err := object.Size()
	if err == nil && (offset > have || size > have-offset) {
		err = &shm.Error{Kind: shm.ErrTooSmall}
	}
	if err != nil {
		_ = object.Close()
		return fmt.Errorf("%w: %w", engine.ErrInvalidInput, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.of(who)
	if len(h.regions) >= maxRegions {
		h.sweep()
	}
	switch {
	case h.regions[name] != nil:
		err = fmt.Errorf("%w: a region is registered as %q: unregister it first, or choose another name", engine.ErrExists, failure.Clip(name))
	case len(h.regions) >= maxRegions:
		err = fmt.Errorf("%w: %d regions are registered, which is the limit: unregister one first", engine.ErrBusy, maxRegions)
	default:
		h.regions[name] = &region{key: key, object: object, offset: offset, size: size}
		return nil
	}
	_ = object.Close()
	return err
}

// unregister forgets a region, or all where name is empty. A name that is not
// registered is no error: clients tidy up before they begin. Errors wrap
// engine.ErrInvalidInput.
func (r *regions) unregister(who owner, name string) error {
	if len(name) > maxNameBytes {
		return errRegionName
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.owners[who.uid]
	if !who.known || h == nil {
		return nil
	}
	for one := range h.regions {
		if name == "" || one == name {
			h.drop(one)
		}
	}
	return nil
}

// list calls each for the region of that name, or for all where it is empty.
// ErrNotFound when there is none of the name.
func (r *regions) list(who owner, name string, each func(name, key string, offset, size uint64)) error {
	r.mu.RLock()
	defer r.mu.RUnlock()
	found := name == ""
	if h := r.owners[who.uid]; h != nil && who.known {
		for one, region := range h.regions {
			if name == "" || one == name {
				found = true
				each(one, region.key, region.offset, region.size)
			}
		}
	}
	if !found {
		return fmt.Errorf("%w: no region is registered as %q", engine.ErrNotFound, failure.Clip(name))
	}
	return nil
}

// find is the object and the offset in it for n bytes at p, or all that p says
// where n is negative. The object may be closed by the time it is used, which is
// an error then and no harm.
func (r *regions) find(who owner, p place, n int) (*shm.Object, uint64, error) {
	if !who.known {
		return nil, 0, errNoSharedMemory
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	h := r.owners[who.uid]
	if h == nil || h.regions[string(p.region)] == nil {
		return nil, 0, errNoRegion
	}
	one := h.regions[string(p.region)]
	size := p.size
	if n >= 0 {
		size = uint64(n)
	}
	if p.offset > one.size || size > one.size-p.offset {
		return nil, 0, errBeyondRegion
	}
	return one.object, one.offset + p.offset, nil
}

// check tells whether the bytes of an input can be there.
func (r *regions) check(who owner, p place) error {
	if !p.sized {
		return errors.New("it has no shared_memory_byte_size")
	}
	object, offset, err := r.find(who, p, -1)
	if err != nil {
		return err
	}
	have, err := object.Size()
	if err == nil && (offset > have || p.size > have-offset) {
		err = &shm.Error{Kind: shm.ErrTooSmall}
	}
	return err
}

// read fills dst from p.
func (r *regions) read(dst []byte, who owner, p place) error {
	object, offset, err := r.find(who, p, len(dst))
	if err != nil {
		return err
	}
	return object.Read(dst, offset)
}

// write puts src at p.
func (r *regions) write(src []byte, who owner, p place) error {
	object, offset, err := r.find(who, p, len(src))
	if err != nil {
		return err
	}
	return object.Write(src, offset)
}

// close forgets everything.
func (r *regions) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.owners {
		for name := range h.regions {
			h.drop(name)
		}
	}
}
