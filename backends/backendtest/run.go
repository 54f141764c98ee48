package backendtest

import (
	"testing"

	"github.com/picket-ml/picket/tensor"
)

// scenarios is the suite: each entry is one promise of the contract.
var scenarios = []struct {
	name string
	run  func(t *testing.T, c Case)
}{
	{"probes and matches", probesAndMatches},
	{"tells its signature", tellsSignature},
	{"answers as expected", answersAsExpected},
	{"answers a batch as row by row", answersBatchAsRows},
	{"answers odd values", answersOddValues},
	{"takes tensors at any element", takesAnyOffset},
	{"runs instances side by side", runsSideBySide},
	{"opens twice", opensTwice},
	{"opens on a context that ends", opensCancelled},
	{"gives back what it took", givesBack},
	{"refuses damaged files", refusesDamagedFiles},
	{"refuses foreign libraries", refusesForeignLibraries},
	{"refuses odd folders", refusesOddFolders},
	{"refuses bad metadata", refusesBadMetadata},
}

// Run holds a backend to the contract on one artifact.
func Run(t *testing.T, c Case) {
	t.Helper()
	if err := c.Backend.Probe(thisHost()); err != nil {
		t.Fatalf("the %s backend does not work here: %v", c.Backend.Name(), err)
	}
	if (c.Library == "") == (c.Model == "") {
		t.Fatal("BUG: the case should name either a library or a model file")
	}
	for _, side := range []struct {
		what  string
		specs int
		dtype tensor.DType
	}{
		{"inputs", len(c.Signature.Inputs), c.Signature.Inputs[0].DType},
		{"outputs", len(c.Signature.Outputs), c.Signature.Outputs[0].DType},
	} {
		if side.specs != 1 || side.dtype != tensor.FP32 {
			t.Fatalf("BUG: the case has %d %s of %s; the suite runs models with one of FP32", side.specs, side.what, side.dtype)
		}
	}
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t, c) })
	}
}
