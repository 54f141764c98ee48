package lane

import (
	"bytes"
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
	for name, properties := range map[string]engine.Properties{"inline": {Inline: true}, "queued": {}} {
		t.Run(name, func(t *testing.T) {
			f := start(t, Options{}, enginetest.Script{Properties: properties})
			in := [][]byte{tensor.AsBytes(rowsFrom(2, 1))}
			out := [][]byte{make([]byte, 8)}
			for _, way := range ways {
				m := f.model(t, way)
				if n := testing.AllocsPerRun(2000, func() {
					if err := m.PredictInto(t.Context(), 2, in, out); err != nil {
						t.Fatal(err)
					}
				}); n != 0 {
					t.Errorf("a request of the client's over %s allocates %v times", way, n)
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
