package synthetic

import (
	"bytes"
	"math"
	"os"
	"testing"

	"github.com/picket-ml/picket/internal/ensemble"
)

// TestWrite reads a model back and compares what it answers with a walk through the trees that were made.
func TestWrite(t *testing.T) {
	t.Parallel()
	m := Model{Name: "m", Trees: 7, Depth: 5, Features: 11}
	path, err := m.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ensemble.Parse(text, ensemble.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Trees) != 7 || e.NumFeature != 11 || e.Outputs() != 1 || e.Trees[3].Depth != 5 || e.Nodes() != 7*63 {
		t.Errorf("the model has %d trees of %d nodes, %d features", len(e.Trees), e.Nodes(), e.NumFeature)
	}
	again, err := m.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if other, err := os.ReadFile(again); err != nil || !bytes.Equal(text, other) {
		t.Errorf("the same model is made in two ways, %v", err)
	}

	trees := m.trees()
	rows := Rows(200, 11)
	lefts := 0
	for i := range 200 {
		row := rows[11*i : 11*(i+1)]
		margin := float32(0)
		for _, tree := range trees {
			n := 0
			for tree.Left[n] >= 0 {
				if row[tree.Indices[n]] < tree.Conditions[n] {
					n = tree.Left[n]
					lefts++
				} else {
					n = tree.Right[n]
				}
			}
			margin += tree.Conditions[n]
		}
		want := 1 / (1 + math.Exp(-float64(margin)))
		var got [1]float32
		if err := e.Predict(row, got[:]); err != nil {
			t.Fatal(err)
		}
		if math.Abs(float64(got[0])-want) > 1e-6 {
			t.Errorf("row %d is answered with %v, the trees say %v", i, got[0], want)
		}
	}
	// Splits that all rows pass the same way would be predicted, not computed.
	if share := float64(lefts) / (200 * 7 * 5); share < 0.4 || share > 0.6 {
		t.Errorf("%.2f of the splits are passed to the left", share)
	}
}
