//go:build cgo && linux

package forest

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/picket-ml/picket/backends/backendtest"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/ensemble"
	"github.com/picket-ml/picket/tensor"
)

// stump is an XGBoost model of one split.
const stump = `{"learner":{"feature_names":[],"gradient_booster":{"model":{"gbtree_model_param":{"num_trees":"1","num_parallel_tree":"1"},` +
	`"tree_info":[0],"trees":[{"id":0,"tree_param":{"num_nodes":"3","size_leaf_vector":"0"},"left_children":[1,-1,-1],"right_children":[2,-1,-1],` +
	`"split_indices":[1,0,0],"split_conditions":[5E-1,1E0,2E0],"default_left":[1,0,0],"split_type":[0,0,0],"categories":[],"categories_nodes":[],` +
	`"categories_segments":[],"categories_sizes":[]}]},"name":"gbtree"},"learner_model_param":{"base_score":"5E-1","num_class":"0","num_feature":"2"},` +
	`"objective":{"name":"binary:logistic"}},"version":[1,7,6]}`

func folderWith(t testing.TB, data []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "model"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestClaims opens small files that claim to be large, and bounds what that takes: a file's claim of a million columns
// costs a pointer or two each, and no kernel works on more of them than have splits.
func TestClaims(t *testing.T) {
	for what, data := range map[string]string{
		"a million columns":       strings.Replace(stump, `"num_feature":"2"`, `"num_feature":"1048576"`, 1),
		"thousands of classes":    strings.NewReplacer(`"num_class":"0"`, `"num_class":"4096"`, "binary:logistic", "multi:softprob").Replace(stump),
		"columns and missing":     "tree\nversion=v4\nmax_feature_idx=1048575\nobjective=binary sigmoid:1\n\nTree=0\nnum_leaves=2\nsplit_feature=1048575\nthreshold=0.5\ndecision_type=6\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n\nend of trees\n",
		"a last column with sets": "tree\nversion=v4\nmax_feature_idx=1048575\nobjective=binary sigmoid:1\n\nTree=0\nnum_leaves=2\nnum_cat=1\nsplit_feature=1048575\nthreshold=0\ndecision_type=1\nleft_child=-1\nright_child=-2\nleaf_value=1 2\ncat_boundaries=0 1\ncat_threshold=7\n\nend of trees\n",
	} {
		t.Run(what, func(t *testing.T) {
			const most = 96 << 20
			var before, after runtime.MemStats
			mapped := tensor.MemoryUsage().Mapped
			runtime.ReadMemStats(&before)
			m := backendtest.Open(t, New(), folderWith(t, []byte(data)))
			runtime.ReadMemStats(&after)
			if took := int64(after.TotalAlloc-before.TotalAlloc) + tensor.MemoryUsage().Mapped - mapped; took > most {
				t.Errorf("opening %d bytes took %d bytes of memory, more than %d", len(data), took, most)
			}
			e, err := ensemble.Parse([]byte(data), ensemble.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			r := backendtest.NewRunner(t, m)
			defer r.Close()
			rows := make([]float32, 3*r.InRow)
			for i := range rows {
				rows[i] = []float32{0, 1, nan32}[i/r.InRow]
			}
			got, want := r.Run(rows), make([]float32, r.OutRow)
			for i := range 3 {
				if err := e.Predict(rows[i*r.InRow:(i+1)*r.InRow], want); err != nil {
					t.Fatal(err)
				}
				for o := range want {
					if math.Float32bits(got[i*r.OutRow+o]) != math.Float32bits(want[o]) {
						t.Fatalf("row %d, output %d: %v, want %v", i, o, got[i*r.OutRow+o], want[o])
					}
				}
			}
		})
	}
}

// FuzzOpen opens any bytes as a model file: either a sentence says why not, or a model comes of it whose answers are those
// of package ensemble and whose kernels all agree with the reference.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(stump))
	f.Add([]byte("tree\nversion=v4\nmax_feature_idx=1\nobjective=binary sigmoid:1\n\nTree=0\nnum_leaves=2\nsplit_feature=1\nthreshold=0.5\n" +
		"decision_type=6\nleft_child=-1\nright_child=-2\nleaf_value=1 2\n\nend of trees\n"))
	all := hosts(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		m, err := New().Open(t.Context(), backendtest.Artifact(t, folderWith(t, data)), backendtest.Options())
		if err != nil {
			if m != nil || errors.Is(err, engine.ErrArtifact) == errors.Is(err, engine.ErrUnsupported) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("got %v and %q", m, err)
			}
			return
		}
		defer func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}()
		e, err := ensemble.Parse(data, ensemble.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if e.NumFeature*e.Groups > 1<<12 {
			return // correct for small ones, or not at all
		}
		random := rand.New(rand.NewPCG(1, uint64(len(data))))
		rows := randomRows(random, e, 70)
		r := backendtest.NewRunner(t, m)
		got := r.Run(rows)
		r.Close()
		want := make([]float32, e.Outputs())
		for i := range 70 {
			if err := e.Predict(rows[i*e.NumFeature:(i+1)*e.NumFeature], want); err != nil {
				t.Fatal(err)
			}
			for o, w := range want {
				if g := got[i*len(want)+o]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
					t.Fatalf("row %d, output %d: %v, package ensemble says %v", i, o, g, w)
				}
			}
		}
		for _, host := range all {
			tryKernels(t, host, e, rows)
		}
	})
}
