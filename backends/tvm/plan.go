package tvm

import (
	"fmt"
	"math"
	"slices"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
	"github.com/picket-ml/picket/tensor"
)

// role is what a storage of a graph is for.
type role uint8

const (
	scratch   role = iota // what functions give each other: the instance's own
	parameter             // the model's, and read by all instances
	input                 // where the caller's tensor is
	output                // where the caller wants the answer
)

// storage is one piece of memory that tensors of a graph lie in, one after the
// other.
type storage struct {
	role  role
	bytes int64
	// place is the number of the parameter, input or output; of scratch it is where
	// in an instance's memory it begins.
	place int64
	// entries lie in it.
	entries []int
}

// plan says where everything is. It does not change.
type plan struct {
	graph    *neo.Graph
	storages []storage // those that entries lie in; others are empty
	// params are those that the graph takes, in an order of their own, and paramAt
	// is where in the model's memory each begins.
	params  []neo.Param
	paramAt []int64
	// inputs are the entries that the caller fills, in the graph's order.
	inputs []int
	// direct says of each head whether it is written where the caller wants it; else
	// it is copied there.
	direct []bool
	// scratch and paramBytes are how much memory an instance and the model need.
	scratch, paramBytes int64
}

// newPlan brings graph and parameters together. Its errors wrap engine.ErrArtifact.
func newPlan(g *neo.Graph, params []neo.Param, files neo.Layout) (*plan, error) {
	p := &plan{graph: g, storages: make([]storage, len(g.Entries))}
	for i, e := range g.Entries {
		s := &p.storages[e.Storage]
		s.bytes = max(s.bytes, e.Bytes)
		s.entries = append(s.entries, i)
	}
	byName := make(map[string]*neo.Param, len(params))
	for i := range params {
		byName[params[i].Name] = &params[i]
	}
	for _, a := range g.Arguments {
		node := &g.Nodes[a]
		entry := &g.Entries[node.First]
		s := &p.storages[entry.Storage]
		param := byName[node.Name]
		if param == nil {
			s.role, s.place = input, int64(len(p.inputs))
			p.inputs = append(p.inputs, node.First)
			continue
		}
		if param.Element != entry.Element || param.Shape != entry.Shape {
			return nil, fmt.Errorf("%w: %s has parameter %q as %s %s, and %s as %s %s", engine.ErrArtifact,
				files.Params, param.Name, param.Element, param.Shape, files.Graph, entry.Element, entry.Shape)
		}
		s.role, s.place = parameter, int64(len(p.params))
		p.params = append(p.params, *param)
	}
	if len(p.inputs) == 0 {
		return nil, fmt.Errorf("%w: %s has a parameter for everything that %s takes, which leaves no input", engine.ErrArtifact, files.Params, files.Graph)
	}
	p.chooseOutputs()
	return p, p.place(files)
}

// chooseOutputs finds the heads that functions can write where the caller wants
// them: those that alone of all heads lie in a storage that is no larger.
func (p *plan) chooseOutputs() {
	g := p.graph
	p.direct = make([]bool, len(g.Heads))
	for n, h := range g.Heads {
		e := &g.Entries[h]
		s := &p.storages[e.Storage]
		shared := slices.ContainsFunc(slices.Concat(g.Heads[:n], g.Heads[n+1:]), func(o int) bool { return g.Entries[o].Storage == e.Storage })
		if s.role == scratch && !shared && s.bytes == e.Bytes {
			s.role, s.place, p.direct[n] = output, int64(n), true
		}
	}
}

// place gives every storage that is no caller's its place.
func (p *plan) place(files neo.Layout) error {
	for i := range p.params {
		p.paramAt = append(p.paramAt, p.paramBytes)
		if err := grow(&p.paramBytes, p.params[i].Bytes); err != nil {
			return fmt.Errorf("%w: the parameters of %s %w", engine.ErrArtifact, files.Params, err)
		}
	}
	for i := range p.storages {
		if s := &p.storages[i]; s.role == scratch && len(s.entries) > 0 {
			s.place = p.scratch
			if err := grow(&p.scratch, s.bytes); err != nil {
				return fmt.Errorf("%w: the tensors of %s %w", engine.ErrArtifact, files.Graph, err)
			}
		}
	}
	return nil
}

// grow adds n bytes to the end, at least one so that everything has an address of
// its own, and makes it a multiple of the alignment that functions count on.
func grow(end *int64, n int64) error {
	n = max(1, n)
	if n > math.MaxInt64-tensor.Alignment-*end {
		return fmt.Errorf("have more bytes than can be counted")
	}
	*end = (*end + n + tensor.Alignment - 1) &^ (tensor.Alignment - 1)
	return nil
}

// fits refuses a model whose memory is more than the machine has or the process
// may use: the kernel would lend it and end the process once it is written to.
func (p *plan) fits(memory *hw.Memory) error {
	limit := memory.Usable()
	if need := float64(p.scratch) + float64(p.paramBytes); limit > 0 && need > float64(limit) {
		return fmt.Errorf("%w: its tensors take %.0f MiB, the process may use %d MiB in all", engine.ErrMemory, need/(1<<20), limit>>20)
	}
	return nil
}
