package ensemble

import (
	"bytes"
	"fmt"
	"strconv"
)

// Bits of LightGBM's decision_type.
const (
	lgbCategorical  = 1
	lgbDefaultLeft  = 2
	lgbMissingShift = 2 // two bits: 0 none, 1 zero, 2 NaN
)

// tree turns the lines of one tree into nodes: split i becomes node i, leaf j node splits+j.
func (m *lgbModel) tree(f map[string][]byte) (Tree, error) {
	leaves, err := strconv.Atoi(string(f["num_leaves"]))
	if err != nil || leaves < 1 || leaves > 1<<30 {
		return Tree{}, fmt.Errorf("num_leaves is %s", quote(string(f["num_leaves"])))
	}
	if linear := string(f["is_linear"]); linear != "" && linear != "0" {
		return Tree{}, unsupported("linear trees (linear_tree=true) are not supported")
	}
	splits := leaves - 1
	values, err := list(f, "leaf_value", leaves, true, parseFloat64)
	if err != nil {
		return Tree{}, err
	}
	covers, err := list(f, "leaf_count", leaves, false, parseFloat64)
	if err != nil {
		return Tree{}, err
	}
	t := Tree{Scale: 1, Nodes: make([]Node, splits+leaves)}
	for j, v := range values {
		t.Nodes[splits+j] = Node{Value: v, Left: -1, Right: -1, Set: -1}
		if covers != nil {
			t.Nodes[splits+j].Cover = float32(covers[j])
		}
	}
	if splits > 0 {
		if err := m.splits(&t, f, splits); err != nil {
			return Tree{}, err
		}
	}
	highest, err := t.settle(m.limits.Depth)
	if err == nil && int(highest) >= m.numFeature {
		err = fmt.Errorf("it splits on feature %d, but max_feature_idx is %d", highest, m.numFeature-1)
	}
	return t, err
}

func (m *lgbModel) splits(t *Tree, f map[string][]byte, splits int) error {
	feature, err := list(f, "split_feature", splits, true, parseInt32)
	if err != nil {
		return err
	}
	threshold, err := list(f, "threshold", splits, true, parseFloat64)
	if err != nil {
		return err
	}
	left, err := list(f, "left_child", splits, true, parseInt32)
	if err != nil {
		return err
	}
	right, err := list(f, "right_child", splits, true, parseInt32)
	if err != nil {
		return err
	}
	decision, err := list(f, "decision_type", splits, false, parseInt32)
	if err != nil {
		return err
	}
	covers, err := list(f, "internal_count", splits, false, parseFloat64)
	if err != nil {
		return err
	}
	// Negative children are leaves: -1 is leaf 0.
	child := func(c int32) int32 {
		if c >= 0 {
			if int(c) >= splits {
				return int32(len(t.Nodes)) // out of range as a split, though it might be in range as a node
			}
			return c
		}
		if ^c >= int32(splits)+1 {
			return int32(len(t.Nodes))
		}
		return int32(splits) + ^c
	}
	for i := range splits {
		n := &t.Nodes[i]
		*n = Node{Op: LessEqual, Value: threshold[i], Feature: feature[i], Left: child(left[i]), Right: child(right[i]), Set: -1, Missing: MissingNone}
		if covers != nil {
			n.Cover = float32(covers[i])
		}
		if decision == nil {
			continue
		}
		d := decision[i]
		n.DefaultLeft = d&lgbDefaultLeft != 0
		switch d >> lgbMissingShift {
		case 0:
		case 1:
			n.Missing = MissingZero
		case 2:
			n.Missing = MissingNaN
		default:
			return fmt.Errorf("decision_type of split %d is %d", i, d)
		}
		if d&lgbCategorical != 0 {
			n.Op = SetLeft
		}
	}
	return m.sets(t, f, splits)
}

// sets fills in the categories of categorical splits: their threshold is an index into cat_boundaries, whose
// neighbours delimit words of cat_threshold.
func (m *lgbModel) sets(t *Tree, f map[string][]byte, splits int) error {
	var boundaries []int32
	var words []uint32
	for i := range t.Nodes[:splits] {
		n := &t.Nodes[i]
		if n.Op != SetLeft {
			continue
		}
		if boundaries == nil {
			count, err := strconv.Atoi(string(f["num_cat"]))
			if err != nil || count < 1 || count > splits {
				return fmt.Errorf("num_cat is %s in a tree with a categorical split", quote(string(f["num_cat"])))
			}
			if boundaries, err = list(f, "cat_boundaries", count+1, true, parseInt32); err != nil {
				return err
			}
			if words, err = list(f, "cat_threshold", int(max(0, boundaries[count])), true, parseUint32); err != nil {
				return err
			}
		}
		k := int(n.Value)
		if float64(k) != n.Value || k < 0 || k+1 >= len(boundaries) {
			return fmt.Errorf("split %d names the set of categories %v, which does not exist", i, n.Value)
		}
		from, to := boundaries[k], boundaries[k+1]
		if from < 0 || to <= from || int(to) > len(words) {
			return fmt.Errorf("split %d has a set of categories outside cat_threshold", i)
		}
		set, err := m.budget.set((to-from)*32 - 1)
		if err != nil {
			return fmt.Errorf("split %d: %w", i, err)
		}
		copy(set, words[from:to])
		n.Set, n.Value = int32(len(t.Categories)), 0
		t.Categories = append(t.Categories, set)
	}
	return nil
}

// list reads the n values of a line; a missing line gives nil unless it must be there.
func list[T any](f map[string][]byte, key string, n int, must bool, parse func(string) (T, error)) ([]T, error) {
	line, ok := f[key]
	if !ok {
		if must {
			return nil, fmt.Errorf("%s is missing", key)
		}
		return nil, nil
	}
	if len(bytes.TrimSpace(line)) == 0 && !must {
		return nil, nil
	}
	if n > (len(line)+1)/2 { // a value takes a character and a space at least
		return nil, fmt.Errorf("%s is too short for %d values", key, n)
	}
	out := make([]T, 0, n)
	for word := range bytes.FieldsSeq(line) {
		if len(out) == n {
			return nil, fmt.Errorf("%s has more than %d values", key, n)
		}
		if len(word) > 64 {
			return nil, fmt.Errorf("%s has a value of %d characters", key, len(word))
		}
		v, err := parse(string(word))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, v)
	}
	if len(out) != n {
		return nil, fmt.Errorf("%s has %d values; there should be %d", key, len(out), n)
	}
	return out, nil
}

func parseInt32(text string) (int32, error) {
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not an integer of 32 bits", quote(text))
	}
	return int32(v), nil
}

func parseUint32(text string) (uint32, error) {
	v, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not an unsigned integer of 32 bits", quote(text))
	}
	return uint32(v), nil
}
