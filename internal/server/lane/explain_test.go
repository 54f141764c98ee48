package lane

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/picket-ml/picket/backends/forest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/engine/enginetest"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/internal/testkit"
	client "github.com/picket-ml/picket/lane"
)

// withForest puts an engine in f's place that has the model of a fixture as "explained", and as "plain" without explanations.
func withForest(t *testing.T, f *fixture, model testkit.Model) {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, model.Files[0]))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Options{
		Host:     hw.Detect(t.Context(), hw.Options{NoGPU: true, NoIMDS: true}),
		Backends: []engine.Backend{forest.New()}, Source: enginetest.Source{Dir: dir},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.server.engine = e
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := e.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	for name, explain := range map[string]bool{"explained": true, "plain": false} {
		if _, err := e.Load(t.Context(), name, dir, engine.ModelOptions{Explain: explain}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExplain asks for contributions over every kind of socket: of one row, of many, and of more than a message holds; those of
// the library come back, and the scores that come without them.
func TestExplain(t *testing.T) {
	for _, name := range []string{"binary-3.2.0", "multi-softprob-3.2.0"} {
		model := testkit.ModelNamed(t, name)
		want := testkit.ReadF32(t, model.Contributions)
		for _, way := range []string{"unixpacket", "unix", overRing} {
			t.Run(name+" over "+way, func(t *testing.T) {
				f := start(t, Options{}, inline)
				withForest(t, f, model)
				m, err := f.dial(t, way).Model(t.Context(), "explained")
				if err != nil {
					t.Fatal(err)
				}
				data, size := testkit.Rows(3000, model.Features), model.Margins*(model.Features+1)
				for _, rows := range []int{1, 40, 3000} {
					scores, contributions, err := m.ExplainFloat32(t.Context(), data[:rows*model.Features])
					if err != nil {
						t.Fatal(err)
					}
					if len(contributions) != rows*size {
						t.Fatalf("%d rows have %d contributions, want %d of each", rows, len(contributions), size)
					}
					for i := range min(rows*size, len(want)) {
						if d := math.Abs(float64(contributions[i] - want[i])); d > 1e-5 {
							t.Fatalf("of %d rows contribution %d is %v, the library says %v", rows, i, contributions[i], want[i])
						}
					}
					alone, err := m.PredictFloat32(t.Context(), data[:rows*model.Features])
					if err != nil || !slices.Equal(scores, alone) {
						t.Fatalf("%d rows have other scores when they are explained (%v)", rows, err)
					}
				}
			})
		}
	}
}

func TestExplainWithoutExplanations(t *testing.T) {
	model := testkit.ModelNamed(t, "binary-3.2.0")
	f := start(t, Options{}, inline)
	withForest(t, f, model)
	m, err := f.dial(t, "unixpacket").Model(t.Context(), "plain")
	if err != nil {
		t.Fatal(err)
	}
	row := testkit.Rows(1, model.Features)
	_, _, err = m.ExplainFloat32(t.Context(), row)
	var said *client.Error
	if !errors.As(err, &said) || said.Code != client.InvalidArgument || !strings.Contains(said.Sentence, "explain: true") {
		t.Errorf("a model that was loaded without explanations answers %v", err)
	}
	if _, err := m.PredictFloat32(t.Context(), row); err != nil {
		t.Errorf("after a refusal a request fails with %v", err)
	}
	// A backend that knows nothing of it is not the one that such a model is loaded with.
	if _, err := f.engine.Load(t.Context(), "sum-explained", "somewhere", engine.ModelOptions{Explain: true}); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("loading a model that cannot be explained gives %v", err)
	}
}

// TestExplainedBesideOthers mixes requests with and without contributions on one connection.
func TestExplainedBesideOthers(t *testing.T) {
	model := testkit.ModelNamed(t, "binary-3.2.0")
	want := testkit.ReadF32(t, model.Contributions)
	f := start(t, Options{}, inline)
	withForest(t, f, model)
	m, err := f.dial(t, "unixpacket").Model(t.Context(), "explained")
	if err != nil {
		t.Fatal(err)
	}
	row := testkit.Rows(1, model.Features)
	failed := make(chan error, 16)
	for i := range cap(failed) {
		go func() {
			failed <- func() error {
				for range 100 {
					if i%2 == 0 {
						if _, err := m.PredictFloat32(t.Context(), row); err != nil {
							return err
						}
						continue
					}
					_, c, err := m.ExplainFloat32(t.Context(), row)
					if err != nil {
						return err
					}
					if len(c) != model.Features+1 || math.Abs(float64(c[model.Features]-want[model.Features])) > 1e-5 {
						return errors.New("the contributions are others")
					}
				}
				return nil
			}()
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
