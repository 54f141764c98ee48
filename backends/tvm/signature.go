package tvm

import (
	"fmt"
	"slices"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/tensor"
)

// interfaceOf is what a model takes and gives, and how that is related to its
// graph.
type interfaceOf struct {
	signature engine.Signature
	// entry is, for each input of the signature, its place among plan.inputs.
	entry []int
	// batch is how many rows the graph runs at once where the signature has rows;
	// else 0.
	batch int
}

// newInterface makes the signature. Names and dimensions come from the metadata
// where it lists them; what it lists has to agree with the graph. Errors wrap
// engine.ErrArtifact or engine.ErrUnsupported.
func newInterface(p *plan, metadata neo.Metadata, files neo.Layout) (*interfaceOf, error) {
	g := p.graph
	of := &interfaceOf{}
	var inputs, outputs []engine.TensorSpec
	for _, e := range p.inputs {
		spec, err := specOf(g, e, g.Nodes[nodeOf(g, e)].Name)
		if err != nil {
			return nil, fmt.Errorf("%w: input %s of %s %w", engine.ErrUnsupported, spec.Name, files.Graph, err)
		}
		inputs = append(inputs, spec)
		of.entry = append(of.entry, len(of.entry))
	}
	for n, h := range g.Heads {
		spec, err := specOf(g, h, fmt.Sprintf("output_%d", n))
		if err != nil {
			return nil, fmt.Errorf("%w: output %d of %s %w", engine.ErrUnsupported, n, files.Graph, err)
		}
		outputs = append(outputs, spec)
	}
	if len(metadata.Inputs) > 0 {
		if len(metadata.Inputs) != len(inputs) {
			return nil, fmt.Errorf("%w: %s lists %d inputs; %s takes %d that %s has no parameter for", engine.ErrArtifact,
				files.Metadata, len(metadata.Inputs), files.Graph, len(inputs), files.Params)
		}
		// Clients know them in the metadata's order, and the graph by their names.
		for n, listed := range metadata.Inputs {
			of.entry[n] = slices.IndexFunc(inputs, func(s engine.TensorSpec) bool { return s.Name == listed.Name })
			if of.entry[n] < 0 {
				return nil, fmt.Errorf("%w: %s lists input %q, which %s does not take", engine.ErrArtifact, files.Metadata, listed.Name, files.Graph)
			}
		}
		listed := make([]engine.TensorSpec, len(inputs))
		for n, at := range of.entry {
			listed[n] = inputs[at]
		}
		inputs = listed
	}
	if n := len(metadata.Outputs); n > 0 && n != len(outputs) {
		return nil, fmt.Errorf("%w: %s lists %d outputs; %s gives %d", engine.ErrArtifact, files.Metadata, n, files.Graph, len(outputs))
	}
	var err error
	if of.batch, err = batchOf(inputs, outputs, metadata); err != nil {
		return nil, err
	}
	for n, listed := range metadata.Inputs {
		if err := of.adopt(&inputs[n], "input", listed, files); err != nil {
			return nil, err
		}
	}
	for n, listed := range metadata.Outputs {
		if err := of.adopt(&outputs[n], "output", listed, files); err != nil {
			return nil, err
		}
		outputs[n].Name = listed.Name
	}
	of.signature = engine.Signature{Inputs: inputs, Outputs: outputs}
	return of, nil
}

// specOf describes an entry of the graph. Its errors begin with a predicate.
func specOf(g *neo.Graph, entry int, name string) (engine.TensorSpec, error) {
	e := &g.Entries[entry]
	spec := engine.TensorSpec{Name: name, DType: e.Element.DType(), Dims: e.Shape.AppendDims(nil)}
	if spec.DType == tensor.Invalid {
		return spec, fmt.Errorf("is of type %s, which requests cannot have", e.Element)
	}
	return spec, nil
}

// nodeOf is the node that gives the entry.
func nodeOf(g *neo.Graph, entry int) int {
	n, found := slices.BinarySearchFunc(g.Nodes, entry, func(n neo.GraphNode, entry int) int { return n.First - entry })
	if !found {
		n--
	}
	return n
}

// batchOf is how many rows the graph runs at once where the metadata says, of
// every tensor, that its first dimension is the number of rows, as -1. A graph
// alone cannot tell rows from what must stay together, such as the words of a
// sentence; then there are none, and it is 0.
func batchOf(inputs, outputs []engine.TensorSpec, metadata neo.Metadata) (int, error) {
	listed := slices.Concat(metadata.Inputs, metadata.Outputs)
	if !slices.ContainsFunc(listed, func(s engine.TensorSpec) bool { return s.HasRows() }) {
		return 0, nil
	}
	all := slices.Concat(inputs, outputs)
	if len(listed) != len(all) {
		return 0, fmt.Errorf("%w: its metadata gives tensors a first dimension of -1, and does not list them all", engine.ErrUnsupported)
	}
	for n, l := range listed {
		if !l.HasRows() || len(all[n].Dims) == 0 || all[n].Dims[0] < 1 || all[n].Dims[0] != all[0].Dims[0] {
			return 0, fmt.Errorf("%w: its metadata gives tensors a first dimension of -1, which has to be so for all of them, and as many in the graph: %q is not so",
				engine.ErrUnsupported, l.Name)
		}
	}
	return int(all[0].Dims[0]), nil
}

// adopt gives spec, which is the graph's, the dimensions that the metadata lists,
// which have to come to the same.
func (of *interfaceOf) adopt(spec *engine.TensorSpec, part string, listed engine.TensorSpec, files neo.Layout) error {
	dims := slices.Clone(listed.Dims)
	if of.batch > 0 {
		dims[0] = spec.Dims[0]
	}
	said, err := tensor.NewShape(dims...)
	if err != nil {
		return fmt.Errorf("%w: %s %q in %s: %w", engine.ErrArtifact, part, listed.Name, files.Metadata, err)
	}
	is := tensor.MustShape(spec.Dims...)
	if listed.DType != spec.DType || said.Elements() != is.Elements() {
		return fmt.Errorf("%w: %s says that %s %s; %s has %s %s", engine.ErrArtifact, files.Metadata, part, listed, files.Graph, spec.DType, is)
	}
	spec.Dims = slices.Clone(listed.Dims)
	return nil
}
