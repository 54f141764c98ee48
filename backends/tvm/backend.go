package tvm

import (
	"context"
	"fmt"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder; see engine.Backend.
const (
	matchGraph = 100
	// matchBroken is for a folder that would be a graph if it were not ambiguous:
	// low, but enough to say so in Open.
	matchBroken = 1
)

// Backend opens TVM graphs. It has no state; the zero Backend works.
type Backend struct{}

// New gives the backend.
func New() *Backend { return &Backend{} }

// Name is "tvm".
func (*Backend) Name() string { return "tvm" }

// Probe fails in a program that cannot load libraries, saying why.
func (*Backend) Probe(*hw.Host) error { return dl.Probe() }

// Match wants a folder that Neo's runtime would take for a graph.
func (*Backend) Match(a *engine.Artifact) int {
	layout, err := neo.ReadLayout(a.Files)
	switch {
	case layout.Kind != neo.TVM:
		return 0
	case err != nil:
		return matchBroken
	}
	return matchGraph
}

// Open loads the artifact. See engine.Backend for the errors.
func (*Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	layout, err := neo.ReadLayout(a.Files)
	switch {
	case err != nil:
		return nil, err
	case layout.Kind != neo.TVM:
		return nil, fmt.Errorf("%w: the folder holds %s; the tvm backend runs TVM graphs, a .params beside a .json and a .so", engine.ErrArtifact, layout.Kind)
	case layout.Library == "":
		return nil, fmt.Errorf("%w: the folder holds %s without its library, a .so%s", engine.ErrArtifact, layout.Kind, a.LeftOutText())
	case layout.Graph == "":
		return nil, fmt.Errorf("%w: the folder holds %s without its graph, a .json%s", engine.ErrArtifact, layout.Kind, a.LeftOutText())
	}
	metadata, err := neo.RunnableMetadata(a, layout, options.Host)
	if err != nil {
		return nil, err
	}
	graph, err := neo.ReadGraph(a, layout)
	if err != nil {
		return nil, err
	}
	params, file, err := neo.OpenParams(a, layout)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	p, err := newPlan(graph, params, layout)
	if err != nil {
		return nil, err
	}
	if err := p.fits(&options.Host.Memory); err != nil {
		return nil, err
	}
	of, err := newInterface(p, metadata, layout)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return open(ctx, a, file, &source{layout: layout, metadata: metadata, plan: p, interfaceOf: of, options: options})
}

// source is what is known of an artifact before its library is loaded.
type source struct {
	layout   neo.Layout
	metadata neo.Metadata
	plan     *plan
	*interfaceOf
	options engine.OpenOptions
}
