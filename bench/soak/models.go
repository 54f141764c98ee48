package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/picket-ml/picket/internal/testkit"
)

// fraudFeatures is how many numbers a row of the demo's model has.
const fraudFeatures = 24

// fraudFolder is a folder with just the demo's model file, which backend forest runs.
func (s *soak) fraudFolder() (string, error) {
	dir := filepath.Join(s.dir, "fraud")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making a folder for a model: %w", err)
	}
	from, err := os.Open(filepath.Join(testkit.ModuleRoot(), "examples", "demo", "fraud.ubj"))
	if err != nil {
		return "", fmt.Errorf("copying the demo's model: %w", err)
	}
	defer from.Close()
	to, err := os.Create(filepath.Join(dir, "fraud.ubj"))
	if err != nil {
		return "", fmt.Errorf("copying the demo's model: %w", err)
	}
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		return "", fmt.Errorf("copying the demo's model: %w", err)
	}
	return dir, to.Close()
}

// numberFeatures is how many numbers a row of a numbered model has.
const numberFeatures = 2

// numberedFolder is a folder with a model that answers every row with the number: a LightGBM file of one tree whose two leaves are alike.
func (s *soak) numberedFolder(number int) (string, error) {
	dir := filepath.Join(s.dir, "numbered", fmt.Sprint(number))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making a folder for a model: %w", err)
	}
	text := fmt.Sprintf(strings.TrimLeft(`
tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=%d
objective=regression
feature_names=a b
feature_infos=[0:1] [0:1]
tree_sizes=0

Tree=0
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=%d %d
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=0
internal_count=2
is_linear=0
shrinkage=1

end of trees
`, "\n"), numberFeatures-1, number, number)
	if err := os.WriteFile(filepath.Join(dir, "model.txt"), []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("writing a model: %w", err)
	}
	return dir, nil
}
