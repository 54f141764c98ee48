// Package protocols has a client for each protocol that benchmarks ask servers in, made so that little of its own time is
// measured: requests are put together before the clock starts, answers are looked at after it has stopped.
package protocols

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/picket-ml/picket/bench/native"
	"github.com/picket-ml/picket/tensor"
)

// Tolerance is how far an answer may be from the trainer's: what adding the same numbers in another order changes.
const Tolerance = 1e-6

// Client asks one server, or a library in this process, for predictions, one request after the other: one goroutine at a time
// uses it. Who connected it calls Close.
type Client interface {
	// Prepare puts the next request together, of rows that it chooses. It is not timed.
	Prepare(random *rand.Rand)
	// Do sends what was prepared and waits for the answer: this is what is timed.
	Do(ctx context.Context) error
	// Check compares the answer with the reference, and tells its size in bytes. It is not timed. It fails with an error of which
	// errors.Is reports ErrWrong where the answer is another one.
	Check() (size int, err error)
	io.Closer
}

// Looper is a client that can put a closed load on by itself, in C, so that no part of Go's runtime is in what is timed: its poller, which takes
// two changes of context where the kernel takes one, and its watchdog.
type Looper interface {
	Client
	// OpenLoop connects it for that, in the place of the connection that Do uses: from then on only Loop and Close are called.
	OpenLoop(seed uint64) error
	// Loop asks one request after the other, until the load ends or timed is full, and says how many of timed are filled: all where the load goes on.
	// The first request that has no answer ends it with an error, which is of the last that is filled. Close ends it too, from another goroutine.
	// wrong is the first answer of the load that is another than the reference's.
	Loop(load *native.Load, timed []native.Timed) (n int, wrong, err error)
}

// ErrWrong is in the errors of answers that can be read and differ from the reference.
var ErrWrong = errors.New("the answer is wrong")

// Rows are what servers are asked about.
type Rows struct {
	// Data has the shape [rows, features].
	Data tensor.Tensor
	// Answers is the reference, as a rule what the library that trained the model answers, one value a row. Where there are none, as for empty servers,
	// only the size of answers is looked at.
	Answers []float32
	// texts are the rows as numbers in JSON, without brackets.
	texts []string
}

// WithText gives the same rows for clients that write JSON. It shares the data with r.
func (r *Rows) WithText() *Rows {
	n, features := int(r.Data.Shape.Dim(0)), int(r.Data.Shape.Dim(1))
	with := &Rows{Data: r.Data, Answers: r.Answers, texts: make([]string, n)}
	var text []byte
	for i := range n {
		raw := r.Data.Rows(i, i+1).Bytes()
		text = text[:0]
		for c := range features {
			if c > 0 {
				text = append(text, ',')
			}
			text = strconv.AppendFloat(text, float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*c:]))), 'g', -1, 32)
		}
		with.texts[i] = string(text)
	}
	return with
}

// Check compares the answers to the rows from first on, count of them.
func (r *Rows) Check(first, count int, got []float32) error {
	if len(got) != count {
		return fmt.Errorf("%w: %d values for %d rows", ErrWrong, len(got), count)
	}
	if r.Answers == nil {
		return nil
	}
	for i, v := range got {
		want := r.Answers[first+i]
		if !(math.Abs(float64(v)-float64(want)) <= Tolerance) { // nor NaN
			return r.differs(first+i, v)
		}
	}
	return nil
}

func (r *Rows) differs(row int, got float32) error {
	return fmt.Errorf("%w: row %d is answered with %v, the reference has %v", ErrWrong, row, got, r.Answers[row])
}

// Ask is what clients of one server ask it.
type Ask struct {
	// Address is the path of a Unix socket where it begins with a slash, else a host and a port.
	Address        string
	Model, Version string
	Rows           *Rows
	// Count is how many rows a call has: random ones, that lie together.
	Count int
}

func (a *Ask) network() string {
	if a.Address[0] == '/' {
		return "unix"
	}
	return "tcp"
}

// choose is the first row of the next call.
func (a *Ask) choose(random *rand.Rand) int {
	return random.IntN(int(a.Rows.Data.Shape.Dim(0)) - a.Count + 1)
}

// Choose chooses the rows of the next call: the first, and the bytes of all.
func (a *Ask) Choose(random *rand.Rand) (first int, raw []byte) {
	first = a.choose(random)
	return first, a.raw(first)
}

// raw is the bytes of the call's rows.
func (a *Ask) raw(first int) []byte { return a.Rows.Data.Rows(first, first+a.Count).Bytes() }

func (a *Ask) shape() []int64 { return []int64{int64(a.Count), a.Rows.Data.Shape.Dim(1)} }

// Floats appends the float32 values in raw to values.
func Floats(values []float32, raw []byte) []float32 {
	for ; len(raw) >= 4; raw = raw[4:] {
		values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	}
	return values
}
