package dlr

import (
	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
)

// checkGraph reads graph and parameters of a TVM model, which libdlr takes as they
// are: a count that is too large ends the process, by an exception that nobody
// catches, and a wrong storage is a wrong answer. Errors wrap engine.ErrArtifact.
func checkGraph(a *engine.Artifact, l neo.Layout) error {
	if _, err := neo.ReadGraph(a, l); err != nil {
		return err
	}
	_, file, err := neo.OpenParams(a, l)
	if err != nil {
		return err
	}
	return file.Close()
}
