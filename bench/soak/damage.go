package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/picket-ml/picket/internal/testkit"
	"github.com/picket-ml/picket/packaging"
)

// specimen is a sound artifact of a kind, and what is done to it.
type specimen struct {
	name    string
	backend string // empty where the daemon is to choose
	// files are all of the artifact; of a package it is one, of which the name is packageFile.
	files map[string][]byte
	// damage gives the specimen again and again, each time with something wrong.
	damage func(s *specimen, r *rand.Rand) []damaged
}

// damaged is an artifact with which something is wrong.
type damaged struct {
	what  string
	files map[string][]byte
	// mayRun is for damage by chance: it may hit what does not matter, or make another sound model.
	mayRun bool
}

// packageFile is what a package lies under; everything else is a folder's.
const packageFile = "package.tar.gz"

// specimens are one artifact of each kind that backends read, real ones all.
func specimens(ctx context.Context, scratch string) ([]*specimen, error) {
	data := filepath.Join(testkit.ModuleRoot(), "internal", "testkit", "testdata")
	nets := filepath.Join(testkit.ModuleRoot(), "backends", "onnx", "testdata", "nets")
	all := []*specimen{
		{name: "xgboost-json", backend: "forest", damage: damageXGBoostJSON},
		{name: "xgboost-ubjson", backend: "forest", damage: damageUBJSON},
		{name: "xgboost-old", backend: "forest", damage: damageOldXGBoost},
		{name: "lightgbm", backend: "forest", damage: damageLightGBM},
		{name: "onnx-trees", backend: "forest", damage: damageONNX},
		{name: "onnx", backend: "onnx", damage: damageONNX},
		{name: "treelite", backend: "treelite", damage: damageTreelite},
		{name: "tvm", backend: "tvm", damage: damageTVM},
		{name: "dlr", backend: "dlr", damage: damageDLR},
	}
	for i, from := range [][]string{
		{filepath.Join(data, "models", "xgboost", "binary-1.7.6.json")},
		{filepath.Join(data, "models", "xgboost", "binary-3.2.0.ubj")},
		{filepath.Join(data, "models", "xgboost", "binary-0.90.deprecated.model")},
		{filepath.Join(data, "models", "lightgbm", "categorical-4.7.0.txt")},
		{filepath.Join(data, "models", "onnx", "xgboost-binary-1.20.1.onnx")},
		{filepath.Join(nets, "cnn", "model.onnx")},
		{filepath.Join(data, "treelite", "fraud-tl1.3.0", "compiled.so"), filepath.Join(data, "treelite", "fraud-tl1.3.0", "compiled.meta")},
		inFolder(filepath.Join(data, "tvm", "cnn-v3"), tvmFiles...),
		inFolder(filepath.Join(data, "tvm", "mlp_b1-v3"), tvmFiles...),
	} {
		all[i].files = map[string][]byte{}
		for _, path := range from {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("reading an artifact: %w", err)
			}
			all[i].files[filepath.Base(path)] = content
		}
	}
	built, err := packed(ctx, scratch, all[0].files)
	if err != nil {
		return nil, err
	}
	all = append(all, &specimen{name: "package", files: map[string][]byte{packageFile: built},
		damage: func(s *specimen, r *rand.Rand) []damaged { return damagePackage(s, r, all[0]) }})
	return all, nil
}

// What TVM makes of a model.
const (
	tvmGraph, tvmParams, library, metadata = "compiled_model.json", "compiled.params", "compiled.so", "compiled.meta"
)

var tvmFiles = []string{tvmGraph, tvmParams, library, metadata}

func inFolder(dir string, names ...string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name)
	}
	return paths
}

// with is the specimen with another content of one file.
func (s *specimen) with(file string, content []byte) map[string][]byte {
	files := maps.Clone(s.files)
	files[file] = content
	return files
}

// only is the one file of a specimen that has no other.
func (s *specimen) only() (name string, content []byte) {
	for name, content = range s.files {
	}
	return name, content
}

// cuts are what is left of a file that was cut at each 1/64. From whole on it may be an artifact.
func (s *specimen) cuts(file string, whole int) []damaged {
	const parts = 64
	var list []damaged
	content := s.files[file]
	for i := range parts {
		n := len(content) * i / parts
		list = append(list, damaged{fmt.Sprintf("%s cut at %d/%d", file, i, parts), s.with(file, content[:n]), n >= whole})
	}
	return list
}

// never is for what is no artifact wherever it is cut.
const never = 1 << 62

// flips change n times up to 8 bytes of a file, within its first so many.
func (s *specimen) flips(file string, within, n int, r *rand.Rand) []damaged {
	var list []damaged
	within = min(within, len(s.files[file]))
	for i := range n {
		content := bytes.Clone(s.files[file])
		for range 1 + i%8 {
			content[r.IntN(within)] ^= byte(1 + r.IntN(255))
		}
		list = append(list, damaged{fmt.Sprintf("%s with %d bytes changed, no. %d", file, 1+i%8, i), s.with(file, content), true})
	}
	return list
}

// words are the numbers that sizes and indices are likely not to be checked against.
var words = []uint64{1<<64 - 1, 1 << 63, 1<<63 - 1, 1 << 62, 1<<32 - 1, 1 << 31, 1<<31 - 1, 0}

// claims put n times a number of 4 or 8 bytes where something else was.
func (s *specimen) claims(file string, within, n int, r *rand.Rand) []damaged {
	var list []damaged
	within = min(within, len(s.files[file]))
	for i := range n {
		content := bytes.Clone(s.files[file])
		word := binary.NativeEndian.AppendUint64(nil, words[i%len(words)])
		at := r.IntN(within / 4)
		copy(content[4*at:], word[:4+4*(i/len(words)%2)])
		list = append(list, damaged{fmt.Sprintf("%s with the word %#x at %d", file, words[i%len(words)], 4*at), s.with(file, content), true})
	}
	return list
}

// nonsense is what is no artifact at all.
func (s *specimen) nonsense(file string, r *rand.Rand) []damaged {
	content := s.files[file]
	list := []damaged{
		{file + " of zeros", s.with(file, make([]byte, len(content))), false},
		{file + " of text", s.with(file, bytes.Repeat([]byte("no model\n"), 100)), false},
		{file + " of brackets", s.with(file, bytes.Repeat([]byte("["), 100_000)), false},
		{file + " of braces", s.with(file, bytes.Repeat([]byte(`{"":`), 100_000)), false},
	}
	for _, n := range []int{1, 64, 4096, 1 << 20} {
		noise := make([]byte, n)
		for i := range noise {
			noise[i] = byte(r.Uint32())
		}
		list = append(list, damaged{fmt.Sprintf("%s of %d bytes of noise", file, n), s.with(file, noise), false})
	}
	return list
}

// edit is a text in the place of another; an empty old one stands for the beginning.
type edit struct{ what, old, new string }

// edited makes the first of each. A text that is not there is an error of this program's.
func (s *specimen) edited(file string, edits []edit) []damaged {
	var list []damaged
	text := string(s.files[file])
	for _, e := range edits {
		if !strings.Contains(text, e.old) {
			panic(fmt.Sprintf("%s of %s does not hold %q", file, s.name, e.old))
		}
		list = append(list, damaged{file + ": " + e.what, s.with(file, []byte(strings.Replace(text, e.old, e.new, 1))), false})
	}
	return list
}

// digits are more of them than any number has.
var digits = strings.Repeat("9", 1000)

func damageXGBoostJSON(s *specimen, r *rand.Rand) []damaged {
	file, _ := s.only()
	const huge = "9223372036854775807"
	return slices.Concat(s.cuts(file, never), s.nonsense(file, r), s.flips(file, never, 48, r), s.edited(file, []edit{
		{"a cycle", `"left_children":[1,3,`, `"left_children":[1,0,`},
		{"its own child", `"left_children":[1,`, `"left_children":[0,`},
		{"a shared child", `"right_children":[2,`, `"right_children":[1,`},
		{"a child past the end", `"right_children":[2,`, `"right_children":[99999,`},
		{"a child of 2^31-1", `"right_children":[2,`, `"right_children":[2147483647,`},
		{"a child of 2^63-1", `"right_children":[2,`, `"right_children":[` + huge + `,`},
		{"a negative child", `"right_children":[2,`, `"right_children":[-2,`},
		{"a child that is no integer", `"right_children":[2,`, `"right_children":[2.5,`},
		{"one child", `"left_children":[1,`, `"left_children":[-1,`},
		{"a feature past the end", `"split_indices":[0,`, `"split_indices":[12,`},
		{"a negative feature", `"split_indices":[0,`, `"split_indices":[-1,`},
		{"a NaN threshold", `"split_conditions":[5.95E1,`, `"split_conditions":[NaN,`},
		{"a threshold beyond float32", `"split_conditions":[5.95E1,`, `"split_conditions":[5.95E99,`},
		{"an endless number", `"split_conditions":[5.95E1,`, `"split_conditions":[` + digits + `,`},
		{"a short array", `"split_conditions":[5.95E1,`, `"split_conditions":[`},
		{"a long array", `"split_conditions":[5.95E1,`, `"split_conditions":[5.95E1,5.95E1,`},
		{"no features", `"num_class":"0","num_feature":"12"`, `"num_class":"0","num_feature":"0"`},
		{"another number of nodes", `"num_nodes":"15"`, `"num_nodes":"16"`},
		{"2^63-1 nodes", `"num_nodes":"15"`, `"num_nodes":"` + huge + `"`},
		{"another number of trees", `"num_trees":"10"`, `"num_trees":"9"`},
		{"2^63-1 trees", `"num_trees":"10"`, `"num_trees":"` + huge + `"`},
		{"a negative number of trees", `"num_trees":"10"`, `"num_trees":"-10"`},
		{"a group of nobody", `"tree_info":[0,`, `"tree_info":[7,`},
		{"vector leaves", `"num_nodes":"15","size_leaf_vector":"0"`, `"num_nodes":"15","size_leaf_vector":"` + huge + `"`},
		{"an unknown booster", `"name":"gbtree"`, `"name":"gbtroll"`},
		{"an unknown objective", `"binary:logistic"`, `"binary:magic"`},
		{"a version to come", `"version":[1,`, `"version":[9,`},
		{"a member twice", `"left_children":`, `"left_children":[],"left_children":`},
		{"nested too deep", `"feature_names":[]`, `"feature_names":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)},
		{"deep objects", `"feature_names":[]`, `"x":` + strings.Repeat(`{"x":`, 10_000) + "0" + strings.Repeat("}", 10_000)},
		{"another encoding", "{", "\xff\xfe{"},
	}))
}

func damageUBJSON(s *specimen, r *rand.Rand) []damaged {
	file, content := s.only()
	list := slices.Concat(s.cuts(file, never), s.nonsense(file, r), s.flips(file, never, 48, r))
	// Counts of typed arrays, and lengths of names, which are 64 bits and big-endian.
	for i, at := range slices.Concat(occurrences(content, "#L", 8), occurrences(content, "L\x00\x00\x00\x00\x00\x00\x00", 8)) {
		at += bytes.IndexByte(content[at:], 'L') + 1
		if at+8 > len(content) {
			continue
		}
		for _, word := range words[:4] {
			changed := bytes.Clone(content)
			binary.BigEndian.PutUint64(changed[at:], word)
			list = append(list, damaged{fmt.Sprintf("%s: a count of %#x, no. %d", file, word, i), s.with(file, changed), false})
		}
	}
	return list
}

// occurrences are where a text stands, the first n of them.
func occurrences(content []byte, text string, n int) []int {
	var list []int
	for at := 0; len(list) < n; {
		next := bytes.Index(content[at:], []byte(text))
		if next < 0 {
			break
		}
		list = append(list, at+next)
		at += next + len(text)
	}
	return list
}

func damageOldXGBoost(s *specimen, r *rand.Rand) []damaged {
	file, content := s.only()
	const header = 512 // of the learner, the booster and the first tree
	list := slices.Concat(s.cuts(file, never), s.nonsense(file, r), s.flips(file, never, 48, r), s.claims(file, header, 64, r))
	swapped := bytes.Clone(content)
	for i := 0; i+4 <= len(swapped); i += 4 {
		slices.Reverse(swapped[i : i+4])
	}
	return append(list, damaged{file + ": the other byte order", s.with(file, swapped), false})
}

func damageLightGBM(s *specimen, r *rand.Rand) []damaged {
	file, content := s.only()
	const huge = "9223372036854775807"
	// What follows the trees is for people.
	return slices.Concat(s.cuts(file, bytes.Index(content, []byte("end of trees"))), s.nonsense(file, r), s.flips(file, never, 48, r), s.edited(file, []edit{
		{"a cycle", "left_child=1 ", "left_child=0 "},
		{"a child past the end", "left_child=1 ", "left_child=99999 "},
		{"a child of 2^31-1", "left_child=1 ", "left_child=2147483647 "},
		{"a leaf past the end", "left_child=1 -1 ", "left_child=1 -99999 "},
		{"a leaf of -2^31", "left_child=1 -1 ", "left_child=1 -2147483648 "},
		{"a child that is no integer", "left_child=1 ", "left_child=1.5 "},
		{"a feature past the end", "split_feature=0 ", "split_feature=12 "},
		{"a negative feature", "split_feature=0 ", "split_feature=-1 "},
		{"a NaN threshold", "threshold=59.250000000000007 ", "threshold=nan "},
		{"an endless number", "threshold=59.250000000000007 ", "threshold=" + digits + " "},
		{"leaves that are not there", "num_leaves=8", "num_leaves=9"},
		{"2^63-1 leaves", "num_leaves=8", "num_leaves=" + huge},
		{"no leaves", "num_leaves=8", "num_leaves=0"},
		{"negative leaves", "num_leaves=8", "num_leaves=-8"},
		{"sets that are not there", "num_cat=4", "num_cat=9"},
		{"2^63-1 sets", "num_cat=4", "num_cat=" + huge},
		{"a set past the end", "cat_boundaries=0 ", "cat_boundaries=0 99999 "},
		{"sets that go back", "cat_boundaries=0 ", "cat_boundaries=7 "},
		{"no features", "max_feature_idx=11", "max_feature_idx=-1"},
		{"2^63-1 features", "max_feature_idx=11", "max_feature_idx=" + huge},
		{"names of another model", "feature_names=Column_0 ", "feature_names="},
		{"2^63-1 classes", "num_class=1", "num_class=" + huge},
		{"no trees an iteration", "num_tree_per_iteration=1", "num_tree_per_iteration=0"},
		{"an unknown decision", "decision_type=10 ", "decision_type=255 "},
		{"an unknown objective", "objective=binary", "objective=magic"},
		{"a version to come", "version=v4", "version=v9"},
		{"trees out of order", "Tree=0", "Tree=1"},
		{"linear trees", "is_linear=0", "is_linear=1"},
	}))
}

// damageONNX also adds to the model, which in a protobuf is as if it had been said in its place.
func damageONNX(s *specimen, r *rand.Rand) []damaged {
	file, content := s.only()
	list := slices.Concat(s.nonsense(file, r), s.flips(file, never, 64, r))
	for _, cut := range s.cuts(file, never) {
		cut.mayRun = len(cut.files[file]) == 0 // decided below
		list = append(list, cut)
	}
	field := func(n protowire.Number, message []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), message)
	}
	number := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	// Fields of onnx.proto: a model's graph is 7; of it the nodes are 1, initial values 5, inputs 11, outputs 12.
	graph := func(parts ...[]byte) []byte { return slices.Concat(content, field(7, bytes.Join(parts, nil))) }
	value := func(parts ...[]byte) []byte {
		return field(5, bytes.Join(append(parts, field(8, []byte("more"))), nil))
	}
	deep := []byte{}
	for range 10_000 { // a node's attribute (5) holds a graph (6) with a node (1)
		deep = field(1, field(5, field(6, deep)))
	}
	outside := func(path string) []byte { // external_data (13) with a location, and data_location (14) of 1
		return value(number(1, 4), number(2, 1), field(13, slices.Concat(field(1, []byte("location")), field(2, []byte(path)))), number(14, 1))
	}
	for what, data := range map[string][]byte{
		"an initial value of 2^124 numbers":  graph(value(number(1, 1<<62), number(1, 1<<62), number(2, 1))),
		"an initial value of 2^62 numbers":   graph(value(number(1, 1<<62), number(2, 1), field(9, []byte{0, 0, 0, 0}))),
		"a negative dimension":               graph(value(number(1, 1<<64-1), number(2, 1), field(9, []byte{0, 0, 0, 0}))),
		"10,000 graphs in each other":        slices.Concat(content, field(7, deep)),
		"a file outside":                     graph(outside("../../../../etc/passwd")),
		"a file by its whole path":           graph(outside("/etc/passwd")),
		"a file that is a device":            graph(outside("/dev/zero")),
		"a length beyond the end":            slices.Concat(content, protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.BytesType), 1<<40)),
		"a length of 2^64-1":                 slices.Concat(content, protowire.AppendVarint(protowire.AppendTag(nil, 7, protowire.BytesType), 1<<64-1)),
		"a number that does not end":         slices.Concat(content, bytes.Repeat([]byte{0xff}, 11)),
		"a group that does not end":          slices.Concat(content, protowire.AppendTag(nil, 7, protowire.StartGroupType)),
		"10,000 groups":                      slices.Concat(content, bytes.Repeat(protowire.AppendTag(nil, 7, protowire.StartGroupType), 10_000)),
		"an operator that nobody has":        graph(field(1, slices.Concat(field(2, []byte("more")), field(4, []byte("NoSuchOperator"))))),
		"an input that nobody has declared":  graph(field(1, slices.Concat(field(1, []byte("nobody")), field(2, []byte("more")), field(4, []byte("Relu"))))),
		"an output that nobody makes":        graph(field(12, field(1, []byte("nobody")))),
		"an operator set of 2^63-1":          slices.Concat(content, field(8, number(2, 1<<63-1))),
		"an operator set of another's":       slices.Concat(content, field(8, slices.Concat(field(1, []byte("com.example")), number(2, 1)))),
		"a function in the place of a graph": slices.Concat(content, field(25, slices.Concat(field(1, []byte("Relu")), field(7, field(4, []byte("Relu")))))),
	} {
		// What a reader does not use it may leave out, as the format says it shall.
		mayRun := strings.HasPrefix(what, "an operator set") || strings.HasPrefix(what, "a function")
		list = append(list, damaged{file + ": " + what, s.with(file, data), mayRun})
	}
	slices.SortStableFunc(list, func(a, b damaged) int { return cmp.Compare(a.what, b.what) }) // maps have no order
	return list
}

// damageLibrary changes what stands in the first bytes of a library, which is where its parts are said to be, and cuts it. What its code does
// is not the loader's to judge; see docs/SECURITY.md.
func damageLibrary(s *specimen, symbol string, r *rand.Rand) []damaged {
	content := s.files[library]
	const headers = 64 + 8*56 // of ELF, and of its segments
	list := slices.Concat(s.cuts(library, never), s.nonsense(library, r), s.flips(library, headers, 48, r), s.claims(library, headers, 64, r))
	add := func(what string, change func(b []byte) []byte) {
		list = append(list, damaged{library + ": " + what, s.with(library, change(bytes.Clone(content))), false})
	}
	add("a byte less", func(b []byte) []byte { return b[:len(b)-1] })
	other := byte(183) // EM_AARCH64
	if runtime.GOARCH == "arm64" {
		other = 62 // EM_X86_64
	}
	for what, change := range map[string]func(b []byte){
		"another machine":         func(b []byte) { b[18], b[19] = other, 0 },
		"of 32 bits":              func(b []byte) { b[4] = 1 },
		"of the other byte order": func(b []byte) { b[5] = 2 },
		"another kind of ELF":     func(b []byte) { b[6] = 9 },
		"an object file":          func(b []byte) { b[16] = 1 },
		"a program":               func(b []byte) { b[16] = 2 },
		"a core dump":             func(b []byte) { b[16] = 4 },
		"segments beyond the end": func(b []byte) { binary.LittleEndian.PutUint64(b[32:], uint64(len(b))) },
		"segments at 2^64-1":      func(b []byte) { binary.LittleEndian.PutUint64(b[32:], 1<<64-1) },
		"segments of no size":     func(b []byte) { binary.LittleEndian.PutUint16(b[54:], 0) },
		"65,535 segments":         func(b []byte) { binary.LittleEndian.PutUint16(b[56:], 1<<16-1) },
		"no segments":             func(b []byte) { binary.LittleEndian.PutUint16(b[56:], 0) },
	} {
		add(what, func(b []byte) []byte { change(b); return b })
	}
	if i := bytes.Index(content, []byte("GLIBC_2.")); i >= 0 {
		add("a C library to come", func(b []byte) []byte { b[i+len("GLIBC_")] = '9'; return b })
	}
	add("another name for "+symbol, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(symbol), []byte("x"+symbol[1:]))
	})
	slices.SortStableFunc(list, func(a, b damaged) int { return cmp.Compare(a.what, b.what) }) // maps have no order
	return list
}

// damageMetadata writes other metadata.
func damageMetadata(s *specimen) []damaged {
	var list []damaged
	input := func(shape string) string {
		return `{"Model": {"Inputs": [{"name": "data", "dtype": "float32", "shape": ` + shape + `}]}}`
	}
	for _, m := range []struct{ what, text string }{
		{"no JSON", "Model: {}"}, {"cut off", `{"Model": {"Inputs": [`}, {"10,000 deep", strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)},
		{"5 MiB of blanks", strings.Repeat(" ", 5<<20)}, {"inputs that are text", `{"Model": {"Inputs": "data"}}`},
		{"a product beyond 64 bits", input("[9223372036854775807, 9223372036854775807]")}, {"a zero dimension", input("[0, 30]")},
		{"a negative dimension", input("[-9223372036854775808, 30]")}, {"a dimension that is no integer", input("[1.5, 30]")},
		{"10,000 dimensions", input("[" + strings.Repeat("1,", 10_000) + "1]")},
		{"another device", `{"Requirements": {"TargetDeviceType": "gpu"}}`}, {"a processor to come", `{"Picket": {"CPU": "x86-64-v9"}}`},
		{"a transform", `{"DataTransform": {"Input": {"ColumnTransform": []}}}`},
	} {
		list = append(list, damaged{metadata + ": " + m.what, s.with(metadata, []byte(m.text)), false})
	}
	return list
}

func damageTreelite(s *specimen, r *rand.Rand) []damaged {
	return slices.Concat(damageLibrary(s, "predict", r), damageMetadata(s))
}

func damageTVM(s *specimen, r *rand.Rand) []damaged {
	const huge = "9223372036854775807"
	const header = 512 // of a file of parameters: counts and names, then the first of them
	_, shapes, _ := strings.Cut(string(s.files[tvmGraph]), `"list_shape",`)
	first := "[" + between(shapes, "[", "]") + "]"
	first = first[strings.LastIndexByte(first, '['):] // the shape of the first entry
	return slices.Concat(
		damageLibrary(s, "tvmgen_default_fused", r), damageMetadata(s),
		s.cuts(tvmParams, never), s.nonsense(tvmParams, r), s.flips(tvmParams, header, 24, r), s.claims(tvmParams, header, 64, r),
		s.cuts(tvmGraph, never), s.nonsense(tvmGraph, r), s.flips(tvmGraph, never, 24, r),
		s.edited(tvmGraph, []edit{
			{"shapes that overflow", first, "[" + huge + ", " + huge + "]"},
			{"a shape of 2^40 numbers", first, "[1, 1099511627776]"},
			{"a negative dimension", first, "[-3, 30]"},
			{"a zero dimension", first, "[0]"},
			{"a dimension of letters", first, `["many"]`},
			{"10,000 dimensions", first, "[" + strings.Repeat("1,", 10_000) + "1]"},
			{"another type", `"float32"`, `"float1024"`},
			{"no type", `"float32"`, `""`},
			{"no shapes", `"shape"`, `"shapes"`},
			{"no outputs", `"heads"`, `"tails"`},
			{"no nodes", `"nodes"`, `"knots"`},
			{"a function that nobody has", `"func_name": "tvmgen_`, `"func_name": "tvmgem_`},
			{"an operation that nobody has", `"op": "tvm_op"`, `"op": "magic"`},
			{"inputs that are not there", `"num_inputs": "`, `"num_inputs": "9`},
			{"outputs that are not there", `"num_outputs": "1"`, `"num_outputs": "` + huge + `"`},
			{"an argument of nobody", `"arg_nodes": [0,`, `"arg_nodes": [99999,`},
			{"a negative argument", `"arg_nodes": [0,`, `"arg_nodes": [-1,`},
			{"an entry of nobody", `"inputs": [
        [
          0,`, `"inputs": [
        [
          99999,`},
			{"a node that waits for a later one", `"inputs": [
        [
          0,`, `"inputs": [
        [
          3,`},
			{"an index of 2^63", `"inputs": [
        [
          0,`, `"inputs": [
        [
          9223372036854775808,`},
			{"10,000 deep", `"nodes":`, `"more": ` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `, "nodes":`},
			{"a key twice", `"heads":`, `"heads": [], "heads":`},
		}))
}

// damageDLR leaves out what chance does to the graph. Backend tvm runs a model for the first time in a process of its own; libdlr cannot, and a graph that is in
// order and not its library's writes where it may not. It is chosen for a graph only where the configuration forces it; see docs/SECURITY.md.
func damageDLR(s *specimen, r *rand.Rand) []damaged {
	return slices.DeleteFunc(damageTVM(s, r), func(d damaged) bool { return d.mayRun && strings.HasPrefix(d.what, tvmGraph) })
}

// between is what stands between the first of the two texts and the first of the other behind it.
func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// packed is the package of a model of one folder.
func packed(ctx context.Context, scratch string, files map[string][]byte) ([]byte, error) {
	dir, err := os.MkdirTemp(scratch, "package-")
	if err != nil {
		return nil, fmt.Errorf("making a folder for a package: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it lies below the folder that is removed at the end
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("writing a model: %w", err)
		}
	}
	out := filepath.Join(dir, "..", filepath.Base(dir)+".tar.gz")
	defer func() { _ = os.Remove(out) }() // likewise
	if _, err := packaging.Build(ctx, packaging.BuildOptions{Name: "soak", Version: "1", Out: out, Variants: []packaging.BuildVariant{{Name: "any", Dir: dir}}}); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// damagePackage cuts and flips a package, whose check sum sees it where it is read; writes others whose check sums are right; and packs models that are not.
func damagePackage(s *specimen, r *rand.Rand, model *specimen) []damaged {
	_, content := s.only()
	// What was unpacked before, under the digest of a manifest that is whole, is used again: then what comes behind the manifest is not read.
	list := slices.Concat(s.cuts(packageFile, never), s.nonsense(packageFile, r), s.flips(packageFile, never, 64, r))
	spaced, files := opened(content)
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(spaced)); err != nil {
		panic(err) // it was built above
	}
	manifest := compact.String()
	add := func(what, manifest string, files []entry) {
		list = append(list, damaged{packageFile + ": " + what, map[string][]byte{packageFile: repacked(manifest, files)}, false})
	}
	for _, e := range []edit{
		{"a format to come", `"format":1`, `"format":99`},
		{"no name", `"model_name":"soak"`, `"model_name":""`},
		{"a name that is a path", `"model_name":"soak"`, `"model_name":"../../soak"`},
		{"a version of letters", `"model_version":"1"`, `"model_version":"/"`},
		{"a file outside", `"path":"` + files[0].name, `"path":"../` + files[0].name},
		{"a file by its whole path", `"path":"` + files[0].name, `"path":"/etc/passwd`},
		{"another digest", `"sha256":"`, `"sha256":"00`},
		{"a digest of letters", `"sha256":"`, `"sha256":"zz`},
		{"a size of 2^63-1", `"size":`, `"size":9223372036854775807,"x":`},
		{"a negative size", `"size":`, `"size":-`},
		{"another size", `"size":`, `"size":1`},
		{"another machine", `"requires":{`, `"requires":{"arch":"s390x"`},
		{"10,000 deep", `"picket":{`, `"picket":{"x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `,`},
		{"a key twice", `"picket":{`, `"picket":{},"picket":{`},
	} {
		if !strings.Contains(manifest, e.old) {
			panic(fmt.Sprintf("the manifest does not hold %q: %s", e.old, manifest))
		}
		add(e.what, strings.Replace(manifest, e.old, e.new, 1), files)
	}
	add("a manifest of 2 MiB", strings.Repeat(" ", 2<<20), files)
	add("a file less", manifest, nil)
	add("a file more", manifest, append(slices.Clone(files), entry{"more", []byte("more")}))
	add("a file twice", manifest, append(slices.Clone(files), files...))
	for _, n := range []int{0, len(files[0].content) - 1} {
		add(fmt.Sprintf("a file cut to %d bytes", n), manifest, []entry{{files[0].name, files[0].content[:n]}})
	}
	changed := bytes.Clone(files[0].content)
	changed[len(changed)/2] ^= 1
	add("a file with a bit changed", manifest, []entry{{files[0].name, changed}})
	// And those that are in order, around models that are not.
	name, _ := model.only()
	for _, d := range damageXGBoostJSON(model, r) {
		if d.mayRun {
			continue
		}
		digest := between(manifest, `"sha256":"`, `"`)
		add("around "+d.what, strings.NewReplacer(digest, sha256Hex(d.files[name]), `"size":`+between(manifest, `"size":`, ","), fmt.Sprintf(`"size":%d`, len(d.files[name]))).Replace(manifest),
			[]entry{{files[0].name, d.files[name]}})
	}
	return list
}

// entry is a file in an archive.
type entry struct {
	name    string
	content []byte
}

// opened gives the manifest of a sound package, and what else is in it.
func opened(content []byte) (manifest string, files []entry) {
	zipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		panic(err) // it was built above
	}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if err != nil {
			return manifest, files
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(r); err != nil {
			panic(err) // likewise
		}
		if h.Name == packaging.ManifestName {
			manifest = b.String()
			continue
		}
		files = append(files, entry{h.Name, b.Bytes()})
	}
}

// repacked is an archive as docs/formats/package.md says, with check sums that are right.
func repacked(manifest string, files []entry) []byte {
	const (
		extra = 12 // where the extra field of the gzip header begins, of which
		size  = 16 // is where the size stands, and
		sum   = 24 // the check sum of what follows
	)
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	zipped.OS = 255
	zipped.Extra = append([]byte("Pk\x0c\x00"), make([]byte, 12)...)
	w := tar.NewWriter(zipped)
	for _, e := range append([]entry{{packaging.ManifestName, []byte(manifest)}}, files...) {
		err := w.WriteHeader(&tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: e.name, Size: int64(len(e.content)), Mode: 0o644})
		if err == nil {
			_, err = w.Write(e.content)
		}
		if err != nil {
			panic(err) // memory takes everything
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	if err := zipped.Close(); err != nil {
		panic(err)
	}
	packed := b.Bytes()
	binary.LittleEndian.PutUint64(packed[size:], uint64(len(packed)))
	binary.LittleEndian.PutUint32(packed[sum:], crc32.Checksum(packed[extra+len(zipped.Extra):], crc32.MakeTable(crc32.Castagnoli)))
	return packed
}
