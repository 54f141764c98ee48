//go:build cgo && linux

package treelite

/*
#cgo CFLAGS: -O3
#include "predict.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"unsafe"

	"github.com/picket-ml/picket/backends/neo"
	"github.com/picket-ml/picket/engine"
	"github.com/picket-ml/picket/internal/dl"
	"github.com/picket-ml/picket/tensor"
)

// model is an opened library. It owns the library; its instances only call it.
// The library keeps no state between calls, so any number may run at once.
type model struct {
	library    *dl.Library
	trees      C.picket_trees
	signature  engine.Signature
	properties engine.Properties
	outSize    int // bytes of one row of the output
	pin        bool
}

// open loads the library in file, which stays the caller's.
func open(file *os.File, layout neo.Layout, metadata neo.Metadata, options engine.OpenOptions) (engine.Model, error) {
	var made generation
	library, err := dl.OpenFile(file, layout.Library, metadata.CheckDigest(layout), neo.CheckLibrary(layout.Library, options.Host, func(object *dl.Object) (err error) {
		made, err = generationOf(object)
		// Before any of its code runs: afterwards there may be no process to say it.
		if doubt := metadata.Doubt(options.Host, object); doubt != "" && err == nil {
			slog.Default().Warn("the model may not run on this processor", "reason", doubt)
		}
		return err
	}))
	if err != nil {
		return nil, neo.LibraryError(err)
	}
	m, err := newModel(library, made, metadata, options)
	if err != nil {
		return nil, errors.Join(err, library.Close())
	}
	return m, nil
}

// newModel asks the library what it is. After an error the library is still the
// caller's.
func newModel(library *dl.Library, made generation, metadata neo.Metadata, options engine.OpenOptions) (*model, error) {
	f, err := readFacts(library, made)
	if err != nil {
		return nil, err
	}
	m := &model{
		library: library,
		trees: C.picket_trees{
			features: C.uint32_t(f.features),
			classes:  C.uint32_t(f.targets * f.classes),
			width:    C.uint32_t(f.targets * f.classes),
			wide:     flag(f.wide),
			zeros:    flag(metadata.SparseInput),
		},
		properties: engine.Properties{Inline: true, Variant: string(metadata.CPULevel), Notes: metadata.ZerosNotes()},
		pin:        options.Pin,
	}
	symbol := "predict"
	switch {
	case made == tl2cgen1:
		m.trees.form = C.PICKET_SUM
	case f.classes > 1:
		symbol, m.trees.form = "predict_multiclass", C.PICKET_VECTOR
	}
	if m.trees.predict, err = library.Symbol(symbol); err != nil {
		return nil, fmt.Errorf("%w: it has %d classes, but: %w", engine.ErrArtifact, f.classes, err)
	}
	if f.width, err = m.measureWidth(); err != nil {
		return nil, err
	}
	m.trees.width = C.uint32_t(f.width)
	if m.signature, err = f.signature(metadata); err != nil {
		return nil, err
	}
	m.trees.wide_out = flag(m.signature.Outputs[0].DType == tensor.FP64)
	m.outSize, err = m.signature.Outputs[0].RowBytes()
	return m, err
}

// readFacts calls the query functions.
func readFacts(library *dl.Library, made generation) (facts, error) {
	f := facts{generation: made, targets: 1, classes: 1}
	var q queries
	q.library = library
	switch made {
	case treelite0:
		f.features, f.classes = q.size("get_num_feature"), q.size("get_num_output_group")
	case treelite1:
		f.features, f.classes = q.size("get_num_feature"), q.size("get_num_class")
	case tl2cgen1:
		f.features, f.targets = q.count("get_num_feature"), q.count("get_num_target")
		if q.err == nil && f.targets > 0 && f.targets <= maxTargets {
			f.classes = q.largest("get_num_class", int(f.targets))
		}
	}
	if q.err == nil && made != treelite0 {
		threshold, leaf := q.text("get_threshold_type"), q.text("get_leaf_output_type")
		if q.err == nil {
			q.err = f.setTypes(library.Name(), threshold, leaf)
		}
	}
	if q.err != nil {
		return f, q.err
	}
	return f, f.check(library.Name())
}

// measureWidth asks the model for one answer: a model that gives the winning
// class has as many classes as any other and only its answer tells.
func (m *model) measureWidth() (uint64, error) {
	scratch, err := m.newScratch()
	if err != nil {
		return 0, err
	}
	defer scratch.Release()
	width := uint64(C.picket_trees_width(m.trees, unsafe.Pointer(unsafe.SliceData(scratch.Bytes()))))
	if width == 0 || width > uint64(m.trees.classes) {
		return 0, fmt.Errorf("%w: %s gave %d values for a row, with %d classes", engine.ErrArtifact, m.library.Name(), width, m.trees.classes)
	}
	return width, nil
}

// newScratch allocates what a call needs. The caller releases it.
func (m *model) newScratch() (*tensor.Buffer, error) {
	b, err := tensor.Alloc(int(C.picket_trees_scratch(m.trees)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
	}
	if m.pin {
		if err := b.Pin(); err != nil {
			b.Release()
			return nil, fmt.Errorf("%w: %w", engine.ErrMemory, err)
		}
	}
	return b, nil
}

// Signature is what the model takes and gives.
func (m *model) Signature() engine.Signature { return m.signature }

// Properties says that the model runs on whatever thread asks.
func (m *model) Properties() engine.Properties { return m.properties }

// NewInstance allocates the scratch memory of one executor.
func (m *model) NewInstance() (engine.Instance, error) {
	scratch, err := m.newScratch()
	if err != nil {
		return nil, err
	}
	return &instance{model: m, scratch: scratch}, nil
}

// Close unloads the library.
func (m *model) Close() error { return m.library.Close() }

func flag(b bool) C.uint8_t {
	if b {
		return 1
	}
	return 0
}
