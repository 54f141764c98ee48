package dlr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/internal/hw"
)

// How well the backend suits a folder; see engine.Backend. For trees and graphs it
// is the last resort: it calls the same code as the backends treelite and tvm, and
// opening it for comparison alone leaks, because libdlr never unloads a tree model's
// library and leaves threads of a graph behind. For Relay VM programs it is the only
// one.
const (
	matchRelayVM = 100
	matchDirect  = engine.LastResort
	matchBroken  = 1
)

// Backend opens Neo artifacts through libdlr. It owns the libraries that it
// opened, until Close.
type Backend struct {
	options  Options
	log      *slog.Logger
	runtimes runtimes // of this Backend, and with it closed
}

// New gives a backend that has opened nothing yet.
func New(options Options) *Backend {
	b := &Backend{options: options, log: options.Log}
	if b.log == nil {
		b.log = slog.Default()
	}
	b.options.Threads = max(1, options.Threads)
	return b
}

// Name is "dlr".
func (*Backend) Name() string { return "dlr" }

// Probe fails where no libdlr can be loaded at all, or where the configured one
// cannot. That the system has none is no failure, because an artifact may bring
// its own: Library tells, and so does Open for an artifact that does not.
func (b *Backend) Probe(*hw.Host) error {
	if err := dl.Probe(); err != nil {
		return err
	}
	if b.options.LibraryPath == "" {
		return nil
	}
	_, err := b.general()
	return err
}

// Library says, for people, which libdlr serves an artifact that brings none:
// its path and version, or the reason why there is none.
func (b *Backend) Library() (path, version string, err error) {
	r, err := b.general()
	if err != nil {
		return "", "", err
	}
	return r.path, r.version, nil
}

// Match wants a folder that libdlr would open. Whether a library is there that
// can is for Open to say, in a sentence.
func (*Backend) Match(a *engine.Artifact) int {
	layout, err := neo.ReadLayout(a.Files)
	switch {
	case layout.Kind == neo.None:
		return 0
	case err != nil:
		return matchBroken
	}
	switch layout.Kind {
	case neo.RelayVM:
		return matchRelayVM
	case neo.TVM, neo.Trees:
		return matchDirect
	}
	return matchBroken
}

// Open opens the artifact's model with the libdlr that is to serve it. See
// engine.Backend for the errors.
func (b *Backend) Open(ctx context.Context, a *engine.Artifact, options engine.OpenOptions) (engine.Model, error) {
	layout, err := neo.ReadLayout(a.Files)
	if err != nil {
		return nil, err
	}
	switch {
	case layout.Kind == neo.TensorFlow, layout.Kind == neo.Hexagon:
		return nil, fmt.Errorf("%w: the folder holds %s, which the libdlr of no published package runs", engine.ErrUnsupported, layout.Kind)
	case layout.Kind == neo.None:
		return nil, fmt.Errorf("%w: the folder holds no model that Neo compiled: no .params, no .ro and no .so but libdlr.so%s", engine.ErrArtifact, a.LeftOutText())
	case layout.Library == "":
		return nil, fmt.Errorf("%w: the folder holds %s without its library, a .so%s", engine.ErrArtifact, layout.Kind, a.LeftOutText())
	case layout.Kind == neo.TVM && layout.Graph == "":
		return nil, fmt.Errorf("%w: the folder holds %s without its graph, a .json%s", engine.ErrArtifact, layout.Kind, a.LeftOutText())
	}
	metadata, err := neo.RunnableMetadata(a, layout, options.Host)
	if err != nil {
		return nil, err
	}
	made, err := inspectLibrary(a, layout, metadata, options.Host, b.log)
	if err != nil {
		return nil, err
	}
	program := ""
	if layout.Kind == neo.RelayVM {
		if program, err = neo.RelayVersion(a, layout); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, err := b.runtimeFor(a, layout, options.Host)
	if err != nil {
		return nil, err
	}
	if err := made.suits(r, layout.Library); err != nil {
		return nil, err
	}
	f, err := openFolder(a, layout)
	if err != nil {
		return nil, err
	}
	m, err := newModel(r, f, layout, program, metadata, options)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return m, nil
}

// Close closes the libraries that the backend opened. It is called once, when
// every model is closed; what the loader keeps of them stays mapped.
func (b *Backend) Close() error { return b.runtimes.close() }
