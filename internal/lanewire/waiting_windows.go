package lanewire

// waiting does not exist on this system.
type waiting struct{}

// Waiting tells what was read and not consumed: the lane is not served on this system.
func (r *Reader) Waiting() bool { return r.from != r.to }
