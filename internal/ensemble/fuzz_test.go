package ensemble_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
)

// fuzzed holds what must be true of any input: an error or a model, never both; and a model that can be scored.
func fuzzed(t *testing.T, data []byte, format string) {
	if got, err := ensemble.Recognise(data); err != nil || got != format {
		return // another reader's input
	}
	e, err := ensemble.Parse(data, ensemble.Limits{Bytes: 1 << 20, Features: 1 << 12, Groups: 64})
	if (e == nil) == (err == nil) {
		t.Fatalf("got model %v and error %v", e, err)
	}
	if err != nil {
		return
	}
	row, out := make([]float32, e.NumFeature), make([]float64, e.Groups)
	for _, v := range []float32{0, 1, -1e9, float32(math.NaN())} {
		for i := range row {
			row[i] = v
		}
		if err := e.Margin64(row, out); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Predict(row, make([]float32, e.Outputs())); err != nil {
		t.Fatal(err)
	}
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(stump))
	for seed := range uint64(3) {
		f.Add(appendJSON(nil, xgboostDocument(randomEnsemble(rand.New(rand.NewPCG(seed, 3)), ensemble.XGBoost))))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, "json") })
}

func FuzzUBJSON(f *testing.F) {
	for seed := range uint64(4) {
		doc := xgboostDocument(randomEnsemble(rand.New(rand.NewPCG(seed, 4)), ensemble.XGBoost))
		f.Add(appendUBJSON(nil, doc, seed%2 == 0))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, "ubjson") })
}

func FuzzLightGBM(f *testing.F) {
	f.Add([]byte(lgbStump))
	for seed := range uint64(3) {
		f.Add(lightgbmText(randomEnsemble(rand.New(rand.NewPCG(seed, 5)), ensemble.LightGBM)))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, "text") })
}

func FuzzBinary(f *testing.F) {
	f.Add(binaryStump(0))
	f.Add(binaryStump(1))
	for seed := range uint64(3) {
		f.Add(xgboostBinary(numericEnsemble(rand.New(rand.NewPCG(seed, 6))), 1, 7))
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, "binary") })
}

func FuzzONNX(f *testing.F) {
	f.Add(onnxStump().bytes())
	classes := onnxStump()
	classes.classifier()
	f.Add(classes.bytes())
	for seed := range uint64(4) {
		e, bundle := randomONNX(rand.New(rand.NewPCG(seed, 7)))
		f.Add(onnxOf(e, bundle, seed%2 == 0, true, seed < 2).bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) { fuzzed(t, data, "onnx") })
}
