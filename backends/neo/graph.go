package neo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// Limits on a graph. The largest that are met in practice have a few thousand
// nodes and two megabytes.
const (
	maxGraphBytes   = 16 << 20
	maxGraphNodes   = 1 << 16
	maxGraphEntries = 1 << 17
	maxGraphHeads   = 256
	maxFunctionName = 1024
)

// Nop is the function of a node that does nothing but give its input another
// shape, in the same memory.
const Nop = "__nop"

// Graph is what a TVM graph executor is to run: nodes in the order in which they
// run, and the tensors that they take and give, the entries.
type Graph struct {
	Nodes   []GraphNode
	Entries []GraphEntry
	// Arguments are the nodes that the caller fills, inputs and parameters alike, in
	// the graph's own order; Heads are the entries that are its answer.
	Arguments, Heads []int
}

// GraphNode is one node: a function, or a place that the caller fills.
type GraphNode struct {
	Name string
	// Function is the symbol in the library; empty for what the caller fills.
	Function string
	// Inputs are entries. The node's own are First and up to Count more.
	Inputs       []int
	First, Count int
	// Flatten asks for tensors of one dimension.
	Flatten bool
}

// GraphEntry is one tensor of a graph.
type GraphEntry struct {
	Element Element
	Shape   tensor.Shape
	// Bytes is its size; Storage is the number of the memory that it lies in.
	Bytes   int64
	Storage int
	// Value is the entry whose content this one is: its own number, or that of an
	// entry with another shape that a Nop was given.
	Value int
}

// graphDocument is compiled_model.json as it is written.
type graphDocument struct {
	Nodes []struct {
		Op     string                     `json:"op"`
		Name   string                     `json:"name"`
		Inputs [][]int64                  `json:"inputs"`
		Attrs  map[string]json.RawMessage `json:"attrs"`
		Attr   map[string]json.RawMessage `json:"attr"` // an older spelling
	} `json:"nodes"`
	ArgNodes   []int64                    `json:"arg_nodes"`
	Heads      [][]int64                  `json:"heads"`
	NodeRowPtr []int64                    `json:"node_row_ptr"`
	Attrs      map[string]json.RawMessage `json:"attrs"`
}

// ReadGraph reads the graph of a TVM model. Errors wrap engine.ErrArtifact and
// name the file.
func ReadGraph(a *engine.Artifact, l Layout) (*Graph, error) {
	data, err := a.ReadFile(l.Graph, maxGraphBytes)
	if err != nil {
		return nil, err
	}
	g, err := parseGraph(data)
	if err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, l.Graph, err)
	}
	return g, nil
}

// parseGraph reads the content of a compiled_model.json, which is not trusted.
// What it returns can be run in the order of its nodes: each takes what is there
// by then, no tensor's memory is written to while its content is still to be read,
// and no size overflows.
func parseGraph(data []byte) (*Graph, error) {
	if len(data) > maxGraphBytes {
		return nil, fmt.Errorf("it has %d bytes, the limit is %d", len(data), maxGraphBytes)
	}
	if err := checkDepth(data); err != nil {
		return nil, err
	}
	if err := checkKeys(data); err != nil {
		return nil, err
	}
	var d graphDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return nil, fmt.Errorf("it is not the JSON of a TVM graph: %w", err)
	}
	g := &Graph{}
	for _, step := range []func(*graphDocument) error{g.readNodes, g.readEntries, g.readEnds, g.checkStorage} {
		if err := step(&d); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// readNodes reads the nodes and what they take.
func (g *Graph) readNodes(d *graphDocument) error {
	n := len(d.Nodes)
	switch {
	case n == 0:
		return fmt.Errorf("it has no nodes")
	case n > maxGraphNodes:
		return fmt.Errorf("it has %d nodes, the limit is %d", n, maxGraphNodes)
	case len(d.NodeRowPtr) != n+1:
		return fmt.Errorf("its node_row_ptr has %d numbers, and should have %d, one more than there are nodes", len(d.NodeRowPtr), n+1)
	case d.NodeRowPtr[0] != 0 || d.NodeRowPtr[n] > maxGraphEntries:
		return fmt.Errorf("its node_row_ptr goes from %d to %d, and should begin at 0 and not exceed %d", d.NodeRowPtr[0], d.NodeRowPtr[n], maxGraphEntries)
	}
	g.Nodes = make([]GraphNode, 0, n)
	for i := range d.Nodes {
		first, end := d.NodeRowPtr[i], d.NodeRowPtr[i+1]
		if end <= first || end > d.NodeRowPtr[n] {
			return fmt.Errorf("its node_row_ptr goes from %d to %d at node %d", first, end, i)
		}
		g.Nodes = append(g.Nodes, GraphNode{Name: d.Nodes[i].Name, First: int(first), Count: int(end - first)})
		if err := g.readNode(i, d); err != nil {
			return fmt.Errorf("its node %d (%q) %w", i, trim(d.Nodes[i].Name), err)
		}
	}
	return nil
}

// readNode reads the rest of node i. Its errors begin with a predicate.
func (g *Graph) readNode(i int, d *graphDocument) error {
	from, node := &d.Nodes[i], &g.Nodes[i]
	if err := checkName(from.Name); err != nil {
		return fmt.Errorf("has a name that is none: %w", err)
	}
	for _, reference := range from.Inputs {
		entry, err := g.entryOf(reference, i)
		if err != nil {
			return fmt.Errorf("takes %w", err)
		}
		node.Inputs = append(node.Inputs, entry)
	}
	switch from.Op {
	case "null":
		if len(node.Inputs) != 0 || node.Count != 1 || from.Name == "" {
			return fmt.Errorf("is to be filled by the caller, and has %d inputs, %d outputs and the name %q", len(node.Inputs), node.Count, trim(from.Name))
		}
		return nil
	case "tvm_op":
	default:
		return fmt.Errorf("has the operation %q, and should have null or tvm_op", trim(from.Op))
	}
	attrs := from.Attrs
	switch {
	case attrs == nil:
		attrs = from.Attr
	case from.Attr != nil:
		return fmt.Errorf("has both attrs and attr, of which one would be overlooked")
	}
	var err error
	if node.Function, err = attribute(attrs, "func_name"); err != nil {
		return err
	}
	if err := checkFunction(node.Function); err != nil {
		return err
	}
	for _, c := range []struct {
		key  string
		want int
	}{{"num_inputs", len(node.Inputs)}, {"num_outputs", node.Count}} {
		text, err := attribute(attrs, c.key)
		if err != nil {
			return err
		}
		if text != strconv.Itoa(c.want) {
			return fmt.Errorf("says that its %s is %q, and has %d", c.key, trim(text), c.want)
		}
	}
	flatten, err := attribute(attrs, "flatten_data")
	if err != nil {
		return err
	}
	node.Flatten = flatten == "1"
	return nil
}

// attribute is one of a node's texts.
func attribute(attrs map[string]json.RawMessage, key string) (string, error) {
	raw, found := attrs[key]
	if !found {
		return "", fmt.Errorf("has no attribute %s", key)
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("has an attribute %s that is no text", key)
	}
	return s, nil
}

// checkFunction refuses what a compiler would not call a function.
func checkFunction(name string) error {
	if name == "" || len(name) > maxFunctionName {
		return fmt.Errorf("calls a function whose name has %d bytes, and should have 1 to %d", len(name), maxFunctionName)
	}
	for _, r := range name {
		if r <= ' ' || r >= 0x7f {
			return fmt.Errorf("calls %q, which is no name of a function", trim(name))
		}
	}
	return nil
}

// entryOf is the entry that a reference [node, output, version] of a node before
// the limit means.
func (g *Graph) entryOf(reference []int64, limit int) (int, error) {
	if len(reference) < 2 || len(reference) > 3 {
		return 0, fmt.Errorf("an output by %d numbers, and should by the node's, the output's and a version", len(reference))
	}
	node, output := reference[0], reference[1]
	switch {
	case node < 0 || node >= maxGraphNodes:
		return 0, fmt.Errorf("an output of node %d, which is not there", node)
	case node >= int64(limit):
		return 0, fmt.Errorf("an output of node %d, which does not run before it: the graph has a cycle, or its nodes are out of order", node)
	case output < 0 || output >= int64(g.Nodes[node].Count):
		return 0, fmt.Errorf("output %d of node %d, which has %d", output, node, g.Nodes[node].Count)
	}
	return g.Nodes[node].First + int(output), nil
}

// list reads an attribute of the graph, which is written as ["list_int", [...]].
func list[T any](attrs map[string]json.RawMessage, key string, entries int) ([]T, error) {
	raw, found := attrs[key]
	if !found {
		return nil, fmt.Errorf("it has no attribute %s", key)
	}
	var pair []json.RawMessage
	if err := json.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
		return nil, fmt.Errorf("its attribute %s is not a kind and a list", key)
	}
	var values []T
	if err := json.Unmarshal(pair[1], &values); err != nil {
		return nil, fmt.Errorf("its attribute %s is not a list of what it should be: %w", key, err)
	}
	if len(values) != entries {
		return nil, fmt.Errorf("its attribute %s is for %d tensors, and there are %d", key, len(values), entries)
	}
	return values, nil
}

// readEntries reads types, shapes and storage of all entries.
func (g *Graph) readEntries(d *graphDocument) error {
	n := int(d.NodeRowPtr[len(g.Nodes)])
	types, err := list[string](d.Attrs, "dltype", n)
	if err != nil {
		return err
	}
	shapes, err := list[[]int64](d.Attrs, "shape", n)
	if err != nil {
		return err
	}
	storage, err := list[int64](d.Attrs, "storage_id", n)
	if err != nil {
		return err
	}
	devices := []int64(nil)
	if raw, found := d.Attrs["device_index"]; found && !bytes.Equal(raw, []byte("null")) {
		if devices, err = list[int64](d.Attrs, "device_index", n); err != nil {
			return err
		}
	}
	const cpu = 1
	g.Entries = make([]GraphEntry, n)
	for i := range g.Entries {
		e := &g.Entries[i]
		if e.Element, err = parseElement(types[i]); err != nil {
			return fmt.Errorf("its tensor %d: %w", i, err)
		}
		if e.Shape, err = tensor.NewShape(shapes[i]...); err != nil {
			return fmt.Errorf("its tensor %d: %w", i, err)
		}
		if e.Bytes = e.Shape.Elements() * e.Element.Bytes(); e.Bytes/e.Element.Bytes() != e.Shape.Elements() {
			return fmt.Errorf("its tensor %d, %s %s, has more bytes than can be counted", i, e.Element, e.Shape)
		}
		// TVM numbers what it plans from 0 and has no more of it than tensors.
		if storage[i] < 0 || storage[i] >= int64(n) {
			return fmt.Errorf("its tensor %d lies in storage %d, and storage is numbered from 0 to %d", i, storage[i], n-1)
		}
		e.Storage = int(storage[i])
		if devices != nil && devices[i] != cpu {
			return fmt.Errorf("its tensor %d is on a device of type %d, and should be in memory", i, devices[i])
		}
	}
	return nil
}

// readEnds reads what the caller fills and what it gets.
func (g *Graph) readEnds(d *graphDocument) error {
	named := map[string]bool{}
	listed := make([]bool, len(g.Nodes))
	for _, a := range d.ArgNodes {
		if a < 0 || a >= int64(len(g.Nodes)) || g.Nodes[a].Function != "" {
			return fmt.Errorf("its arg_nodes lists node %d, which is not one that the caller fills", a)
		}
		name := g.Nodes[a].Name
		if named[name] {
			return fmt.Errorf("its arg_nodes lists %q twice", trim(name))
		}
		named[name], listed[a] = true, true
		g.Arguments = append(g.Arguments, int(a))
	}
	for i := range g.Nodes {
		if g.Nodes[i].Function == "" && !listed[i] {
			return fmt.Errorf("its node %d (%q) is for the caller to fill, and arg_nodes does not list it", i, trim(g.Nodes[i].Name))
		}
	}
	if len(d.Heads) == 0 || len(d.Heads) > maxGraphHeads {
		return fmt.Errorf("it gives %d outputs, and should give 1 to %d", len(d.Heads), maxGraphHeads)
	}
	for _, h := range d.Heads {
		entry, err := g.entryOf(h, len(g.Nodes))
		if err != nil {
			return fmt.Errorf("its heads name %w", err)
		}
		g.Heads = append(g.Heads, entry)
	}
	return nil
}

// checkStorage runs the graph in thought, and refuses one in which a tensor is
// read after its memory was given to another, in which a function writes to what
// it reads, or which writes over what the caller fills.
func (g *Graph) checkStorage(*graphDocument) error {
	t := thought{graph: g, storage: make([]lying, len(g.Entries))}
	for i := range g.Entries {
		g.Entries[i].Value = i
		t.storage[i] = lying{value: -1}
	}
	// What the caller fills is there before anything runs.
	for _, a := range g.Arguments {
		first := g.Nodes[a].First
		s := &t.storage[g.Entries[first].Storage]
		if s.filled {
			return fmt.Errorf("its node %d (%q) and another that the caller fills lie in the same storage %d", a, trim(g.Nodes[a].Name), g.Entries[first].Storage)
		}
		*s = lying{value: first, filled: true}
	}
	for i := range g.Nodes {
		if err := t.run(i); err != nil {
			return fmt.Errorf("its node %d (%q) %w", i, trim(g.Nodes[i].Name), err)
		}
	}
	for _, h := range g.Heads {
		if e := g.Entries[h]; t.storage[e.Storage].value != e.Value {
			return fmt.Errorf("its output lies in storage %d, which was written over", e.Storage)
		}
	}
	return nil
}

// thought is a run without data.
type thought struct {
	graph   *Graph
	storage []lying
}

// lying is what is known of a storage while the graph is run in thought.
type lying struct {
	value         int  // the entry whose content lies there, -1 for none
	filled        bool // by the caller
	read, written int  // by the node of that number, from 1, the last time
}

// run runs node i. Its errors begin with a predicate.
func (t *thought) run(i int) error {
	g, node := t.graph, &t.graph.Nodes[i]
	for n, in := range node.Inputs {
		e := &g.Entries[in]
		s := &t.storage[e.Storage]
		if s.value != e.Value {
			return fmt.Errorf("reads as input %d what lay in storage %d, which was written over before", n, e.Storage)
		}
		s.read = i + 1
	}
	switch node.Function {
	case "":
		return nil
	case Nop:
		return g.reshape(node)
	}
	for n := range node.Count {
		number := g.Entries[node.First+n].Storage
		s := &t.storage[number]
		switch {
		case s.read == i+1:
			return fmt.Errorf("writes output %d to storage %d, from which it reads", n, number)
		case s.written == i+1:
			return fmt.Errorf("writes two outputs to storage %d", number)
		case s.filled:
			return fmt.Errorf("writes output %d to storage %d, which is for the caller to fill", n, number)
		}
		s.value, s.written = node.First+n, i+1
	}
	return nil
}

// reshape is what a Nop does in thought.
func (g *Graph) reshape(node *GraphNode) error {
	if len(node.Inputs) != 1 || node.Count != 1 {
		return fmt.Errorf("gives %d tensors of %d another shape, and should one", node.Count, len(node.Inputs))
	}
	in, out := &g.Entries[node.Inputs[0]], &g.Entries[node.First]
	if in.Storage != out.Storage || in.Bytes != out.Bytes || in.Element != out.Element {
		return fmt.Errorf("does nothing, and turns %s %s in storage %d into %s %s in storage %d", in.Element, in.Shape, in.Storage, out.Element, out.Shape, out.Storage)
	}
	out.Value = in.Value
	return nil
}
