package compare

import (
	"bytes"
	"os"
	"testing"

	"github.com/picket-ml/picket/bench/report"
)

// Whatever two result files say, they are compared without a panic, and a regression has a p below alpha.
func FuzzOf(f *testing.F) {
	example, err := os.ReadFile("../report/testdata/example.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example, example)
	f.Add(example, bytes.ReplaceAll(example, []byte(`"valid": true`), []byte(`"valid": false`)))
	f.Add([]byte(`{"schema":"picket.bench.result","version":1,"runs":[{"repetitions":[{"duration_ns":1,"counts":{"rows":-1}}]}]}`), example)
	f.Add([]byte(`{"schema":"picket.bench.result","version":1,"runs":[{"verdict":{"valid":true},"repetitions":[{"duration_ns":1,"counts":{"answered":9223372036854775807}}]}]}`), example)
	f.Fuzz(func(t *testing.T, first, second []byte) {
		a, err := report.ParseResult(first)
		if err != nil {
			return
		}
		b, err := report.ParseResult(second)
		if err != nil {
			return
		}
		c := Of(a, b, Options{Threshold: 0.03, Alpha: 0.05, All: true})
		for _, ch := range c.Changes {
			if ch.Verdict == Worse && !(ch.P < 0.05) {
				t.Errorf("%+v", ch)
			}
		}
		if err := c.Write(new(bytes.Buffer)); err != nil {
			t.Error(err)
		}
	})
}
