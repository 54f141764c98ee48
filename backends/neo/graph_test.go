package neo

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/picket-ml/picket/internal/testkit"
)

func realGraph(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(testkit.Path(t, "tvm/mlp_b1-v3/compiled_model.json"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseGraph(t *testing.T) {
	g, err := parseGraph(realGraph(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Nodes) != 10 || len(g.Entries) != 10 || len(g.Arguments) != 7 || len(g.Heads) != 1 || g.Heads[0] != 9 {
		t.Fatalf("got %d nodes, %d tensors, %d arguments, heads %v", len(g.Nodes), len(g.Entries), len(g.Arguments), g.Heads)
	}
	if n := g.Nodes[3]; n.Function != "tvmgen_default_fused_nn_contrib_dense_pack_add_nn_relu" || len(n.Inputs) != 3 || n.First != 3 || n.Count != 1 || n.Flatten {
		t.Errorf("got %+v", n)
	}
	if e := g.Entries[1]; e.Element.String() != "float32" || e.Shape.String() != "[4, 30, 16]" || e.Bytes != 4*4*30*16 || e.Storage != 1 || e.Value != 1 {
		t.Errorf("got %+v", e)
	}
}

// node is a node of a graph that a test makes up: what it calls, what it takes,
// and where its one output lies.
type node struct {
	function string
	inputs   []int
	storage  int
	shape    []int64
}

// madeUp is a graph of these nodes, the last of which is the answer.
func madeUp(nodes ...node) []byte {
	var all, refs, shapes, types, storage, rows []any
	rows = append(rows, 0)
	for i, n := range nodes {
		inputs := []any{}
		for _, in := range n.inputs {
			inputs = append(inputs, []int{in, 0, 0})
		}
		name := string(rune('a' + i))
		if n.function == "" {
			all = append(all, map[string]any{"op": "null", "name": name, "inputs": inputs})
			refs = append(refs, i)
		} else {
			all = append(all, map[string]any{"op": "tvm_op", "name": name, "inputs": inputs, "attrs": map[string]string{
				"func_name": n.function, "num_inputs": string(rune('0' + len(inputs))), "num_outputs": "1", "flatten_data": "0"}})
		}
		if n.shape == nil {
			n.shape = []int64{1, 4}
		}
		shapes, types, storage, rows = append(shapes, n.shape), append(types, "float32"), append(storage, n.storage), append(rows, i+1)
	}
	data, err := json.Marshal(map[string]any{
		"nodes": all, "arg_nodes": refs, "heads": []any{[]int{len(nodes) - 1, 0, 0}}, "node_row_ptr": rows,
		"attrs": map[string]any{"dltype": []any{"list_str", types}, "shape": []any{"list_shape", shapes}, "storage_id": []any{"list_int", storage}},
	})
	if err != nil {
		panic(err)
	}
	return data
}

func TestFollowsStorage(t *testing.T) {
	for name, tc := range map[string]struct {
		nodes []node
		says  string // empty where it is sound
	}{
		"memory used again":   {[]node{{}, {"f", []int{0}, 1, nil}, {"g", []int{1}, 2, nil}, {"h", []int{2}, 1, nil}}, ""},
		"another shape":       {[]node{{}, {"f", []int{0}, 1, nil}, {Nop, []int{1}, 1, []int64{4}}, {"g", []int{2}, 2, nil}}, ""},
		"an input as it is":   {[]node{{}, {Nop, []int{0}, 0, []int64{2, 2}}}, ""},
		"read too late":       {[]node{{}, {"f", []int{0}, 1, nil}, {"g", []int{0}, 1, nil}, {"h", []int{1}, 2, nil}}, `node 3 ("d") reads as input 0 what lay in storage 1`},
		"a shape too late":    {[]node{{}, {"f", []int{0}, 1, nil}, {Nop, []int{1}, 1, []int64{4}}, {"g", []int{0}, 1, nil}, {"h", []int{2}, 2, nil}}, `node 4 ("e") reads as input 0 what lay in storage 1`},
		"in place":            {[]node{{}, {"f", []int{0}, 1, nil}, {"g", []int{1}, 1, nil}}, `node 2 ("c") writes output 0 to storage 1, from which it reads`},
		"over an input":       {[]node{{}, {"f", []int{0}, 1, nil}, {"g", []int{1}, 0, nil}}, "which is for the caller to fill"},
		"two inputs in one":   {[]node{{}, {}, {"f", []int{0, 1}, 2, nil}}, "lie in the same storage 0"},
		"a shape that grows":  {[]node{{}, {"f", []int{0}, 1, nil}, {Nop, []int{1}, 1, []int64{5}}}, "turns float32 [1, 4] in storage 1 into float32 [5]"},
		"a shape elsewhere":   {[]node{{}, {"f", []int{0}, 1, nil}, {Nop, []int{1}, 2, []int64{4}}}, "in storage 2"},
		"two for one":         {[]node{{}, {"", nil, 1, nil}, {"f", []int{0}, 2, nil}, {Nop, []int{2, 1}, 2, nil}}, "gives 1 tensors of 2 another shape"},
		"itself":              {[]node{{}, {"f", []int{1}, 1, nil}}, "node 1, which does not run before it: the graph has a cycle"},
		"the one behind":      {[]node{{}, {"f", []int{2}, 1, nil}, {"g", []int{1}, 2, nil}}, "has a cycle, or its nodes are out of order"},
		"not there":           {[]node{{}, {"f", []int{70000}, 1, nil}}, "node 70000, which is not there"},
		"storage not there":   {[]node{{}, {"f", []int{0}, 9, nil}}, "its tensor 1 lies in storage 9, and storage is numbered from 0 to 1"},
		"negative storage":    {[]node{{}, {"f", []int{0}, -1, nil}}, "storage -1"},
		"a huge shape":        {[]node{{}, {"f", []int{0}, 1, []int64{1 << 40, 1 << 40}}}, "its tensor 1: "},
		"many bytes":          {[]node{{}, {"f", []int{0}, 1, []int64{1 << 62}}}, "more bytes than can be counted"},
		"a negative shape":    {[]node{{}, {"f", []int{0}, 1, []int64{-1, 4}}}, "its tensor 1: "},
		"nine dimensions":     {[]node{{}, {"f", []int{0}, 1, make([]int64, 9)}}, "its tensor 1: "},
		"an odd function":     {[]node{{}, {"f g", []int{0}, 1, nil}}, "which is no name of a function"},
		"an input with input": {[]node{{}, {"", []int{0}, 1, nil}}, "is to be filled by the caller, and has 1 inputs"},
	} {
		g, err := parseGraph(madeUp(tc.nodes...))
		switch {
		case tc.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.says != "" && err == nil:
			t.Errorf("%s: it passes", name)
		case tc.says != "" && (g != nil || !strings.Contains(err.Error(), tc.says)):
			t.Errorf("%s: want an error that says %q, got %v", name, tc.says, err)
		}
	}
}

func TestRefusesDamagedGraph(t *testing.T) {
	data := string(realGraph(t))
	for name, tc := range map[string]struct{ old, now, says string }{
		"no JSON":                 {"{", "[", "not the JSON of a TVM graph"},
		"no nodes":                {`"nodes"`, `"nodez"`, "no nodes"},
		"no name":                 {`"name": "p0"`, `"name": ""`, "the name \"\""},
		"a name twice":            {`"name": "p1"`, `"name": "p0"`, `lists "p0" twice`},
		"an unknown operation":    {`"op": "tvm_op"`, `"op": "run"`, `has the operation "run"`},
		"no function":             {`"func_name"`, `"function"`, "has no attribute func_name"},
		"no text":                 {`"num_inputs": "3"`, `"num_inputs": 3`, "attribute num_inputs that is no text"},
		"fewer inputs":            {`"num_inputs": "3"`, `"num_inputs": "2"`, `its num_inputs is "2", and has 3`},
		"more outputs":            {`"num_outputs": "1"`, `"num_outputs": "2"`, `its num_outputs is "2", and has 1`},
		"no types":                {`"dltype"`, `"type"`, "no attribute dltype"},
		"an unknown type":         {`"float32"`, `"float31"`, "the type float31 is unknown"},
		"a vector type":           {`"float32"`, `"float32x4"`, `the type "float32x4" is unknown`},
		"a missing shape":         {"[1, 30], \n", "\n", "shape is for 9 tensors, and there are 10"},
		"a shape that is no list": {"[1, 30]", "30", "shape is not a list"},
		"another device":          {"[1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", "[1, 1, 2, 1, 1, 1, 1, 1, 1, 1]", "its tensor 2 is on a device of type 2"},
		"a list that is none":     {`"list_int", `, "", "is not a kind and a list"},
		"rows from elsewhere":     {"\"node_row_ptr\": [\n    0", "\"node_row_ptr\": [\n    1", "goes from 1 to 10"},
		"rows backwards":          {"3, \n    4, \n    5", "3, \n    3, \n    5", "goes from 3 to 3 at node 3"},
		"fewer rows":              {"8, \n    9", "8", "has 10 numbers, and should have 11"},
		"no such argument":        {"[0, 1, 2, 4, 5, 7, 8]", "[0, 1, 2, 3, 5, 7, 8]", "lists node 3"},
		"an argument less":        {"[0, 1, 2, 4, 5, 7, 8]", "[0, 1, 2, 4, 5, 7]", `node 8 ("p5") is for the caller to fill`},
		"no output":               {"\"heads\": [\n    [\n      9, \n      0, \n      0\n    ]\n  ]", `"heads": []`, "gives 0 outputs"},
		"an output not there":     {"9, \n      0, \n      0", "9, 1, 0", "its heads name output 1 of node 9, which has 1"},
		"a node out of reach":     {"9, \n      0, \n      0", "10, 0, 0", "its heads name an output of node 10"},
		"a key twice":             {`"heads":`, `"heads": [], "heads":`, `the key "heads" twice`},
		"a key in two cases":      {`"shape": [`, `"Shape": [], "shape": [`, `the key "shape" twice`},
		"an older spelling too":   {`"attrs": {`, `"attr": {"func_name": "other"}, "attrs": {`, "both attrs and attr"},
		"a nest":                  {"[1, 30]", strings.Repeat("[", 1000), "nests more than"},
	} {
		damaged := strings.Replace(data, tc.old, tc.now, 1)
		if damaged == data {
			t.Errorf("BUG: %s changes nothing", name)
		}
		if _, err := parseGraph([]byte(damaged)); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: want an error that says %q, got %v", name, tc.says, err)
		}
	}
}

// FuzzGraph: what passes can be run in its order, within the memory that it counts.
func FuzzGraph(f *testing.F) {
	f.Add(realGraph(f))
	f.Add(madeUp(node{}, node{"f", []int{0}, 1, nil}, node{Nop, []int{1}, 1, []int64{4}}, node{"g", []int{2}, 2, nil}))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseGraph(data)
		if err != nil {
			if g != nil {
				t.Fatal("an error and a value")
			}
			return
		}
		written := make([]bool, len(g.Entries))
		for _, n := range g.Nodes {
			for _, in := range n.Inputs {
				if !written[in] {
					t.Fatalf("node %q takes tensor %d before it is there", n.Name, in)
				}
			}
			for i := range n.Count {
				e := g.Entries[n.First+i]
				if written[n.First+i] || e.Storage < 0 || e.Storage >= len(g.Entries) || e.Bytes < 0 || e.Value > n.First+i {
					t.Fatalf("node %q gives %+v", n.Name, e)
				}
				written[n.First+i] = true
			}
		}
		for _, h := range g.Heads {
			if !written[h] {
				t.Fatalf("output %d is never written", h)
			}
		}
	})
}
