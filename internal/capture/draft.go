package capture

import "github.com/picket-ml/picket/internal/streamcopy"

// Draft is bytes that entries are appended to, and the checksum of their beginning.
type Draft struct {
	B []byte
	// Summed is up to where Sum is the CRC-32C of B, from where it was when the Draft was begun. What is before is not changed any more.
	Summed int
	Sum    uint32
}

// SumUp brings the checksum up to what there is.
func (d *Draft) SumUp() {
	d.Sum = streamcopy.Sum(d.Sum, d.B[d.Summed:])
	d.Summed = len(d.B)
}

// appendRows appends rows of a run. Many do not go through the processor's caches, where they would be in the place of what the next
// request needs, and are summed up on the way.
func (d *Draft) appendRows(rows []byte) {
	start := len(d.B)
	if len(rows) < streamcopy.Least || len(rows) > cap(d.B)-start || !streamcopy.Available() {
		d.B = append(d.B, rows...)
		return
	}
	d.SumUp()
	d.B = d.B[:start+len(rows)]
	d.fetch(behind)
	d.Sum = streamcopy.Copy(d.B[start:], rows, d.Sum)
	d.Summed = len(d.B)
}

// behind is about what is written behind rows that went past the caches: the answers, and the beginning of the next run.
const behind = 768

// appended is told where the entry began that was appended, and has the place of another such fetched. Memory that was last written
// megabytes ago is in no cache, and whoever writes there waits for it sooner or later, at the latest to let a lock go.
func (d *Draft) appended(start int) {
	if d.Summed <= start { // nothing went past the caches
		d.fetch(min(len(d.B)-start, streamcopy.Least))
	}
}

func (d *Draft) fetch(n int) { streamcopy.Fetch(d.B[len(d.B):min(len(d.B)+n, cap(d.B))]) }
