package forest

import (
	"slices"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// TestSample: the rows for timing take both sides of the model's splits, miss some values, and are the same every time.
func TestSample(t *testing.T) {
	const rows = 256
	for _, name := range promised {
		m := backendtest.Open(t, New(), testkit.Alone(t, testkit.ModelNamed(t, name).Files[0]))
		sampler, ok := m.(engine.Sampler)
		if !ok {
			t.Fatal("the model is no engine.Sampler")
		}
		columns := int(m.Signature().Inputs[0].Dims[1])
		in, err := tensor.New("data", tensor.FP32, tensor.MustShape(rows, int64(columns)))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Buffer.Release()
		values, err := tensor.View[float32](in)
		if err != nil {
			t.Fatal(err)
		}
		sample := func() []float32 {
			for i := range values {
				values[i] = -12345
			}
			sampler.Sample([]tensor.Tensor{in}, rows)
			return slices.Clone(values)
		}
		made := sample()
		if again := sample(); !slices.EqualFunc(made, again, func(a, b float32) bool { return a == b || a != a && b != b }) {
			t.Errorf("%s: two samples differ", name)
		}
		missing, varied := 0, 0
		for c := range columns {
			var distinct []float32
			for r := range rows {
				switch v := made[r*columns+c]; {
				case v != v:
					missing++
				case v == -12345:
					t.Fatalf("%s: row %d, column %d was not written", name, r, c)
				case !slices.Contains(distinct, v):
					distinct = append(distinct, v)
				}
			}
			if len(distinct) > 2 {
				varied++
			}
			if len(distinct) > typicalThresholds {
				t.Errorf("%s: column %d has %d values", name, c, len(distinct))
			}
		}
		if part := float64(missing) / float64(len(made)); part < 0.02 || part > 0.1 || varied < 3 {
			t.Errorf("%s: %.0f%% of the values are missing, %d of %d columns vary", name, 100*part, varied, columns)
		}
	}
}
