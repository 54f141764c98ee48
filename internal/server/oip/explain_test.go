package oip

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	oipapi "github.com/picket-ml/picket/internal/api/oip"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/tensor"
)

// TestExplain asks for the output "contributions" over gRPC and HTTP; nobody who does not name it gets it.
func TestExplain(t *testing.T) {
	model := testkit.ModelNamed(t, "multi-softprob-3.2.0")
	data, err := os.ReadFile(testkit.Path(t, model.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, Options{}, nil, engine.ModelOptions{})
	e, err := engine.New(engine.Options{
		Host:     hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}),
		Backends: []engine.Backend{forest.New()}, Source: enginetest.Source{Dir: dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.server.engine = e
	for name, explain := range map[string]bool{"explained": true, "plain": false} {
		if _, err := e.Load(t.Context(), name, dir, engine.ModelOptions{Explain: explain}); err != nil {
			t.Fatal(err)
		}
	}
	rows := 3
	ask := &oipapi.ModelInferRequest{
		ModelName: "explained",
		Inputs: []*oipapi.ModelInferRequest_InferInputTensor{{
			Name: "data", Datatype: "FP32", Shape: []int64{int64(rows), int64(model.Features)},
		}},
		Outputs:          []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "contributions"}, {Name: "output"}},
		RawInputContents: [][]byte{tensor.AsBytes(testkit.Rows(rows, model.Features))},
	}
	want := testkit.ReadF32(t, model.Contributions)[:rows*model.Margins*(model.Features+1)]
	same := func(what string, got []float32) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: there are %d contributions, want %d", what, len(got), len(want))
		}
		for i := range got {
			if math.Abs(float64(got[i]-want[i])) > 1e-5 {
				t.Fatalf("%s: contribution %d is %v, the library says %v", what, i, got[i], want[i])
			}
		}
	}
	answer, err := f.ModelInfer(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	if o := answer.Outputs[0]; len(answer.Outputs) != 2 || o.Name != "contributions" || len(o.Shape) != 3 || o.Shape[1] != int64(model.Margins) {
		t.Fatalf("the answer has the outputs %v", answer.Outputs)
	}
	var got []float32
	for b := answer.RawOutputContents[0]; len(b) > 0; b = b[4:] {
		got = append(got, math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	same("gRPC", got)

	ask.Outputs = nil
	if answer, err = f.ModelInfer(t.Context(), ask); err != nil || len(answer.Outputs) != 1 {
		t.Errorf("without outputs, the answer has %d (%v)", len(answer.GetOutputs()), err)
	}
	ask.ModelName, ask.Outputs = "plain", []*oipapi.ModelInferRequest_InferRequestedOutputTensor{{Name: "contributions"}}
	if _, err := f.ModelInfer(t.Context(), ask); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "load it with explain: true") {
		t.Errorf("a model without explanations answers %v", err)
	}

	var values []any // NaN is null in JSON
	for _, v := range testkit.Rows(rows, model.Features) {
		if v != v {
			values = append(values, nil)
		} else {
			values = append(values, v)
		}
	}
	numbers, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"inputs":[{"name":"data","datatype":"FP32","shape":[3,12],"data":` + string(numbers) + `}],"outputs":[{"name":"contributions"}]}`
	r, err := f.http.Post("http://picket/v2/models/explained/infer", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("HTTP answers %s %s (%v)", r.Status, text, err)
	}
	var said struct {
		Outputs []struct{ Data []float32 }
	}
	if err := json.Unmarshal(text, &said); err != nil {
		t.Fatal(err)
	}
	same("HTTP", said.Outputs[0].Data)
}
