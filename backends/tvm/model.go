//go:build cgo && linux

package tvm

/*
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lm
#include "run.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/cores"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// maxWorkspace is how much working memory the functions of one instance may hold,
// besides what the graph plans.
const maxWorkspace = 1 << 30

// model is an opened artifact. It owns the library and the parameters, which its
// instances read.
type model struct {
	*source
	library   *dl.Library
	functions []unsafe.Pointer // by node, nil for those that call nothing
	params    *tensor.Buffer
	// inBytes and outBytes are the bytes of one row of each tensor, or of the whole
	// where the signature has no rows.
	inBytes, outBytes []int
	// A Run uses up to threads threads, as long as no more than cores are busy.
	threads, cores int
	properties     engine.Properties
}

// open loads the library of the artifact and the content of the parameter file,
// both of which stay the caller's, and runs the graph once.
func open(ctx context.Context, a *engine.Artifact, params *os.File, from *source) (_ engine.Model, err error) {
	m := &model{source: from, threads: 1, cores: cores.Limit(from.options.Host)}
	defer func() {
		if err != nil {
			m.params.Release()
			if m.library != nil {
				err = errors.Join(err, m.library.Close())
			}
		}
	}()
	doubt, err := m.load(a)
	if err != nil {
		return nil, err
	}
	if err := m.readParams(params); err != nil {
		return nil, err
	}
	if m.inBytes, err = rowBytes(m.signature.Inputs); err != nil {
		return nil, err
	}
	if m.outBytes, err = rowBytes(m.signature.Outputs); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := m.try(doubt); err != nil {
		return nil, err
	}
	if m.properties, err = m.measure(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// load loads the library, gives it what it calls, and looks up what the graph
// calls. doubt is what may keep it from running here.
func (m *model) load(a *engine.Artifact) (doubt string, err error) {
	file, err := a.Open(m.layout.Library)
	if err != nil {
		return "", err
	}
	defer file.Close()
	host, g := m.options.Host, m.plan.graph
	var object *dl.Object
	m.library, err = dl.OpenFile(file, m.layout.Library, m.metadata.CheckDigest(m.layout), neo.CheckLibrary(m.layout.Library, host, func(o *dl.Object) error {
		object, doubt = o, m.metadata.Doubt(host, o)
		return checkInterface(o, g, m.layout.Graph)
	}))
	if err != nil {
		return "", neo.LibraryError(err)
	}
	for number, name := range provided {
		if !object.Exports(name) {
			continue
		}
		slot, err := m.library.Symbol(name)
		if err == nil && C.picket_tvm_provide((*unsafe.Pointer)(slot), C.int(number)) == 0 {
			err = fmt.Errorf("BUG: nothing is provided for %s", name)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", engine.ErrArtifact, err)
		}
	}
	m.functions = make([]unsafe.Pointer, len(g.Nodes))
	for i := range g.Nodes {
		if name := g.Nodes[i].Function; name != "" && name != neo.Nop {
			if m.functions[i], err = m.library.Symbol(name); err != nil {
				return "", fmt.Errorf("%w: %w", engine.ErrArtifact, err)
			}
		}
	}
	return doubt, nil
}

// readParams reads the content of the parameters.
func (m *model) readParams(file io.ReaderAt) (err error) {
	if m.params, err = alloc(m.plan.paramBytes, m.options.Pin); err != nil {
		return err
	}
	for i := range m.plan.params {
		p := &m.plan.params[i]
		if _, err := file.ReadAt(m.params.Bytes()[m.plan.paramAt[i]:][:p.Bytes], p.Offset); err != nil {
			return fmt.Errorf("%w: reading parameter %q of %s: %w", engine.ErrArtifact, p.Name, m.layout.Params, err)
		}
	}
	return nil
}

// parameter is where the parameter of that storage lies.
func (m *model) parameter(s *storage) unsafe.Pointer {
	return unsafe.Pointer(&m.params.Bytes()[m.plan.paramAt[s.place]])
}

// rowBytes are the sizes of one row of tensors.
func rowBytes(specs []engine.TensorSpec) ([]int, error) {
	sizes := make([]int, len(specs))
	for n := range specs {
		var err error
		if sizes[n], err = specs[n].RowBytes(); err != nil {
			return nil, fmt.Errorf("%w: tensor %q: %w", engine.ErrArtifact, specs[n].Name, err)
		}
	}
	return sizes, nil
}

// callName is the node of the call of that number, from 1.
func (m *model) callName(call int) string {
	for i := range m.functions {
		if m.functions[i] == nil {
			continue
		}
		if call--; call == 0 {
			return m.plan.graph.Nodes[i].Name
		}
	}
	return "of no number"
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties is what measure has found.
func (m *model) Properties() engine.Properties { return m.properties }

// NewInstance makes an instance with threads of its own, where more than one is
// worth it.
func (m *model) NewInstance() (engine.Instance, error) {
	i, err := newInstance(m, m.threads)
	if err != nil {
		return nil, err
	}
	return i, nil
}

// Close releases the parameters and unloads the library.
func (m *model) Close() error {
	m.params.Release()
	return m.library.Close()
}
