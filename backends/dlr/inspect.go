package dlr

import (
	"fmt"
	"log/slog"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// made is what a model's library tells of the compiler that made it.
type made struct {
	trees bool
	// before1 and since1 are set where a tree model has the interface of
	// Treelite before 1.0, and since; some have both.
	before1, since1 bool
}

// inspectLibrary reads the model's library, and the first bytes of what libdlr
// would not check itself, before libdlr sees them: it loads what it is given, and
// ends the process over some kinds of damage.
// What cannot be told beforehand goes to log.
func inspectLibrary(a *engine.Artifact, layout neo.Layout, metadata neo.Metadata, host *hw.Host, log *slog.Logger) (made, error) {
	m := made{trees: layout.Kind == neo.Trees}
	file, err := a.Open(layout.Library)
	if err != nil {
		return m, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return m, fmt.Errorf("%w: reading %s: %w", engine.ErrArtifact, layout.Library, err)
	}
	// libdlr opens the file once more, by its name, so this finds what was damaged
	// before and not what a writer of the folder does in between.
	if err := metadata.CheckDigest(layout)(file, info.Size()); err != nil {
		return m, err
	}
	check := neo.CheckLibrary(layout.Library, host, func(o *dl.Object) error {
		if doubt := metadata.Doubt(host, o); doubt != "" {
			log.Warn("the model may not run on this processor", "reason", doubt)
		}
		if err := neo.CheckNewerTVM(o); err != nil {
			return err
		}
		if !m.trees {
			return nil
		}
		if o.Exports("get_num_target") {
			return fmt.Errorf("%w: %s was made by TL2cgen, which libdlr cannot load; the treelite backend can", engine.ErrUnsupported, o.Name)
		}
		m.before1, m.since1 = o.Exports("get_num_output_group"), o.Exports("get_num_class")
		err := o.Require("get_num_feature")
		if err == nil {
			err = o.RequireAny("get_num_output_group", "get_num_class")
		}
		if err == nil {
			err = o.RequireAny("predict", "predict_multiclass")
		}
		if err != nil {
			return fmt.Errorf("%w: %w, so it is not a tree model that Treelite compiled", engine.ErrArtifact, err)
		}
		return nil
	})
	if err := check(file, info.Size()); err != nil {
		return m, err
	}
	if layout.Kind == neo.TVM {
		return m, checkGraph(a, layout, &host.Memory)
	}
	return m, nil
}

// suits tells whether that libdlr loads what the library was made for. It would
// say so itself, but on standard error and without a reason for the caller.
func (m made) suits(l *libdlr, name string) error {
	switch {
	case !m.trees:
		return nil
	case l.before(7) && !m.before1:
		return fmt.Errorf("%w: %s was made by Treelite 1.0 or later, which libdlr %s cannot load; use libdlr 1.7 or later, or the treelite backend",
			engine.ErrUnsupported, name, l.version)
	case !l.before(7) && !m.since1:
		return fmt.Errorf("%w: %s was made by Treelite before 1.0, which libdlr %s cannot load; use libdlr 1.6, or the treelite backend",
			engine.ErrUnsupported, name, l.version)
	}
	return nil
}
