package roofline

import (
	"math"
	"testing"
)

// Whatever the file, what is read has a share of its roof that is a number, or infinite where a time is next to nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"schema":"picket.bench.roofline","version":1,"bandwidth":[{"bytes_per_s":1e9}],"operations":[{"per_s":1e9}],"kernels":[{"ns_per_row":5,"bytes_per_row":3,"operations_per_row":2}]}`))
	f.Add([]byte(`{"schema":"picket.bench.roofline","version":1,"kernels":[{"ns_per_row":-5,"bytes_per_row":0,"operations_per_row":-2}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		for i := range r.Kernels {
			if math.IsNaN(r.Kernels[i].Intensity()) || math.IsNaN(r.Kernels[i].OperationsPerS()) {
				t.Errorf("%+v", r.Kernels[i])
			}
			_ = r.Share(&r.Kernels[i])
		}
	})
}
