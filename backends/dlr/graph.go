package dlr

import (
	"fmt"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/hw"
)

// checkGraph reads graph and parameters of a TVM model, which libdlr takes as they
// are: a count that is too large ends the process, by an exception that nobody
// catches, as memory does that is not there, and a wrong storage is a wrong answer.
// Errors wrap engine.ErrArtifact or engine.ErrMemory.
func checkGraph(a *engine.Artifact, l neo.Layout, memory *hw.Memory) error {
	g, err := neo.ReadGraph(a, l)
	if err != nil {
		return err
	}
	if err := affordable(g, memory); err != nil {
		return err
	}
	_, file, err := neo.OpenParams(a, l)
	if err != nil {
		return err
	}
	return file.Close()
}

// affordable refuses a graph whose tensors take more than the machine has or the process
// may use, storage by storage, as libdlr takes it.
func affordable(g *neo.Graph, memory *hw.Memory) error {
	limit := memory.Usable()
	largest := map[int]int64{}
	for _, e := range g.Entries {
		largest[e.Storage] = max(largest[e.Storage], e.Bytes)
	}
	need := 0.0 // which no number of entries makes overflow
	for _, bytes := range largest {
		need += float64(bytes)
	}
	if limit > 0 && need > float64(limit) {
		return fmt.Errorf("%w: its tensors take %.0f MiB, the process may use %d MiB in all", engine.ErrMemory, need/(1<<20), limit>>20)
	}
	return nil
}
