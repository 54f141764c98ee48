package treelite

import (
	"context"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder; see engine.Backend.
const (
	matchTrees = 100
	// matchBroken is for a folder that would be a tree model if it were not
	// ambiguous: low, but enough to say so in Open.
	matchBroken = 1
)

// Backend opens compiled tree models. It has no state; the zero Backend works.
type Backend struct{}

// New gives the backend.
func New() *Backend { return &Backend{} }

// Name is "treelite".
func (*Backend) Name() string { return "treelite" }

// Probe fails in a program that cannot load libraries, saying why.
func (*Backend) Probe(*hw.Host) error { return dl.Probe() }

// Match wants a folder that Neo's runtime would take for a tree model.
func (*Backend) Match(a *engine.Artifact) int {
	layout, err := neo.ReadLayout(a.Files)
	switch {
	case layout.Kind != neo.Trees:
		return 0
	case err != nil:
		return matchBroken
	}
	return matchTrees
}

// Open loads the library of the artifact. See engine.Backend for the errors.
func (*Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	layout, err := neo.ReadLayout(a.Files)
	if err != nil {
		return nil, err
	}
	if layout.Kind != neo.Trees {
		return nil, notTrees(layout.Kind)
	}
	metadata, err := neo.RunnableMetadata(a, layout, options.Host)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	file, err := a.Open(layout.Library)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return open(file, layout, metadata, options)
}
