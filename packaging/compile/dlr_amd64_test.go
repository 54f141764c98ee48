package compile

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

// TestDLR opens artifacts with the real libdlr 1.6.0 (which exists for x86-64 alone) and demands, over 10,000 rows with
// missing values, the bits that calling the artifact directly gives. That libdlr takes an exact 0.0 for missing, so the
// rows have none.
func TestDLR(t *testing.T) {
	dlr := testkit.LibDLR(t)
	names := []string{"xgboost/fraud-1.7.6.ubj", "xgboost/multi-softprob-3.2.0.json", "xgboost/count-poisson-1.7.6.json", "xgboost/multi-softmax-1.7.6.json", "lightgbm/binary-4.7.0.txt", "lightgbm/multiclass-3.3.5.txt"}
	for i := range len(names) * len(engines()) {
		name, engine := names[i/len(engines())], engines()[i%len(engines())]
		t.Run(name+" "+engine.Name, func(t *testing.T) {
			dir, result := compileSmall(t, Options{Source: testkit.Path(t, "models/"+name), Engine: engine})
			rows := testkit.RowsNoZeros(10_000, result.Features)
			want, _ := drive(t, filepath.Join(dir, libraryName), rows, result.Features, false)
			stdout, _ := execute(t, "dlr", rows, dlr, dir, "ROWS", fmt.Sprint(result.Features), fmt.Sprint(result.Outputs))
			_, results, ok := bytes.Cut(stdout, []byte("\nresults\n"))
			if !ok {
				t.Fatalf("libdlr gave no results: %q", stdout)
			}
			equalBits(t, "libdlr against the artifact itself", floats(results), want)
		})
	}
}
