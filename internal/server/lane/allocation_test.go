package lane

import (
	"bytes"
	"context"
	"testing"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/lanewire"
	"github.com/picket-ml/picket/tensor"
)

// Server and client in one process, in steady state: nothing is allocated for a
// request, alone or together with others, run by the connection or through the
// queue.
func TestPredictDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for name, properties := range map[string]engine.Properties{"inline": {Inline: true}, "queued": {}, "anywhere": {Anywhere: true}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, enginetest.Script{Properties: properties})
			for _, way := range ways {
				m := f.model(t, way)
				for _, c := range []struct {
					rows, runs int
					ctx        context.Context
				}{
					{2, 2000, t.Context()},
					// Larger than a message. It may take long enough for a context that can end to be watched, which allocates.
					{16_000, 20, context.Background()},
				} {
					in := [][]byte{tensor.AsBytes(rowsFrom(c.rows, 1))}
					out := [][]byte{make([]byte, 4*c.rows)}
					if n := testing.AllocsPerRun(c.runs, func() {
						if err := m.PredictInto(c.ctx, c.rows, in, out); err != nil {
							t.Fatal(err)
						}
					}); n != 0 {
						t.Errorf("a request of the client's of %d rows over %s allocates %v times", c.rows, way, n)
					}
				}
			}

			c := f.greeted(t, "unix")
			var sent []byte
			for i := range uint64(20) {
				b := predictFrame(i, 1, 1)
				h := lanewire.Header{Kind: lanewire.KindPredict, ID: i, Handle: 1, Rows: 1, Deadline: 60_000_000, Payload: 12}
				if i > 10 {
					h.Put(b)
				}
				sent = append(sent, b...)
			}
			const answers = 20 * (lanewire.HeaderSize + 4)
			got := make([]byte, answers)
			if n := testing.AllocsPerRun(1000, func() {
				c.send(sent)
				for read := 0; read < answers; {
					n, err := c.Read(got[read:])
					if err != nil {
						t.Fatal(err)
					}
					read += n
				}
			}); n != 0 {
				t.Errorf("twenty requests at once allocate %v times", n)
			}
			if bytes.Count(got, []byte{'P', 'K', 1, byte(lanewire.KindResult)}) != 20 {
				t.Error("there were not twenty answers")
			}
		})
	}
}
