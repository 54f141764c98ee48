package engine

import (
	"slices"
	"time"
)

// Tap is shown requests when they have ended, so that some of them can be captured. Its
// methods may be called by many goroutines at once.
type Tap interface {
	// Model is asked once for each model that is loaded. Nil: none of its requests are
	// shown.
	Model(d Description) ModelTap
}

// ModelTap is shown the requests of one model.
type ModelTap interface {
	// Wants tells whether any request would be kept now. Codecs ask it before they say
	// what a request is called.
	Wants() bool
	// Ended is called by Predict before it returns, on the caller's thread: it must not
	// wait, nor allocate. To look at r later it calls r.Keep. When err is not nil the
	// outputs must not be looked at.
	Ended(r *Request, err error)
}

// Part is a client's request among those that a codec has put into one.
type Part struct {
	Number uint64 // the client's own, on the connection that is the origin
	Rows   int
	Why    uint8 // the Tap's
}

// name is what a request is called by whoever sent it. Its memory is recycled with the
// request.
type name struct {
	id     []byte
	origin [16]byte
	parts  []Part
}

// Tapped tells whether a request of the model should be told its name: Identify, or
// SetOrigin and AddParts.
func (s *Snapshot) Tapped() bool { return s.tap != nil && s.tap.Wants() }

// Identify says what the caller knows the inference by. It copies id.
func (r *Request) Identify(id []byte) { r.name.id = append(r.name.id[:0], id...) }

// SetOrigin says which connection the parts come from.
func (r *Request) SetOrigin(origin [16]byte) { r.name.origin = origin }

// AddParts adds so many of the client's requests, which the caller fills in, all fields
// of them, in the order of their rows.
func (r *Request) AddParts(n int) []Part {
	had := len(r.name.parts)
	r.name.parts = slices.Grow(r.name.parts, n)[:had+n]
	return r.name.parts[had:]
}

// ID is what Identify said, Origin and Parts what SetOrigin and AddParts did. They are
// good until the request is released, or let go.
func (r *Request) ID() []byte { return r.name.id }

// Origin is the connection that the parts came from.
func (r *Request) Origin() [16]byte { return r.name.origin }

// Parts are the requests that the codec has put into this one; none where it is one. A
// Tap may write to their Why.
func (r *Request) Parts() []Part { return r.name.parts }

// Keep counts a reference, so that inputs, outputs, rows and names stay as they are
// after the caller has released the request, until LetGo. It is for a Tap, within Ended.
func (r *Request) Keep() { r.refs.Add(1) }

// LetGo gives back what Keep counted.
func (r *Request) LetGo() { r.unref() }

// Over is when the run was over, of a request that succeeded, by the clocks that now was read from, with time.Now.
func (r *Request) Over(now time.Time) time.Time {
	return now.Add(r.Ran() - now.Sub(epoch))
}

// Ran is when the run was over, of a request that succeeded, by a clock of the process alone.
func (r *Request) Ran() time.Duration { return time.Duration(r.ended - 1) }

// forget empties the name, for the next request that has the memory.
func (n *name) forget() { n.id, n.parts = n.id[:0], n.parts[:0] }
