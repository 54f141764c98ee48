package tvm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
)

// provided are the slots that a library has for what it calls of TVM's runtime, in
// the order in which picket_tvm_provide numbers what goes into them. A library has
// those that it needs.
var provided = []string{
	"__TVMAPISetLastError",
	"__TVMBackendAllocWorkspace",
	"__TVMBackendFreeWorkspace",
	"__TVMBackendParallelLaunch",
	"__TVMBackendParallelBarrier",
	"__TVMBackendGetFuncFromEnv",
	"__TVMFuncCall",
	"__tvm_module_ctx",
}

// embedded is what a library exports that holds further modules as data, such as
// one for an accelerator: only TVM's runtime can unpack them.
const embedded = "__tvm_dev_mblob"

// checkInterface refuses a library that needs more of TVM's runtime than is here,
// or lacks a function that the graph calls.
func checkInterface(o *dl.Object, g *neo.Graph, graph string) error {
	if err := neo.CheckNewerTVM(o); err != nil {
		return err
	}
	for _, name := range o.Exported {
		if strings.HasPrefix(name, "__TVM") && !slices.Contains(provided, name) {
			return fmt.Errorf("%w: %s asks TVM's runtime for %s, which the tvm backend does not provide; run it with backend dlr",
				engine.ErrUnsupported, o.Name, strings.TrimPrefix(name, "__"))
		}
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		switch {
		case n.Function == "" || n.Function == neo.Nop || o.Exports(n.Function):
			continue
		case strings.HasPrefix(n.Function, "__"):
			return fmt.Errorf("%w: node %q of %s asks TVM's runtime for %s, which the tvm backend does not provide; run it with backend dlr",
				engine.ErrUnsupported, n.Name, graph, strings.TrimLeft(n.Function, "_"))
		case o.Exports(embedded):
			return fmt.Errorf("%w: %s exports no %s, which node %q of %s calls; it may be in the module that the library holds as data, which takes TVM's runtime: run it with backend dlr",
				engine.ErrUnsupported, o.Name, n.Function, n.Name, graph)
		}
		return fmt.Errorf("%w: %s exports no %s, which node %q of %s calls; library and graph are not of one compilation",
			engine.ErrArtifact, o.Name, n.Function, n.Name, graph)
	}
	return nil
}
