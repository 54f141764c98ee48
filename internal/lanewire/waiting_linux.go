package lanewire

import "golang.org/x/sys/unix"

// waiting is what Waiting needs.
type waiting struct {
	look  func(fd uintptr) // kept because making it allocates
	bytes int
}

// Waiting tells, without waiting, whether there is something to read.
func (r *Reader) Waiting() bool {
	if r.from != r.to {
		return true
	}
	if r.ring != nil {
		return r.ring.In.Arrived()
	}
	w := &r.waiting
	if w.look == nil {
		w.look = func(fd uintptr) {
			var err error
			if w.bytes, err = unix.IoctlGetInt(int(fd), unix.SIOCINQ); err != nil {
				w.bytes = 0 // whoever reads is told of it
			}
		}
	}
	w.bytes = 0
	_ = r.socket.raw.Control(w.look) // likewise, if it is closed
	return w.bytes > 0
}
