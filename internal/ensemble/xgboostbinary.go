package ensemble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// XGBoost's binary format, which it wrote by default before 1.0 and on request up to 3.0, and reads no longer. Everything is little-endian
// and without padding; a text is its length in eight bytes, then its bytes.
//
//	"binf"            since 1.0; files of 0.90 start with the next line
//	learner           136 bytes: base score (float32), features, classes, whether attributes and whether metrics follow
//	                  at the end, version (major, minor: 0 before 1.0), targets (since 1.6), reserve
//	objective, booster  two texts
//	model             160 bytes: trees, trees per round (or the constant 1), reserve
//	trees             each 148 bytes (roots, nodes, deleted nodes, depth, features, leaf vector, reserve),
//	                  20 bytes a node (parent, left, right, feature with the default direction in bit 31, value),
//	                  16 bytes of statistics a node (gain, cover, weight, leaves below)
//	groups            four bytes a tree
//	weights           dart with trees: their number in eight bytes, a float32 each
//	attributes        if announced: their number in eight bytes, two texts each
//	before 1.0        for count:poisson a text; if metrics are announced their number and a text each
const (
	xgbMagic        = "binf"
	xgbSnapshot     = "CONFIG-offset:" // a pickled booster of 1.0 to 1.2: length of the model, model, configuration as JSON
	xgbLearnerBytes = 136
	xgbModelBytes   = 160
	xgbTreeBytes    = 148
	xgbNodeBytes    = 20
	xgbStatBytes    = 16
)

// binaryReader takes fields off the front of a file.
type binaryReader struct {
	data []byte
	pos  int
}

// take gives the next n bytes, n being no greater than math.MaxInt.
func (r *binaryReader) take(n uint64, what string) ([]byte, error) {
	if left := uint64(len(r.data) - r.pos); n > left {
		return nil, fmt.Errorf("at byte %d: %s should take %d bytes, but %d are left: the file is cut short or damaged", r.pos, what, n, left)
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

// count reads a number of things that take at least unit bytes each.
func (r *binaryReader) count(unit uint64, what string) (int, error) {
	b, err := r.take(8, "the number of "+what)
	if err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(r.data)-r.pos)/unit {
		return 0, fmt.Errorf("at byte %d: %d %s do not fit into what is left of the file", r.pos, n, what)
	}
	return int(n), nil
}

func (r *binaryReader) text(what string) (string, error) {
	n, err := r.count(1, "characters of "+what)
	if err != nil {
		return "", err
	}
	b, err := r.take(uint64(n), what)
	return string(b), err
}

func int32At(b []byte, field int) int32 { return int32(binary.LittleEndian.Uint32(b[4*field:])) }

func float32At(b []byte, field int) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(b[4*field:]))
}

// isXGBoostBinary says whether a file without xgbMagic starts like the binary format: a learner whose fields make
// sense, zeros in its reserve, and an objective's name.
func isXGBoostBinary(head []byte) bool {
	if len(head) < xgbLearnerBytes+8+4 {
		return false
	}
	features, classes, attributes, metrics := int32At(head, 1), int32At(head, 2), int32At(head, 3), int32At(head, 4)
	major, minor, targets, average := int32At(head, 5), int32At(head, 6), int32At(head, 7), int32At(head, 8)
	base := float64(float32At(head, 0))
	if math.IsNaN(base) || math.IsInf(base, 0) || features <= 0 || classes < 0 || attributes&^1 != 0 || metrics&^1 != 0 ||
		major < 0 || major > 3 || minor < 0 || minor > 99 || targets < 0 || average&^1 != 0 {
		return false
	}
	for _, b := range head[9*4 : xgbLearnerBytes] {
		if b != 0 {
			return false
		}
	}
	n := binary.LittleEndian.Uint64(head[xgbLearnerBytes:])
	if n < 4 || n > 64 {
		return false
	}
	name := head[xgbLearnerBytes+8:]
	for _, c := range name[:min(int(n), len(name))] {
		if (c < 'a' || c > 'z') && c != ':' {
			return false
		}
	}
	return bytes.IndexByte(name, ':') > 0
}

// readXGBoostBinary reads the binary format of 0.90 to 3.0.
func readXGBoostBinary(data []byte, l Limits) (*Ensemble, error) {
	if rest, ok := bytes.CutPrefix(data, []byte(xgbSnapshot)); ok {
		r := &binaryReader{data: rest}
		n, err := r.count(1, "bytes of the model")
		if err != nil {
			return nil, err
		}
		data = rest[8 : 8+n]
	}
	r := &binaryReader{data: bytes.TrimPrefix(data, []byte(xgbMagic))}
	m := &xgbModel{limits: l, maxFeature: -1}
	head, err := r.take(xgbLearnerBytes, "the learner's parameters")
	if err != nil {
		return nil, err
	}
	m.version = []int32{int32At(head, 5), int32At(head, 6)}
	first := m.version[0] == 0 // before 1.0: the version was not stored, and the base score was stored as a margin
	if first {
		m.version, m.baseIsMargin = []int32{1, 0}, true
	}
	m.params = map[string]string{
		"base_score":  strconv.FormatFloat(float64(float32At(head, 0)), 'g', -1, 32),
		"num_feature": strconv.FormatUint(uint64(uint32(int32At(head, 1))), 10),
		"num_class":   strconv.Itoa(int(int32At(head, 2))),
		"num_target":  strconv.Itoa(int(max(1, int32At(head, 7)))),
	}
	if base := float64(float32At(head, 0)); math.IsNaN(base) || math.IsInf(base, 0) {
		return nil, fmt.Errorf("base_score is %v", base)
	}
	if m.objective, err = r.text("the objective's name"); err != nil {
		return nil, err
	}
	m.objective = strings.TrimPrefix(m.objective, "gpu:") // 0.90 had the same objectives under this name, too
	if m.booster, err = r.text("the booster's name"); err != nil {
		return nil, err
	}
	if m.booster == "gbtree" || m.booster == "dart" { // others are refused by name, below
		if err := m.binaryBooster(r); err != nil {
			return nil, err
		}
		if err := binaryTail(r, first && m.objective == "count:poisson", int32At(head, 3) != 0, first && int32At(head, 4) != 0); err != nil {
			return nil, err
		}
	}
	e, err := m.ensemble("binary")
	if e != nil && first {
		e.Version = ""
	}
	return e, err
}

// binaryBooster reads the trees, their groups and dart's weights.
func (m *xgbModel) binaryBooster(r *binaryReader) error {
	head, err := r.take(xgbModelBytes, "the model's parameters")
	if err != nil {
		return err
	}
	n := int(int32At(head, 0))
	if left := (len(r.data) - r.pos) / (xgbTreeBytes + xgbNodeBytes + xgbStatBytes + 4); n < 0 || n > left || n > m.limits.Trees {
		return fmt.Errorf("the number of trees is %d; at most %d fit into what is left of the file, and %d are allowed", n, left, m.limits.Trees)
	}
	m.boosterParam = map[string]string{"num_trees": strconv.Itoa(n), "num_parallel_tree": strconv.Itoa(int(max(1, int32At(head, 1))))}
	for i := range n {
		t, err := m.binaryTree(r)
		if err != nil {
			return fmt.Errorf("tree %d: %w", i, err)
		}
		m.trees, m.ids = append(m.trees, t), append(m.ids, i)
	}
	groups, err := r.take(4*uint64(n), "the trees' groups")
	if err != nil {
		return err
	}
	for i := range n {
		m.info = append(m.info, int32At(groups, i))
	}
	if m.booster != "dart" || n == 0 {
		return nil
	}
	weights, err := r.count(4, "dart weights")
	if err != nil {
		return err
	}
	b, err := r.take(4*uint64(weights), "the dart weights")
	if err != nil {
		return err
	}
	for i := range weights {
		m.weightDrop = append(m.weightDrop, float32At(b, i))
	}
	return nil
}

func (m *xgbModel) binaryTree(r *binaryReader) (Tree, error) {
	head, err := r.take(xgbTreeBytes, "its parameters")
	if err != nil {
		return Tree{}, err
	}
	count, deleted := int32At(head, 1), int32At(head, 2)
	if count < 1 {
		return Tree{}, fmt.Errorf("it has %d nodes", count)
	}
	if roots := int32At(head, 0); roots > 1 {
		return Tree{}, fmt.Errorf("it has %d roots; one is supported", roots)
	}
	if size := int32At(head, 5); size < 0 || size > 1 {
		return Tree{}, unsupported("its leaves are vectors of %d; vector leaves are not supported", size)
	}
	nodes, err := r.take(xgbNodeBytes*uint64(count), "its nodes")
	if err != nil {
		return Tree{}, err
	}
	stats, err := r.take(xgbStatBytes*uint64(count), "its nodes' statistics")
	if err != nil {
		return Tree{}, err
	}
	t := Tree{Nodes: make([]Node, count)}
	for i := range t.Nodes {
		b := nodes[xgbNodeBytes*i:]
		left, right, index := int32At(b, 1), int32At(b, 2), uint32(int32At(b, 3))
		if i > 0 && index == math.MaxUint32 {
			deleted-- // pruned: no split leads here
		}
		n := &t.Nodes[i]
		*n = Node{Value: float64(float32At(b, 4)), Cover: float32At(stats, 4*i+1), Left: -1, Right: -1, Set: -1}
		if left == -1 { // the right child of a leaf has no meaning
			continue
		}
		n.Op, n.Left, n.Right = Less, left, right
		n.Feature, n.DefaultLeft = int32(index&math.MaxInt32), index>>31 == 1
	}
	if deleted != 0 {
		return Tree{}, errors.New("the number of its deleted nodes is wrong: the file is damaged")
	}
	highest, err := t.settle(m.limits.Depth)
	m.maxFeature = max(m.maxFeature, highest)
	return t, err
}

// binaryTail passes over what follows the trees, and makes sure that it is the end.
func binaryTail(r *binaryReader, poisson, attributes, metrics bool) error {
	texts := func(what string, each int) error {
		n, err := r.count(8*uint64(each), what)
		for i := 0; i < n*each && err == nil; i++ {
			_, err = r.text("one of the " + what)
		}
		return err
	}
	if attributes {
		if err := texts("attributes", 2); err != nil {
			return err
		}
	}
	if poisson {
		if _, err := r.text("max_delta_step"); err != nil {
			return err
		}
	}
	if metrics {
		if err := texts("metrics", 1); err != nil {
			return err
		}
	}
	if left := len(r.data) - r.pos; left != 0 {
		return fmt.Errorf("%d bytes follow the model: the file is damaged", left)
	}
	return nil
}
